"""Admission: how many calls are under way at a time, measured by their work."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from catalog.errors import OverloadError
from service.api.validation import estimate_work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from service.rpc.call import Call, Handler

WORK_PER_SLOT = 1_000
"""Work (see `validation.estimate_work`) of a call that takes one slot: about 0.1 s on two
cores."""

MIN_CATCH_UP_S, MAX_CATCH_UP_S = 1.0, 20.0
"""Seconds after a stall in which extra calls are admitted: at least, and while the queue lasts."""

EXTRA_SLOTS = 5_000
"""Slots added while the queue drains after a stall."""


class Admission:
    """Admits calls into `capacity` slots. A large call takes several."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._stalls = 0
        self._last_stall_end = -math.inf

    @contextmanager
    def admit(self, work: int) -> Iterator[None]:
        """Hold the slots of a call of this much work, at most all slots, while it is under way.

        Raises `OverloadError` if too few slots are free.
        """
        slots = min(self._capacity, max(1, -(-work // WORK_PER_SLOT)))
        if self._used + slots > self._available():
            raise OverloadError(
                f"the server is at capacity: {self._capacity} calls, where a large call counts as "
                f"several"
            )
        self._used += slots
        if self._used <= self._capacity and not self._is_catching_up(MIN_CATCH_UP_S):
            self._last_stall_end = -math.inf  # the queue has drained
        try:
            yield
        finally:
            self._used -= slots

    @contextmanager
    def stall(self) -> Iterator[None]:
        """Mark a block in which the engine may hold the interpreter, and calls queue unseen.

        Loading or closing a large release takes a second or two. The calls of that time then arrive
        all at once, which is no sign of overload: extra calls are admitted until they are answered.
        """
        self._stalls += 1
        try:
            yield
        finally:
            self._stalls -= 1
            self._last_stall_end = time.monotonic()

    def _available(self) -> int:
        extra = EXTRA_SLOTS if self._is_catching_up(MAX_CATCH_UP_S) else 0
        return self._capacity + extra

    def _is_catching_up(self, seconds: float) -> bool:
        return self._stalls > 0 or time.monotonic() < self._last_stall_end + seconds


class AdmitCalls:
    """Refuses calls above capacity at once."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._pause = ArrivalPause()

    async def __call__(self, call: Call, proceed: Handler) -> Message:
        """Answer the call if it is admitted. Raises `OverloadError`."""
        self._pause.arrivals += 1
        try:
            with self._admission.admit(estimate_work(call.request)):
                await self._pause.accept_arrivals()
                return await proceed(call)
        finally:
            self._pause.last_end = time.perf_counter()


PAUSE_INTERVAL_S = 0.01
PAUSE_S = 0.0002
MAX_PAUSE_S = 0.01
IDLE_S = 0.002
"""Seconds after the last call when the event loop has been free for arrivals anyway."""


class ArrivalPause:
    """Pauses between calls, every `PAUSE_INTERVAL_S`, for the event loop to accept new ones.

    The event loop accepts one call in each round, and the embedded engine never yields. Without a
    pause, calls above capacity would wait in the socket, where admission cannot refuse them.
    """

    def __init__(self) -> None:
        self.arrivals = 0
        self.last_end = 0.0
        self._last_pause = 0.0
        self._turn = asyncio.Lock()

    async def accept_arrivals(self) -> None:
        """Sleep until no new call arrives, for at most `MAX_PAUSE_S`, if a pause is due."""
        async with self._turn:
            now = time.perf_counter()
            if now - self.last_end > IDLE_S:
                self._last_pause = now
            if now - self._last_pause < PAUSE_INTERVAL_S:
                return
            seen = -1
            while seen != self.arrivals and time.perf_counter() < now + MAX_PAUSE_S:
                seen = self.arrivals
                await asyncio.sleep(PAUSE_S)
            self._last_pause = time.perf_counter()
