"""Stalls: whether an event loop still turns, asked by another thread, and what blocks it when it does not.

Once a second the loop is given a callback, and the next second there is a look at whether it has run. That is
all that it costs. So a stall of two seconds is always noticed, one that is shorter sometimes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from graceful.asides import ASIDES
from graceful.stacks import frames_of, lines_of, thread_stands_at

logger = logging.getLogger("graceful")

EVERY_SECONDS: Final = 1.0
LOGGED_SECONDS: Final = 1.0
SHOWN_SECONDS: Final = 60.0
"""How long the last stall stays in the metrics: a scraper comes every 15 to 60 s."""


class _Question:
    """Given to the loop at `asked`, in seconds of the clock; its answer is that it is called."""

    __slots__ = ("answered", "asked", "said", "unseen")

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.unseen = 0.0
        self.answered = False
        self.said = False

    def counted(self, now: float) -> float:
        """How long it has waited, without the time in which nobody could have seen it answered."""
        return max(0.0, now - self.asked - self.unseen)


class LoopWatch:
    """Watches the running loop, from another thread, until the run `is_over`.

    What is said goes `aside`: the thread that is blocked may be blocked in the log.
    """

    def __init__(
        self,
        *,
        is_over: Callable[[], bool],
        aside: Callable[[int, str], object] = ASIDES.say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        # Whatever runs the loop is on the stack now, and will be: it blocks nothing. Identities, since frames
        # would keep alive what is in them.
        self._around = [id(frame) for frame in frames_of(self._thread)][::-1]
        self._is_over = is_over
        self._aside = aside
        self._clock = clock
        self._question: _Question | None = None
        self._looked = clock()
        self._last = (0.0, 0.0)

    @property
    def seconds(self) -> float:
        """How long the loop has stood still; 0 while it turns, which a loop that is being asked is believed
        to do.
        """
        question = self._question
        if question is None or question.answered or self._is_over():
            return 0.0
        return question.counted(self._clock())

    @property
    def shown(self) -> float:
        """For the metrics: how long the loop stands still, or how long it did in a stall that ended within
        the last minute; else 0. Less than a second is none.
        """
        if self.seconds >= LOGGED_SECONDS:
            return self.seconds
        length, ended = self._last
        return length if self._clock() - ended < SHOWN_SECONDS else 0.0

    def look(self) -> bool:
        """One look, and the next question; to be called once a second, on another thread. Whether there is
        something left to watch.
        """
        if self._is_over():
            return False
        now, question = self._clock(), self._question
        late = now - self._looked - EVERY_SECONDS
        self._looked = now
        if question is None or question.answered:
            return self._ask(now)
        if late > EVERY_SECONDS:  # this thread did not run either, so it cannot say what the other has done
            question.unseen += late
        if question.counted(now) >= LOGGED_SECONDS and not question.said:
            question.said = True
            self._aside(logging.WARNING, self._account(question.counted(now)))
        return True

    def _ask(self, now: float) -> bool:
        question = _Question(now)
        try:
            self._loop.call_soon_threadsafe(self._answer, question)
        except RuntimeError:  # the loop has been closed
            return False
        self._question = question
        return True

    def _answer(self, question: _Question) -> None:
        """On the loop: it turns."""
        now = self._clock()
        question.answered = True
        seconds = now - question.asked
        if seconds < LOGGED_SECONDS or self._is_over():
            return
        self._last = (seconds, now)
        if question.said:
            logger.warning("the event loop turns again, after %.1f s", seconds)
        else:
            unseen = "nobody saw where, as when the whole process is stopped or C code holds the GIL"
            logger.warning("the event loop stood still for %.1f s; %s", seconds, unseen)

    def _account(self, seconds: float) -> str:
        place, way_out = thread_stands_at(self._thread), "what blocks belongs on a thread (asyncio.to_thread)"
        head = f"the event loop has stood still for {seconds:.1f} s, at {place}; {way_out}"
        frames = frames_of(self._thread)
        known = zip(frames[::-1], self._around, strict=False)
        within = sum(1 for _ in itertools.takewhile(lambda pair: id(pair[0]) == pair[1], known))
        return "\n".join([head, *(f"    {line}" for line in lines_of(frames[: len(frames) - within]))])
