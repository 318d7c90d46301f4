"""Measure the duration of each stage of a call."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Stage = Literal["resolve", "embed", "search", "rank"]


@dataclass(frozen=True, slots=True)
class Timings:
    """The name, begin and end of each stage of a call, in `time.perf_counter_ns` nanoseconds."""

    spans: list[tuple[Stage, int, int]] = field(default_factory=list)

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Measure the time of this block as a stage."""
        begin = time.perf_counter_ns()
        try:
            yield
        finally:
            self.spans.append((stage, begin, time.perf_counter_ns()))
