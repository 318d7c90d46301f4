"""Limit the time of calls."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from catalog.errors import TooLateError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from service.rpc.call import Call, Handler


class LimitTime:
    """Ends a call after `timeout_s` seconds, or at the caller's deadline if that is earlier."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def __call__(self, call: Call, proceed: Handler) -> Message:
        """Answer the call within the time limit. Raises `TooLateError`."""
        remaining_s = call.context.time_remaining()
        allowed_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        call.deadline = time.monotonic() + allowed_s
        try:
            async with asyncio.timeout(allowed_s):
                return await proceed(call)
        except TimeoutError as error:
            raise TooLateError(f"no answer within {allowed_s:.3g} seconds") from error
