"""How long the stages of a call take: resolve, embed, search and rank."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Literal

Stage = Literal["resolve", "embed", "search", "rank"]
Spans = list[tuple[Stage, int, int]]
"""The stages of one call: name, begin and end in nanoseconds of `time.perf_counter_ns`."""

_spans: ContextVar[Spans | None] = ContextVar("spans", default=None)


def collect() -> Spans:
    """A list that the stages of the current task add themselves to from now on."""
    spans: Spans = []
    _spans.set(spans)
    return spans


class stage:  # noqa: N801 -- reads as a function
    """`with stage("search"):` takes the time of what it holds, if anybody collects it."""

    __slots__ = ("_begin", "_name", "_spans")

    def __init__(self, name: Stage) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._spans = _spans.get()
        if self._spans is not None:
            self._begin = time.perf_counter_ns()

    def __exit__(self, *_exception: object) -> None:
        if self._spans is not None:
            self._spans.append((self._name, self._begin, time.perf_counter_ns()))
