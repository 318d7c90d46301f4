"""Report exceptions to the caller as gRPC statuses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from catalog.errors import NextsongError, RequestError
from service.rpc.call import REQUEST_ID
from service.rpc.status import build_status, get_code

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from service.rpc.call import Call, Handler


async def report_errors(call: Call, proceed: Handler) -> Message:
    """Convert an exception to a status, and send the request id with every response."""
    trailers = ((REQUEST_ID, call.request_id),)
    try:
        response = await proceed(call)
    except asyncio.CancelledError:
        call.code = "CANCELLED"
        raise
    except Exception as error:  # noqa: BLE001 -- gRPC would send the text of the exception to the caller
        reported = error if isinstance(error, NextsongError) else NextsongError(str(error))
        call.code, call.error = get_code(reported).name, error
        await call.context.abort_with_status(build_status(reported, trailers))
        raise AssertionError from None  # not reached, because abort_with_status raises
    call.context.set_trailing_metadata(trailers)
    return response


async def reject_unreadable_request(call: Call, proceed: Handler) -> Message:
    """Raise `RequestError` if the bytes received are not a message of the method."""
    if call.request is None:
        raise RequestError("request", "is not a message of this method")
    return await proceed(call)
