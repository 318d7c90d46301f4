"""Our exceptions as gRPC statuses, and back: the one place where both meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

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
    errors.NoHistoryError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoKeyError: grpc.StatusCode.UNAUTHENTICATED,
    errors.OverloadError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.TooLateError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_TOLD = (
    errors.RequestError,
    errors.UnknownSongError,
    errors.NoHistoryError,
    errors.NoKeyError,
    errors.OverloadError,
    errors.TooLateError,
)
"""What is said to callers in these was written for them; of all else they learn the kind alone."""

_INSTEAD = {
    grpc.StatusCode.INTERNAL: "internal error",
    grpc.StatusCode.INVALID_ARGUMENT: "the request cannot be answered",
    grpc.StatusCode.UNAVAILABLE: "the catalog cannot be asked now: try again soon",
}
# A server that stops cancels the calls that come too late or take too long.
_ABSENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


_REASONS = {
    "Connection refused": "no service listens there: start one with `nextsong serve`, or correct "
    "the address",
    "address lookup failed": "there is no host of this name: correct the address",
    "resolv": "the name of the host cannot be looked up: correct the address",
    "CERTIFICATE_VERIFY_FAILED": "the certificate of the service is not trusted: name the file of "
    "its authority with --ca",
    "WRONG_VERSION_NUMBER": "what listens there speaks no TLS: leave out --tls, --ca and --cert, "
    "or correct the address",
    "handshake failed": "no TLS connection comes about: check --ca, --cert and --cert-key",
    "Failed parsing HTTP/2": "what listens there is no nextsong service, or speaks TLS: correct "
    "the address, or add --tls or --ca",
    "Socket closed": "the connection was closed: if the service speaks TLS, add --tls or --ca",
    "Connection reset": "the connection was closed: if the service speaks TLS, add --tls or --ca",
    "Method not found": "what listens there is no nextsong service of this version: correct the "
    "address",
    "failed to connect to all addresses": "the service cannot be reached: check that `nextsong "
    "serve` runs there, and the network between",
}
"""What to say instead of gRPC's own message, by a part of it; the first that is found counts."""


class _Status(NamedTuple):
    """A `grpc.Status`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def code_of(error: errors.NextsongError) -> grpc.StatusCode:
    """The code of the nearest of the exception's classes that has one."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def status_of(
    error: errors.NextsongError, trailers: tuple[tuple[str, str], ...] = ()
) -> grpc.Status:
    """A status with rich details: ErrorInfo always, BadRequest where a field is to blame.

    RetryInfo says when to come back to a server that is too busy. A message that was not written
    for callers, and may name files and addresses, is withheld: it is for our logs (`is_told`).
    `trailers` travel along.
    """
    code = code_of(error)
    info = error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN)
    details: list[Message] = [info]
    if isinstance(error, errors.RequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.problem
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.OverloadError):
        wait = error_details_pb2.RetryInfo()
        wait.retry_delay.FromMilliseconds(round(error.wait_s * 1000))
        details.append(wait)
    message = str(error) if is_told(error) else _INSTEAD[code]
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    converted: grpc.Status = rpc_status.to_status(status)
    if not trailers:
        return converted
    metadata = (*converted.trailing_metadata, *trailers)
    return cast("grpc.Status", _Status(converted.code, converted.details, metadata))


def is_told(error: errors.NextsongError) -> bool:
    """Whether callers are told the message of an error."""
    return isinstance(error, _TOLD)


def reason_of(error: errors.NextsongError) -> str:
    """A stable name for the kind of error: `NoReleaseError` is NO_RELEASE."""
    name = type(error).__name__.removesuffix("Error")
    return "".join(
        f"_{char}" if char.isupper() and place else char for place, char in enumerate(name)
    ).upper()


def error_of(call: grpc.RpcError, address: str = "") -> errors.NextsongError:
    """The exception of ours that a failed call to `address` stands for."""
    code = call.code()
    message = call.details() or code.name
    if not _is_of_service(call):
        where = address or "the service"
        if message == "Deadline Exceeded":
            return errors.TooLateError(f"{where}: no answer within the time allowed: try again")
        reason = next((reason for part, reason in _REASONS.items() if part in message), "")
        if reason:
            return errors.UnavailableError(f"{where}: {reason}")
    if code in _ABSENT:
        return errors.UnavailableError(message)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.TooLateError(message)
    if code is grpc.StatusCode.NOT_FOUND:
        return errors.UnknownSongError(message)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return errors.NoHistoryError(message)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return errors.NoKeyError(message)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        bad = _detail(call, error_details_pb2.BadRequest)
        if bad is None or not bad.field_violations:
            return errors.InputError(message)
        violation = bad.field_violations[0]
        return errors.RequestError(violation.field, violation.description)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        retry = _detail(call, error_details_pb2.RetryInfo)
        if retry is not None:
            return errors.OverloadError(message, retry.retry_delay.ToMilliseconds() / 1000)
    return errors.EngineError(f"the service failed: {message}")


def _is_of_service(call: grpc.RpcError) -> bool:
    """Return whether the service itself said what failed, rather than gRPC on the way to it."""
    return rpc_status.from_call(call) is not None


def _detail(call: grpc.RpcError, kind: type[Any]) -> Any:
    """The detail of this kind that a failed call brought, or None."""
    status = rpc_status.from_call(call)
    for detail in status.details if status else ():
        found = kind()
        if detail.Unpack(found):
            return found
    return None
