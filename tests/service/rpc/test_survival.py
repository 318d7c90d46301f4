"""Robustness: dropped connections, broken HTTP/2, slow callers and random requests.

The environment variables NEXTSONG_FUZZ and NEXTSONG_CONNECTIONS set the number of random requests
and the number of dropped connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from catalog.embedded.store import EmbeddedStore
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.client.client import Client
from tests.support import fuzzing
from tests.support.extra_fields import PAYLOAD
from tests.support.extra_fields import POINTS as SONGS
from tests.support.fakes import publish
from tests.support.road import ROOT
from tests.support.rpc_servers import PATIENCE_S, WATERLOO, Loop, wait_until
from tests.support.service_process import run_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from catalog.model import Point
    from tests.support.road import Road

pytestmark = pytest.mark.slow


REQUESTS = int(os.environ.get("NEXTSONG_FUZZ", "3000"))
OVER_NETWORK = 2_000
CONNECTIONS = int(os.environ.get("NEXTSONG_CONNECTIONS", "300"))
MAPPED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def build_frame(
    kind: int, flags: int, stream: int, payload: bytes, length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


SETTINGS = build_frame(4, 0, 0, b"")


@pytest.fixture(scope="module")
def address(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on a small release with extra fields."""
    folder = EmbeddedStore(tmp_path_factory.mktemp("survival"))
    publish(folder, SONGS, payload=PAYLOAD)
    with loop.serve(folder) as server:
        yield server.address


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def assert_serves(address: str) -> None:
    with Client(address, PATIENCE_S) as client:
        assert client.recommend(WATERLOO).songs


BROKEN = {
    "nothing": b"",
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "half a preface": PREFACE[:10],
    "noise": random.Random(1).randbytes(10_000),
    "no settings": PREFACE + build_frame(6, 0, 0, bytes(8)),
    "a huge frame": PREFACE + SETTINGS + build_frame(0, 0, 1, b"", (1 << 24) - 1),
    "data on no stream": PREFACE + SETTINGS + build_frame(0, 0, 0, b"x" * 100),
    "headers that are none": PREFACE + SETTINGS + build_frame(1, 4, 1, b"\xff" * 200),
    "an even stream": PREFACE + SETTINGS + build_frame(1, 4, 2, b"\x82"),
    "endless continuation": PREFACE
    + SETTINGS
    + build_frame(1, 0, 1, b"\x82")
    + build_frame(9, 0, 1, b"") * 500,
    "pings": PREFACE + SETTINGS + build_frame(6, 0, 0, bytes(8)) * 2_000,
    "resets": PREFACE + SETTINGS + build_frame(3, 0, 1, bytes(4)) * 2_000,
    "windows": PREFACE + SETTINGS + build_frame(8, 0, 0, struct.pack(">I", 0x7FFFFFFF)) * 3,
    "unknown frames": PREFACE + SETTINGS + build_frame(200, 255, 1, b"x" * 50) * 200,
    "settings of another size": PREFACE + build_frame(4, 0, 0, b"x" * 5),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_broken_http2_does_not_affect_other_callers(address: str, sent: bytes) -> None:
    for _ in range(5):
        with contextlib.suppress(OSError), connect(address) as broken:
            broken.sendall(sent)
            broken.settimeout(0.05)
            broken.recv(1 << 16)
    assert_serves(address)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00\x00\x05ab",
        b"\xff" * 50,
        b"\x0a\xff\xff\xff\xff\x0f",
    ],
    ids=range(5),
)
def test_malformed_messages_are_refused(address: str, payload: bytes) -> None:
    no_message = "request: is not a message of this method"
    with grpc.insecure_channel(address) as channel:
        for method in ("Recommend", "BatchRecommend", "SimilarSongs", "SearchSongs"):
            call = channel.unary_unary(f"/nextsong.v1.Recommender/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(payload, timeout=PATIENCE_S)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert not payload or caught.value.details() == no_message
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/nextsong.v1.Recommender/Nothing")(b"", timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert_serves(address)


def count_open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_dropped_connections_leak_no_files(road: Road) -> None:
    with run_service(road.home.path, "--log-level", "error") as service:
        address, pid = service.address, service.process.pid
        with Client(address) as client:
            client.get_release()
        before = count_open_files(pid)
        for start in range(0, CONNECTIONS, 100):
            connections = [connect(address) for _ in range(100)]
            for number, connection in enumerate(connections):
                if number % 3:
                    connection.sendall(PREFACE + SETTINGS if number % 3 == 1 else b"x")
                if number % 2:  # close the connection with a reset
                    connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                connection.close()
            assert start < CONNECTIONS
        with Client(address, PATIENCE_S) as client:
            client.get_release()
        wait_until(lambda: count_open_files(pid) <= before + 5)
        code, log = service.stop()
        assert code == 0
        assert "Traceback" not in log


def test_slow_callers_do_not_delay_other_callers(address: str) -> None:
    slow = []
    for _ in range(20):
        connection = connect(address)
        unfinished_frame = build_frame(1, 4, 1, b"\x83")[:-1]
        connection.sendall(PREFACE + SETTINGS + unfinished_frame)
        slow.append(connection)
    try:
        for _ in range(20):
            assert_serves(address)
    finally:
        for connection in slow:
            connection.close()


# Random requests that follow the schema of the API


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with a small release with extra fields."""
    folder = tmp_path_factory.mktemp("fuzz")
    publish(EmbeddedStore(folder), SONGS, payload=PAYLOAD)
    return folder


@pytest.mark.timeout(60 + REQUESTS / 100)
def test_any_request_is_answered_or_refused(small: Path) -> None:
    """Two processes call the methods as gRPC does, with serialised requests and responses."""
    command = [sys.executable, "-m", "tests.support.fuzzing", str(small)]
    running = [
        subprocess.Popen(
            [*command, str(seed), str(REQUESTS // 2)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for seed in (20261124, 20261125)
    ]
    for process in running:
        output, log = process.communicate()
        assert (process.returncode, log) == (0, "")
        outcome = json.loads(output)
        counts = outcome["counts"]
        assert sum(counts.values()) == REQUESTS // 2
        assert set(counts) <= MAPPED, counts
        assert counts["OK"] > REQUESTS // 40, counts
        assert counts["INVALID_ARGUMENT"] > REQUESTS // 40, counts
        assert outcome["grown"] < 64 << 20


def test_any_request_over_the_network(small: Path) -> None:
    with run_service(small, "--log-level", "error", "--max-concurrency", "1000") as service:
        pid = service.process.pid
        counts, warm = asyncio.run(_fuzz(service.address, pid))
        assert set(counts) <= MAPPED, counts
        assert counts["OK"] > OVER_NETWORK // 20, counts
        assert counts["INVALID_ARGUMENT"] > OVER_NETWORK // 20, counts
        assert fuzzing.measure_memory(pid) < warm + (64 << 20)
        code, log = service.stop()
        assert (code, log) == (0, "")


async def _fuzz(address: str, pid: int) -> tuple[dict[str, int], int]:
    """Return the number of calls by status, and the memory in bytes after a tenth of the calls."""
    fuzz = fuzzing.Fuzz(7)
    counts: dict[str, int] = {}
    warm = 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)

        async def call(name: str, request: Message) -> None:
            try:
                await getattr(stub, name)(request, timeout=60)
                code = "OK"
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            counts[code] = counts.get(code, 0) + 1

        for start in range(0, OVER_NETWORK, 50):
            await asyncio.gather(*(call(*fuzz.call()) for _ in range(50)))
            if start <= OVER_NETWORK // 10:
                warm = fuzzing.measure_memory(pid)
    return counts, warm


# Callers that never read their responses


def build_call(stream: int, method: str, request: Message) -> bytes:
    """Return the HTTP/2 frames of a call, with uncompressed headers."""

    def encode_literal(name: str, value: str) -> bytes:
        return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    headers = b"\x83\x86" + encode_literal(":path", f"/nextsong.v1.Recommender/{method}")
    headers += encode_literal(":authority", "x") + encode_literal("te", "trailers")
    headers += encode_literal("content-type", "application/grpc")
    message = request.SerializeToString()
    body = b"\0" + struct.pack(">I", len(message)) + message
    return build_frame(1, 4, stream, headers) + build_frame(0, 1, stream, body)


def test_callers_that_never_read_do_not_delay_other_callers(road: Road) -> None:
    seeds = [pb.Seed(artist="nobody", title="nothing")]
    query = pb.RecommendRequest(seeds=seeds, limit=500)
    large = pb.BatchRecommendRequest(requests=[query] * 5)
    with run_service(road.home.path, "--log-level", "error") as service:
        pid = service.process.pid
        assert_serves(service.address)
        files, memory = count_open_files(pid), fuzzing.measure_memory(pid)
        deaf = []
        for _ in range(10):
            connection = connect(service.address)
            connection.sendall(PREFACE + SETTINGS)
            for stream in range(1, 9, 2):
                connection.sendall(build_call(stream, "BatchRecommend", large))
            deaf.append(connection)
        for _ in range(20):
            assert_serves(service.address)
        assert fuzzing.measure_memory(pid) < memory + (128 << 20)
        for connection in deaf:
            connection.close()
        wait_until(lambda: count_open_files(pid) <= files + 5)
        assert_serves(service.address)
        code, log = service.stop()
        assert (code, log) == (0, "")


# Switches of releases


def test_switches_of_releases_under_load(
    loop: Loop, store: EmbeddedStore, best_known: list[Point]
) -> None:
    """No call fails during three switches and two rollbacks, and no response mixes releases."""
    first = store.current()
    assert first is not None
    seed = pb.Seed(song_id=str(best_known[0].song.song_id))
    ended = threading.Event()
    answers: list[str] = []
    failures: list[Exception] = []

    def call(address: str) -> None:
        with Client(address, PATIENCE_S) as client:
            request = pb.RecommendRequest(seeds=[seed], limit=50)
            while not ended.is_set():
                try:
                    answers.append(client.recommend(request).release)
                except Exception as error:  # noqa: BLE001
                    failures.append(error)
                time.sleep(0.005)

    with loop.serve(store) as server:
        callers = [threading.Thread(target=call, args=(server.address,)) for _ in range(3)]
        for caller in callers:
            caller.start()
        try:
            expected = [first]
            for _ in range(3):
                expected.append(publish(store, best_known).release)
                wait_until(lambda: bool(answers) and answers[-1] == expected[-1])
            for back in (expected[2], expected[1]):
                expected.append(store.rollback(back))
                wait_until(lambda: answers[-1] == expected[-1])
        finally:
            ended.set()
            for caller in callers:
                caller.join(PATIENCE_S)
    assert failures == []
    assert set(answers) == set(expected)
