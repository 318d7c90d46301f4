"""Until when the caller of what is under way waits: so far as that is known, the engine is told."""

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
    """What this holds is waited for so long."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def left() -> float | None:
    """The seconds that are left, not below 0; None where nobody said."""
    end = _end.get()
    return None if end is None else max(0.0, end - time.monotonic())


def whole_seconds() -> int | None:
    """The same as Qdrant wants it: whole seconds, at least 1."""
    seconds = left()
    return None if seconds is None else max(1, math.ceil(seconds))
