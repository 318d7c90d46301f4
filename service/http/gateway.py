"""An HTTP application that answers each request by a call to the gRPC server of this process.

All rules of the API (keys, capacity, deadlines, errors, metrics and logs) are those of the gRPC
server, because every request passes through it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from nextsong.v1 import recommender_pb2 as pb
from service.http.connect import HTTP_STATUS, build_error, convert_error, parse_timeout
from service.http.reference import reference_routes
from service.rpc.call import REQUEST_ID

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

    from service.settings import Settings

SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"]

FORWARDED_HEADERS = ("authorization", "x-api-key", REQUEST_ID, "traceparent", "tracestate")
"""Headers of an HTTP request that are sent as metadata of the gRPC call."""

MIN_THREAD_BYTES = 64 << 10
"""Minimum size of messages that are converted in a thread, so that other calls need not wait."""

CORS_HEADERS = [
    *("content-type", "connect-protocol-version", "connect-timeout-ms"),
    *FORWARDED_HEADERS,
]


class BadRequestError(Exception):
    """A request that is refused without a call to the gRPC server.

    `http_status` replaces the HTTP status that `HTTP_STATUS` has for the gRPC code.
    """

    def __init__(self, code: grpc.StatusCode, message: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status or HTTP_STATUS[code]


class Gateway:
    """Calls the gRPC server at `channel` for each HTTP request."""

    def __init__(self, channel: grpc.aio.Channel, settings: Settings) -> None:
        self._channel = channel
        self._health = health_pb2_grpc.HealthStub(channel)
        self._settings = settings

    def build_app(self) -> Starlette:
        """Return the HTTP application."""
        origins = [origin.strip() for origin in (self._settings.http_cors_origins or "").split(",")]
        cors = Middleware(
            CORSMiddleware,
            allow_origins=[origin for origin in origins if origin],
            allow_methods=["POST"],
            allow_headers=CORS_HEADERS,
            expose_headers=[REQUEST_ID],
        )
        methods = [
            Route(f"/{method.name}", self._build_endpoint(method), methods=["POST"])
            for method in SERVICE.methods
        ]
        return Starlette(
            routes=[
                Mount(f"/{SERVICE.full_name}", routes=methods),
                Route("/health", self.check_health),
                *reference_routes(),
            ],
            middleware=[cors] if any(origins) else [],
        )

    async def check_health(self, _request: Request) -> Response:
        """Return 200 if calls can be answered, otherwise 503."""
        reply = await self._health.Check(health_pb2.HealthCheckRequest())
        is_serving = reply.status == health_pb2.HealthCheckResponse.SERVING
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        return JSONResponse({"status": status}, 200 if is_serving else 503)

    def _build_endpoint(self, method: MethodDescriptor) -> Any:
        request_type = GetMessageClass(method.input_type)
        call = self._channel.unary_unary(
            f"/{SERVICE.full_name}/{method.name}",
            request_type.SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )

        async def answer(request: Request) -> Response:
            try:
                timeout = read_timeout(request)
                message = await self._read_message(request, request_type())
            except BadRequestError as error:
                refusal = build_error(error.code, str(error))
                return JSONResponse(refusal, error.http_status)
            started = call(message, timeout=timeout, metadata=select_metadata(request))
            try:
                response = await started
            except grpc.aio.AioRpcError as error:
                headers = select_headers(error.trailing_metadata())
                return JSONResponse(convert_error(error), HTTP_STATUS[error.code()], headers)
            headers = select_headers(await started.trailing_metadata())
            return Response(await write_json(response), 200, headers, "application/json")

        return answer

    async def _read_message(self, request: Request, message: Message) -> Message:
        """Read the body of a request into `message` and return it. Raises `BadRequestError`."""
        require_plain_json(request)
        try:
            async with asyncio.timeout(self._settings.call_timeout):
                body = await self._read_body(request)
        except TimeoutError as error:
            raise BadRequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time"
            ) from error
        except ClientDisconnect as error:
            raise BadRequestError(
                grpc.StatusCode.CANCELLED, "the caller has disconnected"
            ) from error
        if len(body) < MIN_THREAD_BYTES:
            return parse_json(body, message)
        return await asyncio.to_thread(parse_json, body, message)

    async def _read_body(self, request: Request) -> bytes:
        limit = self._settings.max_request_bytes
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise BadRequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the request is larger than {limit} bytes",
                    http_status=413,
                )
        return bytes(body)


def require_plain_json(request: Request) -> None:
    """Raise `BadRequestError` if the body of a request is not uncompressed JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BadRequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "the body must be JSON: send 'content-type: application/json'",
            http_status=415,
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequestError(
            grpc.StatusCode.UNIMPLEMENTED, "the body must not be compressed", http_status=415
        )


def parse_json(body: bytes, message: Message) -> Message:
    """Parse a JSON object into `message` and return it. Raises `BadRequestError`."""
    try:
        return json_format.ParseDict(json.loads(body or b"{}"), message)
    except (ValueError, RecursionError, json_format.ParseError) as error:
        raise BadRequestError(
            grpc.StatusCode.INVALID_ARGUMENT, f"the body is not a request in JSON: {error}"
        ) from error


async def write_json(message: Message) -> str:
    """Return a message as JSON, with the names of fields in lowerCamelCase."""
    if message.ByteSize() < MIN_THREAD_BYTES:
        return json_format.MessageToJson(message, indent=None)
    return await asyncio.to_thread(json_format.MessageToJson, message, indent=None)


def read_timeout(request: Request) -> float | None:
    """Return the time limit that a request sets, in seconds. Raises `BadRequestError`."""
    text = request.headers.get("connect-timeout-ms")
    if text is None:
        return None
    try:
        return parse_timeout(text)
    except ValueError as error:
        raise BadRequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error


def select_metadata(request: Request) -> list[tuple[str, str]]:
    """Return the `FORWARDED_HEADERS` of a request as gRPC metadata, without malformed values."""
    return [
        (name, value)
        for name in FORWARDED_HEADERS
        if (value := request.headers.get(name)) and value.isascii() and value.isprintable()
    ]


def select_headers(trailers: Any) -> dict[str, str]:
    """Return the headers of a response: the request id in the trailing metadata of the call."""
    return {name: value for name, value in trailers or () if name == REQUEST_ID}
