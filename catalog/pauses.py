"""Pauses in long computations, during which other tasks of the event loop can run.

Searches in Qdrant Edge and the ranking of candidates do not wait for input or output. Without
pauses, a large call would block all other calls, and could not be ended by its deadline or by a
cancellation.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

T = TypeVar("T")

WORK_S = 0.005
"""Seconds of work between two pauses."""

ROUNDS = 8
"""Iterations of the event loop per pause. gRPC needs several iterations to start a new call."""


async def pause_between(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items, and pause whenever the last pause was at least `WORK_S` seconds ago."""
    last_pause = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - last_pause >= WORK_S:
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
            last_pause = time.perf_counter()
