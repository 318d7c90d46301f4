"""What every call goes through, whatever it asks: bounds, deadline, errors, log, metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from google.protobuf import json_format

from catalog.deadline import within
from catalog.errors import EngineError, NextsongError, RequestError, TooLateError, UnavailableError
from nextsong.v1 import recommender_pb2 as pb
from service.api.validation import estimate_work
from service.operate import timing
from service.operate.logs import log
from service.rpc.admission import Admission
from service.rpc.errors import code_of, is_told, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from google.protobuf.message import Message

    from service.operate.metrics import Metrics
    from service.operate.tracing import Tracer
    from service.settings import Settings

REQUEST_ID = "x-request-id"
Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response", bound="Message")

LOOK_EVERY_S = 0.01
PAUSE_S = 0.0002
LONGEST_PAUSE_S = 0.01
IDLE_S = 0.002

_GOOD_ID = re.compile(r"[\x21-\x7e]{1,128}")
_logger = logging.getLogger("nextsong.service")


caller_of_call: ContextVar[str] = ContextVar("caller_of_call", default="")
"""The name of the key that the call of this task has brought: gRPC has no way to pass it on."""


def metadata_of(given: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """The metadata of a call that is text."""
    return {str(name): value for name, value in given or () if isinstance(value, str)}


def request_id_of(metadata: Mapping[str, str]) -> str:
    """The request id that a call brings, or a new one."""
    request_id = metadata.get(REQUEST_ID, "")
    return request_id if _GOOD_ID.fullmatch(request_id) else secrets.token_hex(8)


class NoMessage:
    """What was sent where a message should be."""


class Calls:
    """Answers calls, as many at a time as `Admission` takes."""

    def __init__(self, settings: Settings, metrics: Metrics, tracer: Tracer) -> None:
        self.admission = Admission(settings.max_concurrency)
        self._timeout = settings.call_timeout
        self._metrics = metrics
        self._tracer = tracer
        self._begun = 0
        self._turns = asyncio.Lock()
        self._looked = self._ended = 0.0

    async def answer(
        self,
        method: str,
        work: Callable[[], Awaitable[Response]],
        request: Message | NoMessage,
        context: Context,
    ) -> Response:
        """What `work` answers, or a status that says why there is no answer."""
        begin = time.perf_counter_ns()
        metadata = metadata_of(context.invocation_metadata())
        request_id = request_id_of(metadata)
        spans = timing.collect()
        said: dict[str, Any] = {"method": method, "request_id": request_id}
        if caller := caller_of_call.get():
            said["caller"] = caller
        code = "OK"
        self._metrics.begun()
        self._begun += 1
        try:
            if isinstance(request, NoMessage):
                raise RequestError("request", "is not a message of this method")
            with self.admission.admit(estimate_work(request)):
                response = await self._in_time(work, context)
            self._metrics.answered(response)
            if isinstance(response, pb.RecommendResponse):
                said["strategy"] = pb.Strategy.Name(response.strategy)
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001 -- gRPC would tell its message to the caller
            ours = error if isinstance(error, NextsongError) else NextsongError(str(error))
            code = code_of(ours).name
            if not is_told(ours):
                said["reason"] = f"{type(error).__name__}: {error}"
            if code == "INTERNAL":
                log.exception("call failed", **said)
            await self._refuse(ours, request_id, context)
        else:
            return response
        finally:
            end = time.perf_counter_ns()
            self._ended = end / 1e9
            self._metrics.ended(method, code, (end - begin) / 1e9, spans)
            self._tracer.record(method, metadata, code, begin, spans)
            level = logging.WARNING if "reason" in said else logging.INFO
            if _logger.isEnabledFor(level):
                ms = round((end - begin) / 1e6, 3)
                log.log(level, "call", **said, code=code, ms=ms, **_shape(request))

    async def _in_time(self, work: Callable[[], Awaitable[Response]], context: Context) -> Response:
        left = context.time_remaining()
        allowed = self._timeout if left is None else min(left, self._timeout)
        try:
            async with asyncio.timeout(allowed):
                async with self._turns:
                    await self._look_up()
                with within(allowed):
                    return await work()
        except TimeoutError as error:
            raise TooLateError(f"no answer within {allowed:.3g} seconds") from error

    async def _look_up(self) -> None:
        """Let the event loop take on the calls that have come, now and then while it is busy.

        It takes on one each time round, and the embedded engine never yields. Without this, calls
        over capacity would wait unseen, where they cannot be turned away.
        """
        now = time.perf_counter()
        if now - self._ended > IDLE_S:
            self._looked = now
        if now - self._looked < LOOK_EVERY_S:
            return
        seen = -1
        while seen != self._begun and time.perf_counter() < now + LONGEST_PAUSE_S:
            seen = self._begun
            await asyncio.sleep(PAUSE_S)
        self._looked = time.perf_counter()

    async def _refuse(self, error: NextsongError, request_id: str, context: Context) -> NoReturn:
        if isinstance(error, EngineError | UnavailableError) and not isinstance(
            error, TooLateError
        ):
            self._metrics.engine_failed()
        status = status_of(error, ((REQUEST_ID, request_id),))
        await context.abort_with_status(status)
        raise AssertionError  # abort_with_status has raised


def _shape(request: Message | NoMessage) -> dict[str, Any]:
    """How much was asked for; at the level debug, what."""
    shape: dict[str, Any] = {}
    if isinstance(request, pb.RecommendRequest):
        shape = {"seeds": len(request.seeds), "limit": request.limit}
    elif isinstance(request, pb.BatchRecommendRequest):
        shape = {"playlists": len(request.requests)}
    if _logger.isEnabledFor(logging.DEBUG) and not isinstance(request, NoMessage):
        shape["request"] = json_format.MessageToDict(request, preserving_proto_field_name=True)
    return shape
