"""Our log under somebody else's server."""

from __future__ import annotations

import contextlib
import logging

logger = logging.getLogger("graceful")


def use_the_servers() -> None:
    """A wrapped app whose log goes nowhere uses uvicorn's handlers from now on."""
    if logger.hasHandlers():
        return
    uvicorns = logging.getLogger("uvicorn.error")  # gunicorn's uvicorn worker gives it the handlers
    for handler in logging.getLogger("uvicorn").handlers or uvicorns.handlers:
        logger.addHandler(handler)
    logger.setLevel(uvicorns.getEffectiveLevel())
    logger.propagate = False


def flush() -> None:
    """Every handler that our records reach has written them, or cannot."""
    log: logging.Logger | None = logger
    while log is not None:
        for handler in log.handlers:
            with contextlib.suppress(OSError, ValueError):  # a broken pipe, a closed file
                handler.flush()
        log = log.parent if log.propagate else None
