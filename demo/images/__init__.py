"""The Dockerfiles, built, started and stopped in the middle of a request: what PID 1 does with SIGTERM.
`python -m demo.images`.
"""
