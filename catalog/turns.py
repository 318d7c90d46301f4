"""Cooperative multitasking for long computations in an event loop.

The embedded engine and the ranking never wait for input or output. Without pauses, a large call
would block all others, and neither its deadline nor a cancellation could end it.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

WORK_S = 0.005
"""Seconds that a task computes before it gives way to others."""

ROUNDS = 8
"""Iterations of the event loop per pause: a new call needs several to start."""

_since: ContextVar[float | None] = ContextVar("since", default=None)


async def turn() -> None:
    """Give way to other tasks if this one has computed for `WORK_S` since its last pause."""
    now, since = time.perf_counter(), _since.get()
    if since is None:
        _since.set(now)
    elif now - since >= WORK_S:
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        _since.set(time.perf_counter())
