"""Random requests for the gRPC API, and a program that sends them to the service's methods.

`python -m tests.support.fuzzing HOME SEED COUNT` calls the methods COUNT times, with the release in
the folder HOME, and prints the outcome as JSON. Requests and responses are serialised as in gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import string
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import prometheus_client as prometheus
from google.protobuf.descriptor import FieldDescriptor

from catalog.embedded.store import EmbeddedStore
from nextsong.v1 import recommender_pb2 as pb
from service.operate.current_release import CurrentRelease
from service.operate.metrics import Metrics
from service.rpc.health import SERVICE
from service.rpc.interceptors.admission import Admission
from service.rpc.recommender import Recommender, RecommenderHandler
from service.rpc.server import build_interceptors
from service.settings import Settings
from tests.support.extra_fields import PAYLOAD
from tests.support.extra_fields import POINTS as SONGS

if TYPE_CHECKING:
    from google.protobuf.message import Message


class Fuzz:
    """Makes random messages for the API from the protobuf descriptors. Many are nearly valid."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def call(self) -> tuple[str, Any]:
        """Return the name of a random method, and a random request for it."""
        (name,) = self.random.choices(list(CALLS), weights=[6, 2, 3, 2, 0.2, 0.5, 0.2])
        return name, self.message(CALLS[name])

    def message(self, kind: type[Message], depth: int = 0) -> Any:
        message = kind()
        for field in message.DESCRIPTOR.fields:
            if self.random.random() < (0.9 if field.name == "user_id" else 0.45):
                continue
            if field.is_repeated:
                count = self.random.choice([0, 1, 1, 2, 3, 20 if depth == 0 else 2])
                if field.type == FieldDescriptor.TYPE_MESSAGE:
                    for _ in range(count):
                        part = self.message(field.message_type._concrete_class, depth + 1)
                        getattr(message, field.name).append(part)
                else:
                    getattr(message, field.name).extend(self.value(field) for _ in range(count))
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                part = self.message(field.message_type._concrete_class, depth + 1)
                getattr(message, field.name).CopyFrom(part)
            else:
                setattr(message, field.name, self.value(field))
        return message

    def value(self, field: FieldDescriptor) -> Any:
        pick = self.random.choice
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.text(field.name)
        if field.type in {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}:
            return pick([0.0, -0.0, 0.5, 1.0, -1.0, 1990.0, 1e-45, 1e30, -1e30, *map(float, WILD)])
        if field.type == FieldDescriptor.TYPE_BOOL:
            return pick([False, True])
        if field.type == FieldDescriptor.TYPE_ENUM:
            return pick([0, 1, 2, 3, 4, 5, 99, -1, 2**31 - 1])
        top = 2**32 - 1 if field.type == FieldDescriptor.TYPE_UINT32 else 2**31 - 1
        low = 0 if field.type == FieldDescriptor.TYPE_UINT32 else -(2**31)
        if field.type == FieldDescriptor.TYPE_INT64:
            low, top = -(2**63), 2**63 - 1
        return pick([0, 1, 2, 10, 500, 501, 1976, low, top])

    def text(self, name: str) -> str:
        pick = self.random.choice
        if "song_id" in name and self.random.random() < 0.7:
            if self.random.random() < 0.1:  # a random id; all such ids have the same hash
                return str(UUID(int=self.random.randrange(2**60) * (2**61 - 1)))
            return pick([str(point.song.song_id) for point in SONGS])
        if name == "field" and self.random.random() < 0.8:
            return pick(list(PAYLOAD))
        if self.random.random() < 0.6:
            song = pick(SONGS).song
            return song.artist if "artist" in name else song.title
        return pick(
            [
                "",
                " ",
                "\0",
                "\U0001f3b5" * 50,
                "\u0301" * 100,
                "x" * 512,
                "x" * 5_000,
                "a" + "(mono)" * 85,
                "a" + "(mono)" * 4_000,
                "a" + " - 2010 - remaster" * 28,
                "a feat. b" * 56 + "(",
                "\u0f81\u0f39" * 256,
                "\u0f81\u0f39" * 100_000,
                "\ufdfa" * 512,
                "%s%n{0}\r\n",
                "".join(self.random.choices(string.printable, k=20)),
                "".join(chr(self.random.randrange(1, 0xD7FF)) for _ in range(10)),
            ]
        )


WILD = ["nan", "inf", "-inf", "1001", "-1001"]
CALLS = {
    "Recommend": pb.RecommendRequest,
    "BatchRecommend": pb.BatchRecommendRequest,
    "SimilarSongs": pb.SimilarSongsRequest,
    "SearchSongs": pb.SearchSongsRequest,
    "GetRelease": pb.GetReleaseRequest,
    "RecordPlays": pb.RecordPlaysRequest,
    "ForgetUser": pb.ForgetUserRequest,
}


def measure_memory(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class RefusedError(Exception):
    """Stand-in for the exception that gRPC raises to end a refused call."""


class Context:
    """Stand-in for the context that gRPC passes to a method."""

    code = "OK"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("user-agent", "fuzz"),)

    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, _metadata: Any) -> None:
        pass

    async def abort_with_status(self, status: Any) -> None:
        self.code = status.code.name
        raise RefusedError


class CallDetails:
    """Stand-in for the call details that gRPC passes to a handler."""

    invocation_metadata = ()

    def __init__(self, name: str) -> None:
        self.method = f"/{SERVICE}/{name}"


async def send_all(folder: Path, seed: int, count: int) -> dict[str, Any]:
    """Send `count` requests to the release in `folder`.

    Returns the number of requests by status code, the number of requests per second, and the growth
    of memory in bytes.
    """
    metrics = Metrics(prometheus.CollectorRegistry())
    settings = Settings()
    admission = Admission(settings.max_concurrency)
    current = CurrentRelease(metrics, admission.stall)
    current.replace(EmbeddedStore(folder).open())
    interceptors = build_interceptors(settings, admission, metrics, tracer=None)
    handler = RecommenderHandler(Recommender(current, history=None), interceptors)
    methods: dict[str, Any] = {name: handler.service(CallDetails(name)) for name in CALLS}
    fuzz, counts, warm = Fuzz(seed), dict[str, int](), 0
    begin = time.perf_counter()
    for number in range(count):
        name, request = fuzz.call()
        context, method = Context(), methods[name]
        sent = method.request_deserializer(request.SerializeToString())
        with contextlib.suppress(RefusedError):
            method.response_serializer(await method.unary_unary(sent, context))
        counts[context.code] = counts.get(context.code, 0) + 1
        if number <= count // 10:
            warm = measure_memory(os.getpid())
    per_s = count / (time.perf_counter() - begin)
    current.replace(None)
    return {"counts": counts, "per_s": per_s, "grown": measure_memory(os.getpid()) - warm}


if __name__ == "__main__":
    logging.getLogger("nextsong").setLevel(logging.ERROR)
    outcome = asyncio.run(send_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    sys.stdout.write(json.dumps(outcome))
