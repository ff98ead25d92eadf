"""A service is replaced while people use it, twice: under `graceful run`, and under plain uvicorn. `python -m
demo`.
"""
