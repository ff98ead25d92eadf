"""A service is replaced while people use it, twice: under plain uvicorn, and under `graceful run`. `python -m
demo`.
"""
