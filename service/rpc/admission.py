"""Admission: which calls are taken, by the work that is under way and the stalls before."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from catalog.errors import OverloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

CATCH_UP_S, LONGEST_CATCH_UP_S = 1.0, 20.0
"""How long, at least and at most, it takes until a stall is over for the calls that waited."""

MOST_BEHIND = 5_000
"""Extra places while the queue drains after a stall."""


WORK_OF_A_PLACE = 1_000
"""Work (see `service.api.validation.estimate_work`) for which a call takes one place: about a tenth
of a second on two cores."""


class Admission:
    """Takes calls while there is room among `most` places. A large call takes several."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._stalls = 0
        self._behind_since = -math.inf

    @contextmanager
    def admit(self, work: int) -> Iterator[None]:
        """Take places for a call of this much work while it is under way; all of them at most.

        Raises `OverloadError` if there are not as many.
        """
        places = min(self._most, max(1, -(-work // WORK_OF_A_PLACE)))
        if self._is_full(self._taken + places):
            raise OverloadError(
                f"the server has as much under way as it takes: {self._most} calls, a large one "
                f"counting as several"
            )
        self._taken += places
        try:
            yield
        finally:
            self._taken -= places

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Mark a time in which the engine may hold the interpreter, and calls wait unseen.

        Loading and closing a large release does, for a second or two. The calls that came
        meanwhile are then there all at once, and are no sign of too many: until they have been
        answered, more are taken than `most`.
        """
        self._stalls += 1
        try:
            yield
        finally:
            self._stalls -= 1
            self._behind_since = time.monotonic()

    def _is_full(self, taken: int) -> bool:
        now = time.monotonic()
        behind = self._stalls > 0 or now < self._behind_since + CATCH_UP_S
        if taken <= self._most:
            if not behind:
                self._behind_since = -math.inf
            return False
        behind = behind or now < self._behind_since + LONGEST_CATCH_UP_S
        return not behind or taken > self._most + MOST_BEHIND
