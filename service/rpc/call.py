"""One call of a `Recommender` method, and the chain of interceptors around the method."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from google.protobuf.message import DecodeError, Message

from service.operate.timing import Timings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Context = grpc.aio.ServicerContext[Any, Any]

REQUEST_ID = "x-request-id"
"""Key of the request id in the metadata of a call and of its response."""

_VALID_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class Call:
    """A call and its outcome. If the call fails, `code` and `error` are set.

    - `request`: a message, or None if the bytes received are not a message of the method.
    - `caller`: the name of the caller's key; "" if the service requires no keys.
    - `begin_ns`: the time of `time.perf_counter_ns` at which the call began.
    - `deadline`: in seconds of `time.monotonic`; None until the time of the call is limited.
    """

    method: str
    request: Any
    context: Context
    metadata: Mapping[str, str]
    caller: str = ""
    request_id: str = ""
    begin_ns: int = field(default_factory=time.perf_counter_ns)
    deadline: float | None = None
    timings: Timings = field(default_factory=Timings)
    code: str = "OK"
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.request_id = read_request_id(self.metadata)

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds since the call began."""
        return time.perf_counter_ns() - self.begin_ns


Handler = Callable[[Call], Awaitable[Message]]
"""A function that answers a call: a method of `Recommender`, with or without interceptors."""


class Interceptor(Protocol):
    """Runs code before and after `proceed`, which answers the call."""

    def __call__(self, call: Call, proceed: Handler) -> Awaitable[Message]:
        """Answer the call, usually by calling `proceed`."""


def chain(interceptors: Sequence[Interceptor], method: Handler) -> Handler:
    """Return a handler that runs interceptors around a method, the first interceptor outermost."""
    handler = method
    for interceptor in reversed(interceptors):
        handler = partial(interceptor, proceed=handler)
    return handler


@dataclass(frozen=True)
class MethodHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic in stubs only
    """A handler for gRPC that answers the calls of one method.

    `caller` is the name of the key that the caller sent.
    """

    method: str
    answer: Handler
    request_type: type[Message]
    response_serializer: Callable[[Any], bytes]
    caller: str = ""

    request_streaming = response_streaming = False
    unary_stream = stream_unary = stream_stream = None

    async def unary_unary(self, request: Message | None, context: Any) -> Message:
        """Answer a call."""
        metadata = select_text_metadata(context.invocation_metadata())
        return await self.answer(Call(self.method, request, context, metadata, self.caller))

    def request_deserializer(self, received: bytes) -> Message | None:
        """Parse a request, or return None if it is malformed.

        If this method raised an exception, gRPC would answer with the status UNKNOWN.
        """
        try:
            return self.request_type.FromString(received)
        except DecodeError:
            return None


def select_text_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return the metadata of a call without its binary values."""
    return {str(name): value for name, value in metadata or () if isinstance(value, str)}


def read_request_id(metadata: Mapping[str, str]) -> str:
    """Return the request id in the metadata of a call, or a new id if there is no valid one."""
    request_id = metadata.get(REQUEST_ID, "")
    return request_id if _VALID_REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8)
