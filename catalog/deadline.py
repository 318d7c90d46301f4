"""The deadline of the current request, which is passed on to Qdrant."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_end: ContextVar[float | None] = ContextVar("end", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit the work inside this block to `seconds`."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def left() -> float | None:
    """Return the seconds until the deadline, at least 0, or None without a deadline."""
    end = _end.get()
    return None if end is None else max(0.0, end - time.monotonic())


def whole_seconds() -> int | None:
    """Return the time left in whole seconds, at least 1: the unit of timeouts in Qdrant."""
    seconds = left()
    return None if seconds is None else max(1, math.ceil(seconds))
