"""The same app in a process that uses prometheus_client itself, as services do that are worth watching."""

from __future__ import annotations

import prometheus_client

from benchmarks.apps.hello import app

__all__ = ["app", "prometheus_client"]
