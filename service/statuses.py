"""Our exceptions as gRPC statuses, and back: the one place where both meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from catalog import errors

if TYPE_CHECKING:
    from google.protobuf.message import Message

DOMAIN = "nextsong"

_CODES: dict[type[errors.NextsongError], grpc.StatusCode] = {
    errors.NextsongError: grpc.StatusCode.INTERNAL,
    errors.InputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownSongError: grpc.StatusCode.NOT_FOUND,
    errors.ReleaseError: grpc.StatusCode.UNAVAILABLE,
    errors.BusyError: grpc.StatusCode.UNAVAILABLE,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
}
# A server that stops cancels the calls that come too late or take too long.
_ABSENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


def code_of(error: errors.NextsongError) -> grpc.StatusCode:
    """The code of the nearest of the exception's classes that has one."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def status_of(error: errors.NextsongError) -> grpc.Status:
    """A status with rich details: ErrorInfo always, BadRequest where a field is to blame.

    The message of an internal failure is withheld: it is for our logs.
    """
    code = code_of(error)
    info = error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN)
    details: list[Message] = [info]
    if isinstance(error, errors.RequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.problem
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    message = "internal error" if code is grpc.StatusCode.INTERNAL else str(error)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    converted: grpc.Status = rpc_status.to_status(status)
    return converted


def reason_of(error: errors.NextsongError) -> str:
    """A stable name for the kind of error: `NoReleaseError` is NO_RELEASE."""
    name = type(error).__name__.removesuffix("Error")
    return "".join(
        f"_{char}" if char.isupper() and place else char for place, char in enumerate(name)
    ).upper()


def error_of(call: grpc.RpcError) -> errors.NextsongError:
    """The exception of ours that a failed call stands for."""
    code = call.code()
    message = call.details() or code.name
    if code in _ABSENT:
        return errors.UnavailableError(message)
    if code is grpc.StatusCode.NOT_FOUND:
        return errors.UnknownSongError(message)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return _request_error(call) or errors.InputError(message)
    return errors.EngineError(f"the service failed: {message}")


def _request_error(call: grpc.RpcError) -> errors.RequestError | None:
    status = rpc_status.from_call(call)
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad) and bad.field_violations:
            violation = bad.field_violations[0]
            return errors.RequestError(violation.field, violation.description)
    return None
