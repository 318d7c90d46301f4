"""The time of the stages of a call: resolve, embed, search and rank."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Literal

Stage = Literal["resolve", "embed", "search", "rank"]
Timings = list[tuple[Stage, int, int]]
"""The stages of one call: name, begin and end in nanoseconds of `time.perf_counter_ns`."""

_timings: ContextVar[Timings | None] = ContextVar("timings", default=None)


def collect() -> Timings:
    """Return a list to which the stages of the current task are added from now on."""
    timings: Timings = []
    _timings.set(timings)
    return timings


class stage:  # noqa: N801 -- reads as a function
    """`with stage("search"):` measures the time of its block if anybody collects it."""

    __slots__ = ("_begin", "_name", "_timings")

    def __init__(self, name: Stage) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._timings = _timings.get()
        if self._timings is not None:
            self._begin = time.perf_counter_ns()

    def __exit__(self, *_exception: object) -> None:
        if self._timings is not None:
            self._timings.append((self._name, self._begin, time.perf_counter_ns()))
