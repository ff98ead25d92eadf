"""Every error that graceful raises: one class per situation, one line of text, the facts kept as fields."""

from __future__ import annotations


class GracefulError(Exception):
    """Base of all errors that graceful raises on purpose. Its text is always one line."""


class SettingsError(GracefulError):
    """A setting has a value that cannot be meant. The start is stopped with exit code 2."""

    def __init__(self, field: str, found: object, way_out: str) -> None:
        import reprlib  # noqa: PLC0415 - the entry point imports this module before it can note a signal

        shown = " ".join(reprlib.repr(found).split())  # whatever it is, it stays on one line
        super().__init__(f"{field}: found {shown}; {way_out}")
        self.field = field
        self.found = found
        self.way_out = way_out


class PhaseError(GracefulError):
    """A move that the table of phases does not hold. Nothing was changed."""


class ResourceError(GracefulError):
    """A resource was declared or used in a way that cannot work."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"resource {name}: {problem}")
        self.name = name
        self.problem = problem


class StartupInterrupted(GracefulError):  # noqa: N818 - it is news, not an error
    """A signal, or `request_shutdown`, came while the process was starting: nothing more is started."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"startup was interrupted by {reason}")
        self.reason = reason


class ListenError(GracefulError):
    """The address cannot be listened on. What was acquired has been released."""


class AppFailedError(GracefulError):
    """The app's own lifespan said that its startup or its shutdown failed. The text is what it gave as the
    reason, of one line or many.
    """


class RuntimeInUseError(GracefulError):
    """What only one can have at a time is taken: the signals of this process, or the run of a runtime."""
