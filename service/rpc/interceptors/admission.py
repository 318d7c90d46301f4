"""Admission control: limit the total work of the calls in progress."""

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
"""Work (see `validation.estimate_work`) per slot: about 0.1 s of computing."""

MIN_CATCH_UP_S, MAX_CATCH_UP_S = 1.0, 20.0
"""Minimum and maximum number of seconds for which extra calls are admitted after a stall.

See `Admission.stall`. Between the two, extra calls are admitted until the calls that waited during
the stall have been answered.
"""

EXTRA_SLOTS = 5_000
"""Slots that are added for the calls that waited during a stall."""


class Admission:
    """Admits calls as long as enough of `capacity` slots are free.

    A large call takes several slots.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._stalls = 0
        self._last_stall_end = -math.inf

    @contextmanager
    def admit(self, work: int) -> Iterator[None]:
        """Hold the slots of a call inside this block.

        If the work of a call needs more slots than there are, the call takes all slots. Raises
        `OverloadError` if too few slots are free.
        """
        slots = min(self._capacity, max(1, -(-work // WORK_PER_SLOT)))
        if self._used + slots > self._available():
            raise OverloadError(
                f"the server is at capacity: it answers {self._capacity} calls at a time, and a "
                f"large call counts as several"
            )
        self._used += slots
        if self._used <= self._capacity and not self._is_catching_up(MIN_CATCH_UP_S):
            self._last_stall_end = -math.inf  # the calls that waited have been answered
        try:
            yield
        finally:
            self._used -= slots

    @contextmanager
    def stall(self) -> Iterator[None]:
        """Mark a block in which Qdrant may block all Python threads for a second or two.

        This happens when a large release is loaded or closed. Calls that are sent during that time
        are received all at once afterwards, although the service is not overloaded. Therefore,
        extra calls are admitted until these calls have been answered.
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
    """Refuses calls immediately when the service is at capacity."""

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
"""Minimum number of seconds between two pauses for new calls."""

PAUSE_S = 0.0002
"""Seconds without a new call after which a pause ends."""

MAX_PAUSE_S = 0.01
"""Maximum length of a pause in seconds."""

IDLE_S = 0.002
"""Seconds without a call after which no pause is due.

In this time, the idle event loop has accepted all calls that have arrived.
"""


class ArrivalPause:
    """Pauses the work every `PAUSE_INTERVAL_S` seconds, so that the event loop accepts new calls.

    The event loop accepts one call per iteration, and searches in an embedded store block the event
    loop. Without pauses, calls above capacity would wait inside gRPC, where they cannot be refused.

    - `arrivals`: number of calls that have arrived.
    - `last_end`: end of the last call, in seconds of `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.arrivals = 0
        self.last_end = 0.0
        self._last_pause = 0.0
        self._lock = asyncio.Lock()

    async def accept_arrivals(self) -> None:
        """If a pause is due, sleep until no new calls arrive, for at most `MAX_PAUSE_S`."""
        async with self._lock:
            now = time.perf_counter()
            if now - self.last_end > IDLE_S:
                self._last_pause = now
            if now - self._last_pause < PAUSE_INTERVAL_S:
                return
            counted = -1
            while counted != self.arrivals and time.perf_counter() < now + MAX_PAUSE_S:
                counted = self.arrivals
                await asyncio.sleep(PAUSE_S)
            self._last_pause = time.perf_counter()
