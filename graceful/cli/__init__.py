"""The command `graceful`. Nothing is imported here but what notes signals: those of `graceful run` count from
this line on.
"""

from __future__ import annotations

import sys

from graceful import signals

if sys.argv[1:2] == ["run"]:
    signals.SignalWatch().install(*signals.OWNED)

USAGE = """\
Usage: graceful COMMAND [ARGS]...

  Graceful shutdown for Python services.

Commands:
  run MODULE:APP  Serve an ASGI app on uvicorn, and end it well.
  probe URL       Ask a health endpoint: an exec probe for images without curl.
  rehearse        Run a service through its death before production does.
  doctor          Will SIGTERM reach the service, and if not, who keeps it?

  graceful COMMAND --help says more, with examples.
  graceful --version says which this is.
"""


def main() -> None:
    """Run one command; the process ends with its code."""
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "probe":
        from graceful.cli.probe import main as probe  # noqa: PLC0415 - it must not pay for a server

        sys.exit(probe(arguments))
    if command == "doctor":
        from graceful.cli.doctor import main as doctor  # noqa: PLC0415 - as above

        sys.exit(doctor(arguments))
    if command == "rehearse":
        sys.exit(_rehearse(arguments))
    if command == "run":
        from graceful.cli.run import main as run  # noqa: PLC0415 - and the other way round

        run(arguments)
    if command in {"--help", "-h", "help"}:
        sys.stdout.write(USAGE)
        sys.exit(0)
    if command == "--version":
        from importlib.metadata import version  # noqa: PLC0415 - slow to import

        sys.stdout.write(f"graceful {version('graceful-runtime')}\n")
        sys.exit(0)
    found = f"there is no command {command!r}; " if command else "a command is missing; "
    sys.stderr.write(f"graceful: {found}the commands are run, probe, doctor and rehearse\n\n{USAGE}")
    sys.exit(2)


def _rehearse(arguments: list[str]) -> int:
    try:
        from graceful.cli.rehearse import main as rehearse  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as problem:
        if (problem.name or "graceful").startswith("graceful"):
            raise
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        if "-h" in ours or "--help" in ours:  # that much needs nothing
            from graceful.cli.rehearse_options import parser  # noqa: PLC0415 - slow to import

            parser().print_help()
            return 0
        way_out = 'pip install "graceful-runtime[rehearse]"'
        sys.stderr.write(f"graceful rehearse: {problem.name} is not installed; {way_out}\n")
        return 2
    except KeyboardInterrupt:  # nothing has been started yet
        sys.stderr.write("graceful rehearse: interrupted\n")
        return 130
    return rehearse(arguments)
