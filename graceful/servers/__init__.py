"""Servers: the uvicorn that we own, and those that somebody else has started and we adopt."""
