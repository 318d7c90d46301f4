"""Long work in an event loop that lets others have their turn.

The embedded engine and the ranking never wait for anything, so without this a large call would hold
up all others, and neither its deadline nor a caller that left could end it.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

WORK_S = 0.005
"""How long a task works before the others have their turn."""

ROUNDS = 8
"""How often the loop goes round then: a call that comes needs it several times."""

_since: ContextVar[float | None] = ContextVar("since", default=None)


async def turn() -> None:
    """Let other tasks go on, if this one has worked for `WORK_S` since it last did."""
    now, since = time.perf_counter(), _since.get()
    if since is None:
        _since.set(now)
    elif now - since >= WORK_S:
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        _since.set(time.perf_counter())
