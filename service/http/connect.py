"""Statuses, errors and time limits in the form of the Connect protocol for unary calls.

Source: https://connectrpc.com/docs/protocol
"""

from __future__ import annotations

import base64
from typing import Any

import grpc
from google.protobuf import json_format, symbol_database
from grpc_status import rpc_status

HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""HTTP status of a failed call, for each gRPC status code."""

MAX_TIMEOUT_DIGITS = 10
"""Maximum number of digits of a time limit in milliseconds, set by the Connect protocol."""


def build_error(code: grpc.StatusCode, message: str, details: Any = ()) -> dict[str, Any]:
    """Return the JSON object of an error. `details` holds `google.protobuf.Any` messages."""
    name = "canceled" if code is grpc.StatusCode.CANCELLED else code.name.lower()
    error: dict[str, Any] = {"code": name, "message": message}
    if details:
        error["details"] = [_build_detail(detail) for detail in details]
    return error


def convert_error(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the JSON object of the error of a failed gRPC call."""
    status = rpc_status.from_call(error)
    return build_error(error.code(), error.details() or "", status.details if status else ())


def parse_timeout(text: str) -> float:
    """Return the seconds of a `Connect-Timeout-Ms` header. Raises `ValueError`."""
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_TIMEOUT_DIGITS
    if not is_number or not int(text):
        raise ValueError(
            "connect-timeout-ms must be a positive number of milliseconds of at most "
            f"{MAX_TIMEOUT_DIGITS} digits"
        )
    return int(text) / 1000


def _build_detail(packed: Any) -> dict[str, Any]:
    name = packed.type_url.rpartition("/")[2]
    detail = {"type": name, "value": base64.b64encode(packed.value).decode().rstrip("=")}
    message = symbol_database.Default().GetSymbol(name)()
    message.ParseFromString(packed.value)
    return detail | {"debug": json_format.MessageToDict(message)}
