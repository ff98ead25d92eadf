"""One case, played on one server: from its start to its last breath, and what was seen of it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from graceful.rehearse.model import Outcome, RequestSpec
from hostile.cases import RESOURCES, Case, Seen
from hostile.clients import Peer
from hostile.process import FAST, NotReachedError, Process, Server, started
from rig.replica import NotReadyError

_WHOLE_TIMELINE: Final = ("serving", "lame_duck", "draining", "releasing", "stopped")
_SLOW_SECONDS: Final = 2.0
_FAST_AT_SECONDS: Final = 0.5
_SLOW: Final = RequestSpec(path=f"/slow?seconds={_SLOW_SECONDS:g}", expected=b"slow")
_CHILD_ENDS_WITHIN_SECONDS: Final = 3.0
_AFTER_THE_END_SECONDS: Final = 5.0
_ENTIRELY: Final = 60.0
_LOG_LINES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was seen of one case on one server.

    `code` is the exit code, negative for a signal; `seconds` are from the first signal to the end. `killed`:
    it was still there at the grace period. `seen` has one entry for each client; `healthy` one for each of
    the two healthy requests beside, the one before and the one after the signal. `problems`: what went wrong
    before the signal, up to that the case could not be played.
    """

    case: Case
    server: str
    code: int = 0
    seconds: float = 0.0
    killed: bool = False
    ledger: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()
    healthy: tuple[Outcome, ...] = ()
    log: str = ""
    problems: tuple[str, ...] = ()

    @property
    def released(self) -> Counter[str]:
        """How often each resource was released."""
        return Counter(line.removeprefix("released ") for line in self.ledger if line.startswith("released "))

    @property
    def unreleased(self) -> list[str]:
        """The resources that were not released, first acquired first."""
        return [name for name in RESOURCES if not self.released[name]]

    @property
    def timeline(self) -> tuple[str, ...]:
        """The phases that an observer was told of, in order."""
        return tuple(line.removeprefix("phase ") for line in self.ledger if line.startswith("phase "))

    @property
    def lost(self) -> int:
        """How many of the healthy requests were not answered."""
        return sum(outcome is not Outcome.ANSWERED for outcome in self.healthy)

    @property
    def failures(self) -> tuple[str, ...]:
        """What was not as it must be, one line each."""
        return self.problems or tuple(_failures(self))

    @property
    def told(self) -> str:
        """The failures and the end of the log, for whoever has to find out why."""
        lines = [f"{self.case.name} ({self.case.says}), {self.server}:"]
        lines += [f"  - {failure}" for failure in self.failures]
        lines += [f"  again, alone: python -m hostile {self.case.name}", "  the end of its log:"]
        lines += [f"  | {line}" for line in self.log.strip().splitlines()[-_LOG_LINES:]]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """In plain types, fit for `json.dumps`."""
        return {
            "case": self.case.name,
            "server": self.server,
            "code": self.code,
            "seconds": round(self.seconds, 3),
            "killed": self.killed,
            "unreleased": self.unreleased,
            "seen": [str(seen) for seen in self.seen],
            "healthy": [str(outcome) for outcome in self.healthy],
            "failures": list(self.failures),
        }


def _failures(result: Result) -> Iterator[str]:
    case, expects = result.case, result.case.expects
    if result.killed or result.seconds >= case.killed_at:
        yield f"it was alive {case.killed_at:g} s after the signal; it must end by itself"
    elif result.code not in expects.codes:
        expected = " or ".join(str(code) for code in sorted(expects.codes))
        yield f"exit code {result.code}; expected {expected}"
    if twice := [name for name, count in result.released.items() if count > 1]:
        yield f"released more than once: {', '.join(twice)}"
    if kept := [name for name in result.unreleased if name not in expects.unreleased]:
        yield f"not released: {', '.join(kept)}"
    if result.timeline != _WHOLE_TIMELINE[: None if expects.whole else len(result.timeline)]:
        yield f"the timeline was {', '.join(result.timeline)}"
    for pattern in expects.named:
        if re.search(pattern, result.log) is None:
            yield f"the log does not name {pattern!r}"
    yield from _failures_of_clients(result)


def _failures_of_clients(result: Result) -> Iterator[str]:
    for number, (client, seen) in enumerate(zip(result.case.clients, result.seen, strict=True), 1):
        if seen not in client.sees:
            expected = " or ".join(sorted(client.sees))
            yield f"client {number} ({client.sends[:20]!r}) saw: {seen}; expected {expected}"
    if result.case.expects.healthy and result.lost:
        yield f"healthy requests beside were lost: {', '.join(result.healthy)}"


async def play(case: Case, server: Server, starting: asyncio.Semaphore) -> Result:
    """Play `case` on `server`. Never raises for what the server does; it has ended on return."""
    try:
        async with asyncio.timeout(_ENTIRELY + case.killed_at), started(case, server, starting) as process:
            return await _played(case, server, process)
    except (NotReadyError, NotReachedError, TimeoutError, OSError) as problem:
        return Result(case=case, server=server.name, problems=(f"could not be played: {problem!r}",))


async def _played(case: Case, server: Server, process: Process) -> Result:
    before = asyncio.ensure_future(process.ask(_SLOW, within=_ENTIRELY))
    await process.reach("at slow")
    peers = [Peer(client, process.port) for client in case.clients]
    try:
        for peer, client in zip(peers, case.clients, strict=True):
            await peer.begin()
            await process.reach(client.reached)
            peer.leave()
        problems = await _end_child(process) if case.ends_children else ()
        process.fill_log()
        began = process.stop(case.signals, killed_at=case.killed_at)
        after = asyncio.ensure_future(_ask(process))
        reading = [asyncio.ensure_future(peer.go_on()) for peer in peers]
        code = await asyncio.shield(process.exit)
        process.end_all()  # children hold its connections, so that clients would never hear of the end
        seen = [await _seen(peer, task) for peer, task in zip(peers, reading, strict=True)]
        healthy = (await before, await after)
    finally:
        before.cancel()
        for peer in peers:
            peer.close()
    process.ledger.read()
    return Result(
        case=case,
        server=server.name,
        code=code,
        seconds=process.ended_at - began,
        killed=process.killed,
        ledger=tuple(process.ledger.lines),
        seen=tuple(seen),
        healthy=healthy,
        log=process.log(),
        problems=problems,
    )


async def _ask(process: Process) -> Outcome:
    """What becomes of a healthy request that is sent in the lame duck."""
    await asyncio.sleep(_FAST_AT_SECONDS)
    return await process.ask(FAST, within=_ENTIRELY)


async def _seen(peer: Peer, task: asyncio.Future[Any]) -> Seen:
    task.cancel()
    await asyncio.wait({task})
    return await peer.see(within=_AFTER_THE_END_SECONDS)


async def _end_child(process: Process) -> tuple[str, ...]:
    """The child that the service has forked gets SIGTERM. What was wrong then: it lives on, or the service
    took the signal for its own.
    """
    child = await process.reach("child ")
    os.kill(int(child.split()[1]), signal.SIGTERM)
    problems = []
    try:
        await process.ledger.wait_for("child ended", within=_CHILD_ENDS_WITHIN_SECONDS)
    except NotReachedError:
        problems.append(f"the child was alive {_CHILD_ENDS_WITHIN_SECONDS:g} s after its SIGTERM")
    outcome = await process.ask(FAST, within=_CHILD_ENDS_WITHIN_SECONDS)
    if outcome is not Outcome.ANSWERED or process.ledger.find("phase lame_duck"):
        problems.append("the parent took its child's SIGTERM for its own")
    return tuple(problems)


async def play_all(cases: Iterable[tuple[Case, Server]], *, jobs: int, starts: int) -> AsyncIterator[Result]:
    """The results, each when it is known; at most `jobs` are played at the same time, of which `starts` are
    starting.
    """
    free, starting = asyncio.Semaphore(jobs), asyncio.Semaphore(starts)

    async def one(case: Case, server: Server) -> Result:
        async with free:
            return await play(case, server, starting)

    for playing in asyncio.as_completed([one(case, server) for case, server in cases]):
        yield await playing
