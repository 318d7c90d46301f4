"""Servers that do not answer: errors are raised before the deadline, and other nodes are tried."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from catalog.errors import EngineError, UnavailableError
from catalog.server import connection
from catalog.server.connection import ROUNDS, AsyncNodes, Nodes, whole_seconds_left
from catalog.server.options import QdrantOptions
from catalog.server.release import ServerRelease
from tests.support.fakes import FakeRelease, points_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qdrant_client import models

PATIENCE_S = 0.4


class Fake:
    """A client of a node. Its requests return the name of the node, or are never answered."""

    def __init__(self, url: str, silent: set[str]) -> None:
        self.url = url
        self._silent = silent

    async def answer(self) -> str:
        if self.url in self._silent:
            await asyncio.sleep(3600)
        return self.url


def nodes_of(monkeypatch: pytest.MonkeyPatch, *urls: str) -> tuple[AsyncNodes, set[str]]:
    silent: set[str] = set()
    nodes = AsyncNodes(QdrantOptions(urls))
    monkeypatch.setattr(nodes, "_client", lambda url: Fake(url, silent))
    return nodes, silent


async def request_in_time(nodes: AsyncNodes) -> Any:
    """Send a request with a deadline of `PATIENCE_S`, and return the answer."""
    call: Callable[[Any], Awaitable[str]] = Fake.answer
    async with asyncio.timeout(PATIENCE_S):
        return await nodes.request("speak", call, time.monotonic() + PATIENCE_S)


def test_a_silent_node_is_an_error_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, silent = nodes_of(monkeypatch, "a")

    async def listen() -> None:
        assert await request_in_time(nodes) == "a"
        silent.add("a")
        for _ in range(2):
            with pytest.raises(UnavailableError, match="did not speak in time"):
                await request_in_time(nodes)
        silent.clear()
        assert await request_in_time(nodes) == "a"

    asyncio.run(listen())


def test_another_node_is_tried_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, silent = nodes_of(monkeypatch, "a", "b")
    silent.add("a")

    async def listen() -> None:
        assert await request_in_time(nodes) == "b"
        assert await request_in_time(nodes) == "b"
        silent.add("b")
        with pytest.raises(UnavailableError):
            await request_in_time(nodes)

    asyncio.run(listen())


def test_tries_are_short_while_no_node_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "TRY_S", 0.1)
    monkeypatch.setattr(connection, "SHORT_TRY_S", 0.0)
    nodes, silent = nodes_of(monkeypatch, "a")
    waits: list[str] = []

    async def slow(client: Any) -> str:
        waits.append("request")
        await asyncio.sleep(0.02)
        return str(await client.answer())

    async def listen() -> None:
        deadline = time.monotonic() + 60
        assert await nodes.request("speak", slow, deadline) == "a"
        silent.add("a")
        with pytest.raises(UnavailableError):
            await nodes.request("speak", slow, deadline)
        silent.clear()
        with pytest.raises(UnavailableError):  # a request of 0.02 s exceeds `SHORT_TRY_S`
            await nodes.request("speak", slow, deadline)
        monkeypatch.setattr(connection, "SHORT_TRY_S", 1.0)
        assert await nodes.request("speak", slow, deadline) == "a"
        monkeypatch.setattr(connection, "SHORT_TRY_S", 0.0)
        assert await nodes.request("speak", slow, deadline) == "a"

    asyncio.run(listen())


def test_one_slow_request_does_not_shorten_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TRY_S", 0.1)
    monkeypatch.setattr(connection, "SHORT_TRY_S", 0.0)
    nodes, _ = nodes_of(monkeypatch, "a")

    async def endless(_client: Any) -> str:
        await asyncio.sleep(3600)
        return ""

    async def listen() -> None:
        deadline = time.monotonic() + 60
        slow = asyncio.create_task(nodes.request("think", endless, deadline))
        await asyncio.sleep(0.02)
        assert await nodes.request("speak", Fake.answer, deadline) == "a"
        with pytest.raises(UnavailableError):
            await slow
        assert await nodes.request("speak", Fake.answer, deadline) == "a"

    asyncio.run(listen())


def test_a_request_without_a_deadline_is_not_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TRY_S", 0.0)
    nodes, _ = nodes_of(monkeypatch, "a")

    async def slow(client: Any) -> str:
        await asyncio.sleep(0.02)
        return str(await client.answer())

    assert asyncio.run(nodes.request("speak", slow)) == "a"


def test_the_time_left_is_rounded_up_to_whole_seconds() -> None:
    now = time.monotonic()
    assert whole_seconds_left(None) is None
    assert whole_seconds_left(now + 60) == 60
    assert whole_seconds_left(now + 0.01) == 1
    assert whole_seconds_left(now - 60) == 1


def test_a_release_passes_its_deadline_to_its_requests() -> None:
    seen: list[tuple[float | None, int | None]] = []

    class Client:
        async def scroll(self, _collection: str, *, timeout: int | None, **_: Any) -> Any:
            seen[-1] = (seen[-1][0], timeout)
            return [], None

    class RecordingNodes:
        async def request(self, _task: str, call: Any, deadline: float | None) -> Any:
            seen.append((deadline, None))
            return await call(Client())

    manifest = FakeRelease(points_of(("A", "B", 1, (1.0,)))).manifest
    release = ServerRelease(RecordingNodes(), "collection", manifest)  # type: ignore[arg-type]
    deadline = time.monotonic() + 60
    asyncio.run(release.with_deadline(deadline).popular(1))
    asyncio.run(release.popular(1))
    assert seen == [(deadline, 60), (None, None)]


@pytest.mark.parametrize("garbled", [1, 9])
def test_an_unreadable_response_is_requested_again(garbled: int) -> None:
    answers = iter([b"\xff" * 9] * garbled)

    async def answer(_request: bytes, _context: object) -> bytes:
        return next(answers, b"")  # an empty response

    async def ask() -> list[models.Record]:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(answer)
        handlers = grpc.method_handlers_generic_handler("qdrant.Points", {"Get": handler})
        server.add_generic_rpc_handlers((handlers,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        nodes = AsyncNodes(QdrantOptions(("http://127.0.0.1:1",), grpc_port=port))
        try:
            return await nodes.request("retrieve", lambda client: client.retrieve("songs", [1]))
        finally:
            await server.stop(None)

    if garbled < ROUNDS:
        assert asyncio.run(ask()) == []
    else:
        with pytest.raises(
            UnavailableError, match="failed to retrieve: its response cannot be read"
        ):
            asyncio.run(ask())


def unavailable_nodes(monkeypatch: pytest.MonkeyPatch) -> tuple[Nodes, list[str]]:
    """Return two nodes that never answer, and the list of all requests to them."""
    tried: list[str] = []
    nodes = Nodes(QdrantOptions(("a", "b")))
    monkeypatch.setattr(connection, "PAUSE_S", 0.001)
    monkeypatch.setattr(nodes, "client", lambda url: url)
    monkeypatch.setattr(nodes, "version", lambda url: "1.19")
    return nodes, tried


def fail(tried: list[str]) -> Callable[[Any], str]:
    def call(url: Any) -> str:
        tried.append(url)
        raise UnavailableError(url)

    return call


def test_each_node_is_tried_once_per_round(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, tried = unavailable_nodes(monkeypatch)
    with pytest.raises(UnavailableError):
        nodes.request("speak", fail(tried))
    assert tried == ["a", "b"] * ROUNDS


def test_a_request_made_once_tries_each_node_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, tried = unavailable_nodes(monkeypatch)
    with nodes.retrying_for(60), pytest.raises(UnavailableError):
        nodes.request("speak", fail(tried), once=True)
    assert tried == ["a", "b"]


def test_patient_requests_are_repeated_until_a_node_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes, tried = unavailable_nodes(monkeypatch)

    def call(url: Any) -> str:
        tried.append(url)
        if len(tried) <= 2 * ROUNDS:
            raise UnavailableError(url)
        return str(url)

    with nodes.retrying_for(60):
        assert nodes.request("speak", call) == "a"
    assert len(tried) == 2 * ROUNDS + 1


def test_other_errors_are_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, tried = unavailable_nodes(monkeypatch)

    def call(url: Any) -> str:
        tried.append(url)
        raise EngineError(url)

    with pytest.raises(EngineError):
        nodes.request("speak", call)
    assert tried == ["a"]
