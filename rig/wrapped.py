"""The same service, wrapped: the two lines that its owner writes."""

from __future__ import annotations

from graceful import Runtime
from rig.service import app as service

runtime = Runtime()
app = runtime.wrap(service)
