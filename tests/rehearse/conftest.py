"""What is lent by the tests of `graceful probe`: servers that play a script, well behaved or not."""

from __future__ import annotations

from tests.probe.conftest import full, self_signed, serve, short_path

__all__ = ["full", "self_signed", "serve", "short_path"]
