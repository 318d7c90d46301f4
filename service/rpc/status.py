"""Convert exceptions to gRPC statuses for the server, and statuses to exceptions for the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from catalog import errors
from catalog.model import SimilarName
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

DOMAIN = "nextsong"

MAX_SUGGESTIONS_BYTES = 2_000
"""Maximum size of the suggested songs in a status, because gRPC drops a status of several kB."""

# The status code for each class of exceptions, and for its subclasses unless they have their own.
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
_FOR_CALLERS = (
    errors.RequestError,
    errors.UnknownSongError,
    errors.NoHistoryError,
    errors.NoKeyError,
    errors.OverloadError,
    errors.TooLateError,
)
"""Exceptions whose messages are written for callers. Other messages are not sent."""

_GENERIC_MESSAGES = {
    grpc.StatusCode.INTERNAL: "internal error",
    grpc.StatusCode.INVALID_ARGUMENT: "the request cannot be answered",
    grpc.StatusCode.UNAVAILABLE: "the catalog is not available now: try again soon",
}
# The exception that the client raises for a status code without more specific details.
_ERRORS: dict[grpc.StatusCode, type[errors.NextsongError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    # A server that is shutting down cancels calls that arrive too late or take too long.
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.TooLateError,
    grpc.StatusCode.NOT_FOUND: errors.UnknownSongError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.NoHistoryError,
    grpc.StatusCode.UNAUTHENTICATED: errors.NoKeyError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InputError,
}

_REASONS = {
    "Connection refused": "no service listens there: start one with `nextsong serve`, or correct "
    "the address",
    "address lookup failed": "no host has this name: correct the address",
    "resolv": "the host's name cannot be resolved: correct the address",
    "CERTIFICATE_VERIFY_FAILED": "the certificate of the service is not trusted: name the "
    "certificate file of its authority with --ca",
    "WRONG_VERSION_NUMBER": "the server there does not use TLS: leave out --tls, --ca and --cert, "
    "or correct the address",
    "handshake failed": "the TLS handshake failed: check --ca, --cert and --cert-key",
    "Failed parsing HTTP/2": "the server there is not a nextsong service, or uses TLS: correct "
    "the address, or add --tls or --ca",
    "Socket closed": "the connection was closed: if the service uses TLS, add --tls or --ca",
    "Connection reset": "the connection was closed: if the service uses TLS, add --tls or --ca",
    "Method not found": "the server there is not a nextsong service of this version: correct "
    "the address",
    "failed to connect to all addresses": "the service cannot be reached: check the network, "
    "and that `nextsong serve` runs there",
}
"""Explanations of failed connections, by a part of gRPC's message. The first match is used."""


class _Status(NamedTuple):
    """A `grpc.Status`, which is an interface without a public implementation."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def get_code(error: errors.NextsongError) -> grpc.StatusCode:
    """Return the status code for the class of an exception, or for its nearest base class."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def build_status(
    error: errors.NextsongError, trailers: tuple[tuple[str, str], ...] = ()
) -> grpc.Status:
    """Return the status for an error, with `trailers` added to its metadata.

    The details of the status are an ErrorInfo, a BadRequest if a field of the request is malformed,
    an UnknownSong if songs have similar names, and a RetryInfo if the server is overloaded.
    Messages that are not written for callers (see `is_for_callers`) may name files and addresses,
    so a generic message replaces them.
    """
    code = get_code(error)
    info = error_details_pb2.ErrorInfo(reason=get_reason(error), domain=DOMAIN)
    details: list[Message] = [info]
    if isinstance(error, errors.RequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.problem
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.UnknownSongError) and error.suggestions:
        details.append(_build_unknown_song(error.suggestions))
    if isinstance(error, errors.OverloadError):
        wait = error_details_pb2.RetryInfo()
        wait.retry_delay.FromMilliseconds(round(error.wait_s * 1000))
        details.append(wait)
    message = str(error) if is_for_callers(error) else _GENERIC_MESSAGES[code]
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


def is_for_callers(error: errors.NextsongError) -> bool:
    """Return whether the message of an error is sent to callers."""
    return isinstance(error, _FOR_CALLERS)


def get_reason(error: errors.NextsongError) -> str:
    """Return a stable name for the class of an error, such as NO_RELEASE for `NoReleaseError`."""
    name = type(error).__name__.removesuffix("Error")
    return "".join(
        f"_{char}" if char.isupper() and position else char for position, char in enumerate(name)
    ).upper()


def build_error(call: grpc.RpcError, address: str = "") -> errors.NextsongError:
    """Return the exception that the client raises for a failed call to `address`."""
    code = call.code()
    message = call.details() or code.name
    if not _is_from_service(call):
        target = address or "the service"
        if message == "Deadline Exceeded":
            return errors.TooLateError(f"{target}: no answer within the time allowed: try again")
        reason = next((reason for part, reason in _REASONS.items() if part in message), "")
        if reason:
            return errors.UnavailableError(f"{target}: {reason}")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        bad_request = _find_detail(call, error_details_pb2.BadRequest)
        if bad_request and bad_request.field_violations:
            violation = bad_request.field_violations[0]
            return errors.RequestError(violation.field, violation.description)
    if code is grpc.StatusCode.NOT_FOUND:
        unknown = _find_detail(call, pb.UnknownSong) or pb.UnknownSong()
        return errors.UnknownSongError(message, tuple(map(_parse_suggestion, unknown.suggestions)))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        retry = _find_detail(call, error_details_pb2.RetryInfo)
        if retry is not None:
            return errors.OverloadError(message, retry.retry_delay.ToMilliseconds() / 1000)
    if code in _ERRORS:
        return _ERRORS[code](message)
    return errors.EngineError(f"the service failed: {message}")


def _build_unknown_song(suggestions: Sequence[SimilarName]) -> pb.UnknownSong:
    """Return a detail with the first suggestions that fit in `MAX_SUGGESTIONS_BYTES`."""
    detail = pb.UnknownSong()
    for name in suggestions:
        song = pb.Song(
            song_id=str(name.song_id),
            artist=name.artist,
            title=name.title,
            playlists=name.playlists,
        )
        detail.suggestions.add(song=song, similarity=name.similarity)
        if detail.ByteSize() > MAX_SUGGESTIONS_BYTES:
            del detail.suggestions[-1]
            break
    return detail


def _parse_suggestion(message: pb.Suggestion) -> SimilarName:
    song = message.song
    return SimilarName(
        UUID(song.song_id), song.artist, song.title, song.playlists, message.similarity
    )


def _is_from_service(call: grpc.RpcError) -> bool:
    """Return whether the service itself set the status of a call, and not the gRPC library."""
    return rpc_status.from_call(call) is not None


def _find_detail(call: grpc.RpcError, kind: type[Any]) -> Any:
    """Return the first detail of type `kind` in the status of a failed call, or None."""
    status = rpc_status.from_call(call)
    for packed in status.details if status else ():
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None
