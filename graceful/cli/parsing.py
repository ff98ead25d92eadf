"""What the commands' arguments are read with."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False  # `graceful probe` does not pay for `typing`
if TYPE_CHECKING:
    from typing import Final, NoReturn

WRONG_USAGE: Final = 2


class Parser(argparse.ArgumentParser):
    """argparse, with its complaint in one line."""

    def error(self, message: str) -> NoReturn:
        """Say it, and end the process by SystemExit."""
        self.exit(WRONG_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")
