"""The kernel's count of resets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graceful import refusals
from graceful.refusals import resets_sent

SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 2 64
Tcp: RtoAlgorithm InErrs OutRsts InCsumErrors
Tcp: 1 0 42 0
"""


def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> int | None:
    path = tmp_path / "snmp"
    path.write_text(text)
    monkeypatch.setattr(refusals, "_COUNTERS", path)
    return resets_sent()


def test_the_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert told(monkeypatch, tmp_path, SNMP) == 42


@pytest.mark.parametrize(
    "text", ["", "Tcp: OutRsts\n", "Tcp: OutRsts\nTcp: many\n", "Tcp: A B\nTcp: 1\n", "Tcp: A\nTcp: 1\n"]
)
def test_what_nobody_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    assert told(monkeypatch, tmp_path, text) is None


def test_where_there_is_no_such_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(refusals, "_COUNTERS", tmp_path / "nothing")
    assert resets_sent() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts them there")
def test_this_machines() -> None:
    assert resets_sent() is not None
