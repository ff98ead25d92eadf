"""The table: every way not to end that we know of, and what must be seen under `graceful run`."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator
from typing import Final

from hostile.cases import ALL, Case, Client, Expectation, Group, Log, Seen, Sending

_OK: Final = frozenset({0})
_CUT_OFF: Final = frozenset({75})
_WATCHDOG: Final = frozenset({70})
_INTERRUPTED: Final = frozenset({130})
_TERM: Final = Sending(signum=signal.SIGTERM)
_AFTER_THE_SIGNAL: Final = 0.2
_FIRST_PIECE: Final = b"0123456789abcdef"
_WHOLE: Final = frozenset({Seen.WHOLE})


def standing(function: str, file: str = "requests") -> str:
    """A pattern for a line of the service's, as a report or a dump of stacks names it."""
    return rf'{file}\.py(:\d+|", line \d+),? in {function}\b'


def get(path: str, **others: object) -> Client:
    """A client that asks for `path` in the usual way."""
    client = Client(sends=f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode(), reached=f"at {path[1:]}")
    return dataclasses.replace(client, **others)  # type: ignore[arg-type]  # fields of Client


def post(path: str, **others: object) -> Client:
    """A client that has sent half of a body of four bytes."""
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nha".encode()
    client = Client(sends=head, reached=f"at {path[1:]}")
    return dataclasses.replace(client, **others)  # type: ignore[arg-type]  # fields of Client


def at_once(function: str, **others: object) -> Client:
    """A client that has the service call `function` before the signal."""
    head = f"POST /{function} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n".encode()
    client = Client(sends=head, reached=f"at {function}")
    return dataclasses.replace(client, **others)  # type: ignore[arg-type]  # fields of Client


def after(function: str, **others: object) -> Client:
    """A client that has the service call `function` a little after the signal."""
    later = {"reached": f"before {function}", "later": b"lf", "later_at": _AFTER_THE_SIGNAL}
    return post(f"/{function}", **{**later, **others})


def _on_both_loops(*cases: Case) -> Iterator[Case]:
    for case in cases:
        yield case
        yield dataclasses.replace(case, name=f"{case.name}-asyncio", loop="asyncio")


def _cut_off(*named: str) -> Expectation:
    return Expectation(codes=_CUT_OFF, named=named)


_ENDLESS: Final = Group(
    title="work that does not end",
    cases=(
        *_on_both_loops(
            Case(
                name="endless-stream",
                says="a stream of pieces without an end",
                clients=(get("/endless_stream", reads=_FIRST_PIECE, sees=frozenset({Seen.CUT})),),
                expects=_cut_off("GET /endless_stream", standing("endless_pieces")),
            ),
            Case(
                name="sleeps",
                says="a handler that waits for ever",
                clients=(get("/sleeps", sees=frozenset({Seen.UNAVAILABLE})),),
                expects=_cut_off("GET /sleeps", standing("sleeps")),
            ),
            Case(
                name="swallows-cancellation",
                says="a handler that waits for ever and does not accept its cancellation",
                clients=(get("/swallows"),),
                expects=_cut_off("left behind.*GET /swallows", standing("swallows")),
            ),
        ),
        Case(
            name="endless-events",
            says="an event stream, which may end cleanly at any event",
            clients=(
                get("/events", reached="at events", reads=b"data: tick", sees=_WHOLE | frozenset({Seen.CUT})),
            ),
            expects=_cut_off("GET /events", standing("endless_events")),
        ),
        Case(
            name="websocket",
            says="a WebSocket whose client never leaves",
            clients=(
                Client(
                    sends=(
                        b"GET /socket HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                    ),
                    reached="at socket",
                    reads=b"101 Switching",
                    sees=frozenset({Seen.CLOSE_FRAME}),
                ),
            ),
            expects=Expectation(codes=_OK | _CUT_OFF),
        ),
        Case(
            name="download",
            says="a download of known length that is still running",
            clients=(get("/download", reads=_FIRST_PIECE, sees=frozenset({Seen.CUT})),),
            expects=_cut_off("GET /download", standing("endless_pieces")),
        ),
        Case(
            name="download-http-1.0",
            says="a download whose end is the connection's end",
            clients=(
                Client(
                    sends=b"GET /endless_stream HTTP/1.0\r\n\r\n",
                    reached="at endless_stream",
                    reads=_FIRST_PIECE,
                    sees=frozenset({Seen.CUT}),
                ),
            ),
            expects=_cut_off("GET /endless_stream", standing("endless_pieces")),
        ),
    ),
)

_THREADS: Final = Group(
    title="threads that do not end",
    cases=(
        Case(
            name="sync-endpoint",
            says="a synchronous endpoint asleep in its worker thread",
            clients=(get("/sync_sleeps", sees=frozenset({Seen.UNAVAILABLE})),),
            expects=_cut_off("GET /sync_sleeps", standing("sync_sleeps")),
        ),
        Case(
            name="thread",
            says="a thread of the app's, no daemon",
            clients=(get("/thread", reads=b"started", sees=frozenset({Seen.WHOLE})),),
            expects=_cut_off("thread stays", standing("thread_that_stays")),
        ),
        Case(
            name="executor-job",
            says="a job in the loop's executor",
            clients=(get("/executor", reads=b"started", sees=frozenset({Seen.WHOLE})),),
            expects=_cut_off(standing("job_that_stays")),
        ),
    ),
)


def _blocked(case: Case, function: str, file: str = "requests") -> Case:
    """The loop stands still in `function`, so that nothing that needs it can be released."""
    named = (standing(function, file),)
    expects = Expectation(codes=_WATCHDOG, named=named, unreleased=ALL, healthy=False, whole=False)
    return dataclasses.replace(case, expects=expects)


_ANY: Final = Expectation(codes=_WATCHDOG)
_BLOCKED: Final = Group(
    title="an event loop that stands still",
    cases=(
        *_on_both_loops(
            _blocked(
                Case(
                    name="blocked-by-sleep",
                    says="time.sleep on the loop",
                    clients=(at_once("blocks_in_sleep"),),
                    expects=_ANY,
                ),
                "blocks_in_sleep",
            ),
            _blocked(
                Case(
                    name="blocked-by-c",
                    says="C code that does not hold the GIL",
                    clients=(at_once("blocks_without_gil"),),
                    expects=_ANY,
                ),
                "_lock_twice",
                "native",
            ),
        ),
        _blocked(
            Case(
                name="blocked-by-lock",
                says="a lock that nobody gives back",
                clients=(at_once("blocks_in_lock"),),
                expects=_ANY,
            ),
            "blocks_in_lock",
        ),
        _blocked(
            Case(
                name="blocked-after",
                says="time.sleep on the loop, begun in the lame duck",
                clients=(after("blocks_in_sleep"),),
                expects=_ANY,
            ),
            "blocks_in_sleep",
        ),
        *_on_both_loops(
            _blocked(
                Case(
                    name="gil-held-before",
                    says="C code that holds the GIL when the signal comes",
                    clients=(at_once("blocks_with_gil"),),
                    expects=_ANY,
                ),
                "_lock_twice",
                "native",
            ),
            _blocked(
                Case(
                    name="gil-held-after",
                    says="C code that takes the GIL 0.2 s after the signal",
                    clients=(after("blocks_with_gil"),),
                    expects=_ANY,
                ),
                "_lock_twice",
                "native",
            ),
        ),
    ),
)

_CLIENTS: Final = Group(
    title="clients that do not play along",
    cases=(
        *_on_both_loops(
            Case(
                name="half-sent-head",
                says="a request head that stops in the middle",
                clients=(
                    Client(
                        sends=b"GET /fast HTTP/1.1\r\nhos", sees=frozenset({Seen.CLOSED, Seen.UNAVAILABLE})
                    ),
                ),
                expects=Expectation(codes=_OK),
            ),
            Case(
                name="half-sent-body",
                says="a request body that stops in the middle",
                clients=(post("/upload", sees=frozenset({Seen.UNAVAILABLE})),),
                expects=_cut_off("POST /upload", standing("upload")),
            ),
            Case(
                name="stopped-reader",
                says="a reader of 100 MB that stops reading",
                clients=(get("/large", reads=b"\r\n\r\n", stops_reading=True, sees=frozenset({Seen.CUT})),),
                expects=_cut_off("GET /large"),
            ),
            Case(
                name="half-open",
                says="a client whose host is gone without a word: nothing that is sent is taken any more",
                clients=(get("/flood", reads=_FIRST_PIECE, stops_reading=True, sees=frozenset({Seen.CUT})),),
                expects=_cut_off("GET /flood"),
            ),
            Case(
                name="vanished",
                says="a client that has reset its connection in the middle of a stream",
                clients=(
                    get("/endless_stream", reads=_FIRST_PIECE, leaves=True, sees=frozenset({Seen.GONE})),
                ),
                expects=Expectation(codes=_OK),
            ),
        ),
        Case(
            name="vanished-upload",
            says="a client that has reset its connection in the middle of its upload",
            clients=(post("/upload", leaves=True, sees=frozenset({Seen.GONE})),),
            expects=Expectation(codes=_OK),
        ),
        Case(
            name="vanished-unheard",
            says="a client that has reset its connection, and a handler that does not notice",
            clients=(get("/sleeps", leaves=True, sees=frozenset({Seen.GONE})),),
            expects=_cut_off("GET /sleeps", standing("sleeps")),
        ),
    ),
)

_RELEASE: Final = Group(
    title="a release that does not end",
    cases=(
        Case(
            name="lifespan-hangs",
            says="the app's lifespan shutdown hangs",
            traits=("lifespan-hangs",),
            expects=Expectation(
                codes=_CUT_OFF, named=("app lifespan TIMED OUT",), unreleased=frozenset({"lifespan"})
            ),
        ),
        Case(
            name="lifespan-blocks",
            says="the app's lifespan shutdown blocks the loop",
            traits=("lifespan-blocks",),
            expects=Expectation(
                codes=_WATCHDOG, named=(standing("_act", "resources"),), unreleased=ALL, whole=False
            ),
        ),
        Case(
            name="resource-hangs",
            says="one resource hangs",
            traits=("resource-hangs",),
            expects=Expectation(codes=_CUT_OFF, named=("ill TIMED OUT",), unreleased=frozenset({"ill"})),
        ),
        Case(
            name="resource-blocks",
            says="one resource blocks the loop: those before it are released",
            traits=("resource-blocks",),
            expects=Expectation(
                codes=_WATCHDOG,
                named=(standing("_act", "resources"),),
                unreleased=frozenset({"ill", "database"}),
                whole=False,
            ),
        ),
        Case(
            name="lifespan-and-resource-hang",
            says="both hang, and a handler does too",
            traits=("lifespan-hangs", "resource-hangs"),
            clients=(get("/sleeps", sees=frozenset({Seen.UNAVAILABLE})),),
            expects=Expectation(
                codes=_CUT_OFF,
                named=("app lifespan TIMED OUT", "ill TIMED OUT", "GET /sleeps"),
                unreleased=frozenset({"lifespan", "ill"}),
            ),
        ),
    ),
)

_EXITS: Final = Group(
    title="exits and crashes in the middle",
    cases=(
        *_on_both_loops(
            Case(
                name="sys-exit-in-task",
                says="sys.exit(7) in a task, in the lame duck",
                clients=(after("exits_in_task", sees=_WHOLE),),
                expects=Expectation(codes=frozenset({7}), named=("ended after",)),
            ),
        ),
        Case(
            name="sys-exit-in-lifespan",
            says="sys.exit(7) in the app's lifespan shutdown",
            traits=("lifespan-exits",),
            expects=Expectation(
                codes=frozenset({7, 75}), named=("app lifespan",), unreleased=frozenset({"lifespan"})
            ),
        ),
        Case(
            name="sys-exit-in-resource",
            says="sys.exit(7) in a resource's release",
            traits=("resource-exits",),
            expects=Expectation(
                codes=frozenset({7, 75}), named=("ill FAILED",), unreleased=frozenset({"ill"})
            ),
        ),
        Case(
            name="exception-in-lifespan",
            says="an exception in the app's lifespan shutdown",
            traits=("lifespan-raises",),
            expects=Expectation(
                codes=_CUT_OFF,
                named=("app lifespan FAILED.*no way to release",),
                unreleased=frozenset({"lifespan"}),
            ),
        ),
        Case(
            name="exception-in-resource",
            says="an exception in a resource's release",
            traits=("resource-raises",),
            expects=Expectation(
                codes=_CUT_OFF, named=("ill FAILED.*no way to release",), unreleased=frozenset({"ill"})
            ),
        ),
        Case(
            name="os-exit",
            says="os._exit(3) in the lame duck",
            clients=(after("exits_hard"),),
            expects=Expectation(codes=frozenset({3}), unreleased=ALL, healthy=False, whole=False),
        ),
        Case(
            name="crash",
            says="a segmentation fault in the lame duck",
            clients=(after("crashes"),),
            expects=Expectation(
                codes=frozenset({-signal.SIGSEGV}), unreleased=ALL, healthy=False, whole=False
            ),
        ),
    ),
)

_LOGS: Final = Group(
    title="a log that does not take its lines",
    cases=(
        *_on_both_loops(
            Case(
                name="full-pipe",
                says="the log is a pipe that is full",
                log=Log.FULL_PIPE,
                expects=Expectation(codes=_OK),
            ),
        ),
        Case(
            name="stderr-closed",
            says="standard error is closed from the start",
            log=Log.CLOSED,
            expects=Expectation(codes=_OK),
        ),
        Case(
            name="full-disk",
            says="the log is on a full disk",
            log=Log.FULL_DISK,
            expects=Expectation(codes=_OK),
        ),
        Case(
            name="full-disk-and-more",
            says="the log is on a full disk, and there is much to say",
            log=Log.FULL_DISK,
            traits=("resource-raises",),
            clients=(get("/sleeps", sees=frozenset({Seen.UNAVAILABLE})),),
            expects=Expectation(codes=_CUT_OFF, unreleased=frozenset({"ill"})),
        ),
        Case(
            name="observer-raises",
            says="an observer of the phases raises each time",
            traits=("observer-raises",),
            expects=Expectation(codes=_OK, named=("this observer always raises",)),
        ),
    ),
)


def _spread(signum: signal.Signals, count: int, seconds: float) -> tuple[Sending, ...]:
    return tuple(Sending(signum=signum, at=seconds * number / count) for number in range(count))


def _interrupts(*at: float) -> tuple[Sending, ...]:
    return tuple(Sending(signum=signal.SIGINT, at=seconds) for seconds in at)


_FROZEN: Final = (
    Sending(signum=signal.SIGSTOP, at=0.3),
    Sending(signum=signal.SIGCONT, at=6.5),
)

_SIGNALS: Final = Group(
    title="signals, again and again",
    cases=(
        *_on_both_loops(
            Case(
                name="200-sigterms",
                says="200 SIGTERMs in a second and a half",
                signals=_spread(signal.SIGTERM, 200, 1.5),
                expects=Expectation(codes=_OK),
            ),
        ),
        Case(
            name="200-sigterms-in-the-release",
            says="SIGTERMs to the very end, into the release and the exit",
            traits=("resource-hangs",),
            signals=_spread(signal.SIGTERM, 200, 5.5),
            expects=Expectation(codes=_CUT_OFF, unreleased=frozenset({"ill"})),
        ),
        Case(
            name="sigterm-and-sigint",
            says="SIGTERM, one SIGINT, SIGTERM again",
            signals=(_TERM, *_interrupts(0.3), Sending(signum=signal.SIGTERM, at=0.6)),
            expects=Expectation(codes=_OK),
        ),
        Case(
            name="sigterm-and-two-sigints",
            says="SIGTERM, then SIGINT twice: what is in flight is cancelled, the rest in order",
            signals=(_TERM, *_interrupts(0.6, 1.2)),
            clients=(get("/sleeps", sees=frozenset({Seen.UNAVAILABLE})),),
            expects=Expectation(codes=_INTERRUPTED, named=("GET /sleeps",), healthy=False),
        ),
        Case(
            name="sigterm-and-three-sigints",
            says="SIGTERM, then SIGINT three times: out at once",
            signals=(_TERM, *_interrupts(0.3, 0.8, 1.3)),
            traits=("lifespan-hangs",),
            clients=(get("/sleeps"),),
            expects=Expectation(codes=_INTERRUPTED, unreleased=ALL, healthy=False, whole=False),
        ),
        Case(
            name="sigquit",
            says="SIGTERM, then SIGQUIT: says who is in the way, out at once",
            signals=(_TERM, Sending(signum=signal.SIGQUIT, at=0.7)),
            clients=(get("/sleeps"),),
            expects=Expectation(
                codes=frozenset({131}),
                named=("SIGQUIT", "GET /sleeps", standing("sleeps")),
                unreleased=ALL,
                healthy=False,
                whole=False,
            ),
        ),
        Case(
            name="frozen-after",
            says="SIGSTOP after the signal, SIGCONT after the deadline: ends at once then",
            signals=(_TERM, *_FROZEN),
            clients=(get("/sleeps"),),
            killed_at=7.5,
            alone=True,
            # Nobody is named: both stages of the watchdog are due at once, and the one in C is the faster.
            expects=Expectation(codes=_WATCHDOG | _CUT_OFF, unreleased=ALL, healthy=False, whole=False),
        ),
        Case(
            name="frozen-before",
            says="SIGSTOP, then the signal, SIGCONT after the deadline: the signal comes with SIGCONT",
            signals=(
                Sending(signum=signal.SIGSTOP),
                Sending(signum=signal.SIGTERM, at=0.1),
                Sending(signum=signal.SIGCONT, at=6.5),
            ),
            # It comes to its handler then; when it was sent, nobody keeps. And the healthy request may begin
            # to wait only then, as it was on its way to its sleep.
            killed_at=12.5,
            alone=True,
            expects=Expectation(codes=_OK, healthy=False),
        ),
    ),
)

_CHILDREN: Final = Group(
    title="child processes",
    cases=(
        Case(
            name="subprocess-left",
            says="a subprocess that goes on running",
            clients=(get("/spawned", reached="child", reads=b"started", sees=_WHOLE),),
            expects=Expectation(codes=_OK),
        ),
        Case(
            name="child-left",
            says="a child of multiprocessing's that goes on running, and is joined at exit",
            clients=(get("/forked", reached="child", reads=b"started", sees=_WHOLE),),
            expects=Expectation(codes=_CUT_OFF, named=("left behind",)),
        ),
        Case(
            name="child-gets-sigterm",
            says="a forked child gets SIGTERM: it dies, and its parent serves on",
            clients=(get("/forked", reached="child", reads=b"started", sees=_WHOLE),),
            ends_children=True,
            alone=True,
            expects=Expectation(codes=_OK),
        ),
    ),
)

GROUPS: Final = (_ENDLESS, _THREADS, _BLOCKED, _CLIENTS, _RELEASE, _EXITS, _LOGS, _SIGNALS, _CHILDREN)
CASES: Final = tuple(case for group in GROUPS for case in group.cases)
