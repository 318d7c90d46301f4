"""A cluster of three nodes with two replicas of each shard survives the death of a node."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from catalog.console.progress import SilentReporter
from catalog.model import Search
from catalog.server.health import check_collections
from catalog.server.options import CollectionLayout
from catalog.server.store import ServerStore
from tests.support.embedded_releases import run
from tests.support.qdrant_servers import Program, await_ready, free_port, options_of
from tests.support.store_content import VECTOR, WEIGHTS, Content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.model import Hit


pytestmark = pytest.mark.usefixtures("qdrant_binary")

QUERY = Search(VECTOR, WEIGHTS, limit=30)
LAYOUT = CollectionLayout(shards=3, replicas=2, write_consistency=2)


def node(folder: Path, first: int | None) -> tuple[Program, int]:
    """Return a node that is not started yet, and its peer port.

    The node joins the cluster of the node whose peer port is `first`. If `first` is None, it
    starts a new cluster.
    """
    folder.mkdir()
    peers = free_port()
    server = Program(folder, QDRANT__CLUSTER__ENABLED="true", QDRANT__CLUSTER__P2P__PORT=str(peers))
    server.arguments = ["--uri", f"http://127.0.0.1:{peers}"]
    if first is not None:
        server.arguments += ["--bootstrap", f"http://127.0.0.1:{first}"]
    return server, peers


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Program]]:
    folder = tmp_path_factory.mktemp("nodes")
    with ExitStack() as stack:
        one, first = node(folder / "0", None)
        stack.enter_context(one)
        others = [node(folder / str(place), first)[0] for place in (1, 2)]
        for other in others:
            stack.enter_context(other)
        yield [one, *others]


def test_no_call_fails_when_a_node_dies_under_load(nodes: list[Program], content: Content) -> None:
    # The gRPC port of each node is its REST port plus 1.
    urls = ",".join(server.url for server in nodes)
    store = ServerStore(replace(options_of(urls), timeout_s=5), layout=LAYOUT)
    release = store.publish(content.draft, SilentReporter()).release
    info = store.nodes.request(
        "look", lambda client: client.get_collection(store.collection(release))
    )
    assert info.config.params.shard_number == 3
    assert info.config.params.replication_factor == 2
    assert info.config.params.write_consistency_factor == 2
    assert {level for level, _, _ in check_collections(store)} == {"ok"}

    async def search_under_load() -> list[list[Hit]]:
        opened = store.open()
        answers: list[list[Hit]] = []
        end = time.monotonic() + 6

        async def ask() -> None:
            while time.monotonic() < end:
                answers.extend(await opened.find([QUERY]))

        async def kill() -> None:
            await asyncio.sleep(1)
            await asyncio.to_thread(nodes[0].kill)

        await asyncio.gather(*[ask() for _ in range(4)], kill())
        opened.close()
        await asyncio.sleep(0.05)
        return answers

    answers = run(search_under_load())  # raises the error of a call that failed
    assert len(answers) > 50
    assert all(len(hits) == 30 for hits in answers)
    first = [(hit.song, pytest.approx(hit.score, abs=1e-6)) for hit in answers[0]]
    assert [(hit.song, hit.score) for hit in answers[-1]] == first
    assert store.current() == release
    nodes[0].start(wait=False)
    await_ready(nodes[0].url, nodes[0].port + 1)
    store.close()
