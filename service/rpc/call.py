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
"""The metadata key of the request id."""

_VALID_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class Call:
    """A call and its outcome: `code` and `error` change if it fails.

    `request` is None if the bytes received are not a message of the method. `caller` names the
    caller's key. `begin_ns` is a time of `time.perf_counter_ns`, and `deadline`, if there is one, a
    time of `time.monotonic`.
    """

    method: str
    request: Message | None
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
        self.request_id = request_id_from(self.metadata)

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds since the call began."""
        return time.perf_counter_ns() - self.begin_ns


Handler = Callable[[Call], Awaitable[Message]]
"""Answers a call: a method, or an interceptor around one."""


class Interceptor(Protocol):
    """Acts before and after `proceed`, which answers the call."""

    def __call__(self, call: Call, proceed: Handler) -> Awaitable[Message]:
        """Answer the call."""


def chain(interceptors: Sequence[Interceptor], method: Handler) -> Handler:
    """Surround a method with interceptors, the first outermost."""
    handler = method
    for interceptor in reversed(interceptors):
        handler = partial(interceptor, proceed=handler)
    return handler


@dataclass(frozen=True)
class MethodHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Hands gRPC's calls of one method to `answer`, as calls of `caller`, the name of a key."""

    method: str
    answer: Handler
    request_type: type[Message]
    response_serializer: Callable[[Any], bytes]
    caller: str = ""

    request_streaming = response_streaming = False
    unary_stream = stream_unary = stream_stream = None

    async def unary_unary(self, request: Message | None, context: Any) -> Message:
        """Answer a call."""
        metadata = text_metadata(context.invocation_metadata())
        return await self.answer(Call(self.method, request, context, metadata, self.caller))

    def request_deserializer(self, received: bytes) -> Message | None:
        """Parse a request; None if it is malformed, for which gRPC itself would send UNKNOWN."""
        try:
            return self.request_type.FromString(received)
        except DecodeError:
            return None


def text_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return the metadata of a call without its binary values."""
    return {str(name): value for name, value in metadata or () if isinstance(value, str)}


def request_id_from(metadata: Mapping[str, str]) -> str:
    """Return the request id in a call's metadata, or a new one."""
    request_id = metadata.get(REQUEST_ID, "")
    return request_id if _VALID_REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8)
