"""Conversion of exceptions to gRPC statuses, and of statuses to exceptions."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from catalog import errors
from catalog.errors import NextsongError
from catalog.model import SimilarName
from catalog.song import song_id
from service.rpc import status as statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "password=hunter2 in /var/lib/nextsong"


def draw_tree(kind: type[NextsongError]) -> list[type[NextsongError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in draw_tree(child))]


ALL = [kind for kind in draw_tree(NextsongError) if kind.__module__ == errors.__name__]

INVALID, UNAVAILABLE, INTERNAL = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
)
# Clients rely on these codes and reasons, so changing one breaks clients.
CODES_AND_REASONS = {
    "NextsongError": (INTERNAL, "NEXTSONG"),
    "InputError": (INVALID, "INPUT"),
    "FileError": (INVALID, "FILE"),
    "EmptyFileError": (INVALID, "EMPTY_FILE"),
    "ColumnError": (INVALID, "COLUMN"),
    "PlaylistError": (INVALID, "PLAYLIST"),
    "RejectsError": (INVALID, "REJECTS"),
    "RequestError": (INVALID, "REQUEST"),
    "UnknownSongError": (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SONG"),
    "ReleaseError": (UNAVAILABLE, "RELEASE"),
    "NoReleaseError": (UNAVAILABLE, "NO_RELEASE"),
    "CorruptReleaseError": (UNAVAILABLE, "CORRUPT_RELEASE"),
    "MismatchError": (UNAVAILABLE, "MISMATCH"),
    "StorageError": (INTERNAL, "STORAGE"),
    "BusyError": (UNAVAILABLE, "BUSY"),
    "EngineError": (INTERNAL, "ENGINE"),
    "MissingLibraryError": (INTERNAL, "MISSING_LIBRARY"),
    "MissingExtraError": (INTERNAL, "MISSING_EXTRA"),
    "SupervisionError": (INTERNAL, "SUPERVISION"),
    "GateError": (INTERNAL, "GATE"),
    "SettingsError": (INVALID, "SETTINGS"),
    "NoHistoryError": (grpc.StatusCode.FAILED_PRECONDITION, "NO_HISTORY"),
    "NoKeyError": (grpc.StatusCode.UNAUTHENTICATED, "NO_KEY"),
    "OverloadError": (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOAD"),
    "TooLateError": (grpc.StatusCode.DEADLINE_EXCEEDED, "TOO_LATE"),
    "UnavailableError": (UNAVAILABLE, "UNAVAILABLE"),
}


def build_example(kind: type[NextsongError], message: str = "went wrong") -> NextsongError:
    if kind is errors.RequestError:
        return errors.RequestError("seeds[2].song_id", message)
    if kind is errors.MissingExtraError:
        return errors.MissingExtraError(message, "extra")
    return kind(message)


def build_sent_status(error: NextsongError) -> status_pb2.Status:
    """Return the `google.rpc.Status` that the server sends for an error."""
    trailers = dict(statuses.build_status(error).trailing_metadata)
    return status_pb2.Status.FromString(trailers["grpc-status-details-bin"])


def list_details(error: NextsongError, kind: type) -> list[object]:
    unpacked = [(kind(), detail) for detail in build_sent_status(error).details]
    return [message for message, detail in unpacked if detail.Unpack(message)]


def get_name(kind: type[NextsongError]) -> str:
    return kind.__name__


@pytest.mark.parametrize("kind", ALL, ids=get_name)
def test_every_exception_has_its_code_and_reason(kind: type[NextsongError]) -> None:
    error = build_example(kind)
    status = statuses.build_status(error)
    code, reason = CODES_AND_REASONS[kind.__name__]
    assert statuses.get_code(error) is status.code is code
    assert build_sent_status(error).code == code_pb2.Code.Value(code.name)
    assert build_sent_status(error).message == status.details
    assert list_details(error, error_details_pb2.ErrorInfo) == [
        error_details_pb2.ErrorInfo(reason=reason, domain="nextsong")
    ]


def test_reasons_are_unique_and_well_formed() -> None:
    reasons = [statuses.get_reason(build_example(kind)) for kind in ALL]
    assert len(set(reasons)) == len(reasons)
    for reason in reasons:  # the pattern that google.rpc.ErrorInfo requires
        assert re.fullmatch("[A-Z][A-Z0-9_]+[A-Z0-9]", reason)


def test_a_new_exception_has_the_code_of_its_base_class() -> None:
    local = type("GoneReleaseError", (errors.ReleaseError,), {})("gone")
    assert statuses.get_code(local) is UNAVAILABLE
    assert statuses.get_reason(local) == "GONE_RELEASE"


def test_the_docstring_shows_the_tree_of_exceptions() -> None:
    drawn = {}
    path = ["NextsongError"]
    for line in (errors.__doc__ or "").splitlines():
        branch = re.match(r"    ((?:[│ ] {3})*)[├└]── (\w+)", line)
        if branch:
            depth = len(branch[1]) // 4 + 1
            path[depth:] = [branch[2]]
            drawn[branch[2]] = path[depth - 1]
    kinds = [kind for kind in ALL if kind.__module__ == errors.__name__]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds[1:]}
    assert list(drawn) == [kind.__name__ for kind in kinds[1:]]


WRITTEN_FOR_CALLERS = {
    "RequestError",
    "UnknownSongError",
    "NoHistoryError",
    "NoKeyError",
    "OverloadError",
    "TooLateError",
}
INSTEAD = {
    INTERNAL: "internal error",
    INVALID: "the request cannot be answered",
    UNAVAILABLE: "the catalog is not available now: try again soon",
}


@pytest.mark.parametrize("kind", ALL, ids=get_name)
def test_only_messages_written_for_callers_are_sent(kind: type[NextsongError]) -> None:
    error = build_example(kind, SECRET)
    status = statuses.build_status(error)
    is_sent = (
        SECRET.encode() in build_sent_status(error).SerializeToString() or SECRET in status.details
    )
    assert is_sent is (kind.__name__ in WRITTEN_FOR_CALLERS)
    assert is_sent is statuses.is_for_callers(error)
    if not is_sent:
        assert status.details == INSTEAD[status.code]


@pytest.mark.parametrize("kind", ALL, ids=get_name)
def test_a_malformed_field_is_named(kind: type[NextsongError]) -> None:
    expected = []
    if issubclass(kind, errors.RequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field="seeds[2].song_id", description="went wrong"
        )
        expected = [error_details_pb2.BadRequest(field_violations=[violation])]
    assert list_details(build_example(kind), error_details_pb2.BadRequest) == expected


# Errors sent from server to client over a real channel

Abort = NextsongError | tuple[grpc.StatusCode, str]


class Failing(grpc.GenericRpcHandler):
    """Fails every call with `failure`."""

    failure: Abort = NextsongError("not set")

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(self._fail)

    def _fail(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        if isinstance(self.failure, NextsongError):
            context.abort_with_status(statuses.build_status(self.failure))
        else:
            context.abort(*self.failure)
        raise AssertionError


@pytest.fixture(scope="module")
def send_through_server() -> Iterator[Callable[[Abort], NextsongError]]:
    """Send a failure through a server, and return the exception that the client raises."""
    failing = Failing()
    server = grpc.server(ThreadPoolExecutor(1), handlers=[failing])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/nextsong.v1.Recommender/Recommend")

        def send_through_server(failure: Abort) -> NextsongError:
            failing.failure = failure
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10)
            return statuses.build_error(caught.value)

        yield send_through_server
    server.stop(None).wait()


def test_suggestions_are_sent_as_far_as_they_fit_in_a_status(
    send_through_server: Callable[[Abort], NextsongError],
) -> None:
    short = SimilarName(song_id("ABBA", "SOS"), "ABBA", "SOS", 7, 0.75)
    long = SimilarName(song_id("x", "y"), "é" * 512, "ü" * 512, 1, 0.5)
    for suggestions, expected in (
        ((short, short), (short, short)),
        ((short, long), (short,)),
        ((long,), ()),
    ):
        received = send_through_server(errors.UnknownSongError("no such song", suggestions))
        assert isinstance(received, errors.UnknownSongError)
        assert (str(received), received.suggestions) == ("no such song", expected)


CAME_BACK = {
    INVALID: errors.InputError,
    grpc.StatusCode.NOT_FOUND: errors.UnknownSongError,
    UNAVAILABLE: errors.UnavailableError,
    INTERNAL: errors.EngineError,
    grpc.StatusCode.UNAUTHENTICATED: errors.NoKeyError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.NoHistoryError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.OverloadError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.TooLateError,
}


@pytest.mark.parametrize("kind", ALL, ids=get_name)
def test_the_client_raises_the_exception_of_the_code(
    send_through_server: Callable[[Abort], NextsongError], kind: type[NextsongError]
) -> None:
    sent = build_example(kind)
    received = send_through_server(sent)
    code = statuses.get_code(sent)
    if kind is errors.RequestError:
        assert isinstance(received, errors.RequestError)
        assert (received.field, received.problem) == ("seeds[2].song_id", "went wrong")
    else:
        assert type(received) is CAME_BACK[code]
    message = str(sent) if statuses.is_for_callers(sent) else INSTEAD[code]
    assert str(received) == (f"the service failed: {message}" if code is INTERNAL else message)
    assert statuses.get_code(received) is code


def test_an_overloaded_service_sends_when_to_retry(
    send_through_server: Callable[[Abort], NextsongError],
) -> None:
    sent = errors.OverloadError("too busy", 1.25)
    (wait,) = list_details(sent, error_details_pb2.RetryInfo)
    assert isinstance(wait, error_details_pb2.RetryInfo)
    assert wait.retry_delay.ToMilliseconds() == 1250
    received = send_through_server(sent)
    assert isinstance(received, errors.OverloadError)
    assert received.wait_s == 1.25


@pytest.mark.parametrize(
    "problem",
    [
        "plain",
        "50% of 'a' %41",
        "caf\u00e9 \u0645\u0631\u062d\u0628\u0627 \U0001f3b5",
        "two\nlines\r\n",
        "a\0b",
        "  spaces  ",
        "\x7f\x1b[31m",
        "x" * 500,
        "",
    ],
)
def test_any_message_is_sent_unchanged(
    send_through_server: Callable[[Abort], NextsongError], problem: str
) -> None:
    received = send_through_server(errors.RequestError("song.song_id", problem))
    assert isinstance(received, errors.RequestError)
    assert (received.field, received.problem) == ("song.song_id", problem)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InputError, "a message"),
        (grpc.StatusCode.NOT_FOUND, errors.UnknownSongError, "a message"),
        (grpc.StatusCode.UNAVAILABLE, errors.UnavailableError, "a message"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.TooLateError, "a message"),
        (grpc.StatusCode.UNAUTHENTICATED, errors.NoKeyError, "a message"),
        (grpc.StatusCode.CANCELLED, errors.UnavailableError, "a message"),
        (grpc.StatusCode.UNIMPLEMENTED, errors.EngineError, "the service failed: a message"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.EngineError, "the service failed: a message"),
        (grpc.StatusCode.UNKNOWN, errors.EngineError, "the service failed: a message"),
    ],
)
def test_failures_without_details_are_converted_by_code(
    send_through_server: Callable[[Abort], NextsongError],
    code: grpc.StatusCode,
    kind: type[NextsongError],
    message: str,
) -> None:
    received = send_through_server((code, "a message"))
    assert type(received) is kind
    assert str(received) == message


def test_a_failure_without_a_message_shows_its_code(
    send_through_server: Callable[[Abort], NextsongError],
) -> None:
    assert str(send_through_server((grpc.StatusCode.UNAVAILABLE, ""))) == "UNAVAILABLE"
