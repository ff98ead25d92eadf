"""`python -m graceful`: the same as the command `graceful`."""

from __future__ import annotations

from graceful.cli import main

if __name__ == "__main__":
    main()
