"""The same app, after it has loaded a model of some size: so long nobody listens."""

from __future__ import annotations

import time

from rig.broken.services.web import app

__all__ = ["app"]

time.sleep(30.0)
