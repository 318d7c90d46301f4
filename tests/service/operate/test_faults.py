"""The service on a Qdrant server that is slow, stops answering or dies."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from catalog.console.progress import SilentReporter
from catalog.server.store import ServerStore
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from tests.support.qdrant_servers import (
    AsyncMemoryNodes,
    Program,
    memory_store,
    options_of,
)
from tests.support.rpc_servers import PATIENCE_S, SERVING, Loop, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.store_content import Content


SLOW_LIMIT = 499


class DelayingNodes(AsyncMemoryNodes):
    """Nodes that delay the first listing of songs until `is_released` is set."""

    is_released = False
    waiting = 0

    async def request(
        self, task: str, call: Callable[[Any], Any], deadline: float | None = None
    ) -> Any:
        if task == "list songs" and self.waiting == 0:
            self.waiting += 1
            while not self.is_released:
                await asyncio.sleep(0.005)
        return await super().request(task, call, deadline)


def search(address: str, limit: int = 5, timeout: float = PATIENCE_S) -> pb.SearchSongsResponse:
    with grpc.insecure_channel(address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        request = pb.SearchSongsRequest(query="song", limit=limit)
        answer: pb.SearchSongsResponse = stub.SearchSongs(request, timeout=timeout)
        return answer


def get_status(address: str, timeout: float = PATIENCE_S) -> str:
    try:
        search(address, timeout=timeout)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def is_healthy(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        return bool(check.status == SERVING)


def test_a_slow_query_does_not_delay_other_calls(loop: Loop, content: Content) -> None:
    store = memory_store()
    store.publish(content.draft, SilentReporter())
    nodes = DelayingNodes(store.nodes)  # type: ignore[arg-type]
    store._open_nodes = lambda: nodes  # type: ignore[assignment, return-value]
    slow: list[pb.SearchSongsResponse] = []
    with loop.serve(store, look_every=3600) as server:
        caller = threading.Thread(target=lambda: slow.append(search(server.address, SLOW_LIMIT)))
        caller.start()
        wait_until(lambda: nodes.waiting == 1)
        for _ in range(20):
            assert get_status(server.address) == "OK"
        assert not slow
        nodes.is_released = True
        caller.join(PATIENCE_S)
    assert len(slow) == 1


@contextmanager
def run_on_qdrant(loop: Loop, content: Content, folder: Path) -> Iterator[tuple[Program, str]]:
    """Start a Qdrant server and a service, and yield the server and the address of the service."""
    with Program(folder) as server:
        store = ServerStore(options_of(server.url))
        store.publish(content.draft, SilentReporter())
        with loop.serve(store, look_every=0.2, call_timeout=10) as service:
            assert get_status(service.address) == "OK"
            assert is_healthy(service.address)
            yield server, service.address
        store.close()


@pytest.mark.usefixtures("qdrant_binary")
def test_the_service_recovers_when_the_qdrant_server_restarts(
    loop: Loop, content: Content, tmp_path: Path
) -> None:
    with run_on_qdrant(loop, content, tmp_path) as (server, address):
        server.kill()
        for _ in range(5):
            assert get_status(address) == "UNAVAILABLE"
        wait_until(lambda: not is_healthy(address))
        server.start()
        wait_until(lambda: is_healthy(address))
        wait_until(lambda: get_status(address) == "OK")


@pytest.mark.usefixtures("qdrant_binary")
def test_the_service_recovers_when_the_qdrant_server_answers_again(
    loop: Loop, content: Content, tmp_path: Path
) -> None:
    with run_on_qdrant(loop, content, tmp_path) as (server, address):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            # The service gives up before the deadline: the status is not DEADLINE_EXCEEDED.
            assert get_status(address) == "UNAVAILABLE"
            assert get_status(address, timeout=3) == "UNAVAILABLE"
            wait_until(lambda: not is_healthy(address))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_until(lambda: is_healthy(address))
        wait_until(lambda: get_status(address) == "OK")
