"""A server that says nothing at all: callers learn it in time, and others are asked instead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from catalog import deadline
from catalog.errors import UnavailableError
from catalog.server import connection
from catalog.server.connection import ROUNDS, AsyncNodes
from catalog.server.options import QdrantOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qdrant_client import models

PATIENCE_S = 0.4


class Fake:
    """A client of a node that answers with its name, or says nothing."""

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


async def asked(nodes: AsyncNodes) -> Any:
    """What is answered to one who waits for no longer than `PATIENCE_S`."""
    call: Callable[[Any], Awaitable[str]] = Fake.answer
    async with asyncio.timeout(PATIENCE_S):
        with deadline.within(PATIENCE_S):
            return await nodes.request("speak", call)


def test_silence_is_told_before_the_caller_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, silent = nodes_of(monkeypatch, "a")

    async def listen() -> None:
        assert await asked(nodes) == "a"
        silent.add("a")
        for _ in range(2):
            with pytest.raises(UnavailableError, match="did not speak in time"):
                await asked(nodes)
        silent.clear()
        assert await asked(nodes) == "a"

    asyncio.run(listen())


def test_another_node_is_asked_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, silent = nodes_of(monkeypatch, "a", "b")
    silent.add("a")

    async def listen() -> None:
        assert await asked(nodes) == "b"
        assert await asked(nodes) == "b"
        silent.add("b")
        with pytest.raises(UnavailableError):
            await asked(nodes)

    asyncio.run(listen())


def test_once_all_were_silent_tries_are_short_until_one_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "TRY_S", 0.1)
    monkeypatch.setattr(connection, "SHORT_TRY_S", 0.0)
    nodes, silent = nodes_of(monkeypatch, "a")
    waits: list[str] = []

    async def slow(client: Any) -> str:
        waits.append("asked")
        await asyncio.sleep(0.02)
        return str(await client.answer())

    async def listen() -> None:
        with deadline.within(60):
            assert await nodes.request("speak", slow) == "a"
            silent.add("a")
            with pytest.raises(UnavailableError):
                await nodes.request("speak", slow)
            silent.clear()
            with pytest.raises(UnavailableError):  # 0.02 s are too long now
                await nodes.request("speak", slow)
            monkeypatch.setattr(connection, "SHORT_TRY_S", 1.0)
            assert await nodes.request("speak", slow) == "a"
            monkeypatch.setattr(connection, "SHORT_TRY_S", 0.0)
            assert await nodes.request("speak", slow) == "a"

    asyncio.run(listen())


def test_one_slow_question_makes_none_of_the_others_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TRY_S", 0.1)
    monkeypatch.setattr(connection, "SHORT_TRY_S", 0.0)
    nodes, _ = nodes_of(monkeypatch, "a")

    async def endless(_client: Any) -> str:
        await asyncio.sleep(3600)
        return ""

    async def listen() -> None:
        with deadline.within(60):
            slow = asyncio.create_task(nodes.request("think", endless))
            await asyncio.sleep(0.02)
            assert await nodes.request("speak", Fake.answer) == "a"
            with pytest.raises(UnavailableError):
                await slow
            assert await nodes.request("speak", Fake.answer) == "a"

    asyncio.run(listen())


def test_nobody_waiting_nothing_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TRY_S", 0.0)
    nodes, _ = nodes_of(monkeypatch, "a")

    async def slow(client: Any) -> str:
        await asyncio.sleep(0.02)
        return str(await client.answer())

    assert asyncio.run(nodes.request("speak", slow)) == "a"


def test_the_engine_is_told_in_whole_seconds() -> None:
    assert deadline.whole_seconds() is None
    with deadline.within(2.5):
        assert deadline.whole_seconds() == 3
        with deadline.within(0.01):
            assert deadline.whole_seconds() == 1
        assert deadline.whole_seconds() == 3
    assert deadline.left() is None


@pytest.mark.parametrize("garbled", [1, 9])
def test_a_garbled_answer_is_asked_for_again(garbled: int) -> None:
    answers = iter([b"\xff" * 9] * garbled)

    async def answer(_request: bytes, _context: object) -> bytes:
        return next(answers, b"")  # nothing found

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
