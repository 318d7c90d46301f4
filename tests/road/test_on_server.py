"""The whole road and the API over gRPC on a real Qdrant server: as in the folder, test for test."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.model import Search
from catalog.progress import SilentReporter
from evaluation.judge import harness
from evaluation.synthetic import playlists
from evaluation.systems.location import Place
from ingest import pipeline
from service.client.client import Client
from tests.catalog.test_stores import assert_same
from tests.service.rpc import test_server
from tests.support.qdrant_servers import Shared, qdrant_url, server_stores
from tests.support.road import QUICK, SMALL
from tests.support.rpc_servers import Loop, address, best_known, channel, client, loop, until

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.store import ServerStore

__all__ = ["address", "best_known", "channel", "client", "loop"]
__all__ += ["qdrant_url", "server_stores"]


@dataclass(frozen=True)
class Roads:
    """The same file, taken to a folder and to a server."""

    file: Path
    work: Path
    folder: EmbeddedStore
    home: ServerStore
    outcome: pipeline.Outcome


@pytest.fixture(scope="module")
def road(server_stores: Shared, tmp_path_factory: pytest.TempPathFactory) -> Roads:
    path = tmp_path_factory.mktemp("roads")
    file = path / "playlists.csv"
    playlists.write_csv(playlists.generate(SMALL, seed=1), file)
    folder, home = EmbeddedStore(path / "home"), server_stores()
    pipeline.run([file], {}, folder, path / "work", QUICK, SilentReporter())
    outcome = pipeline.run([file], {}, home, path / "work", QUICK, SilentReporter())
    return Roads(file, path / "work", folder, home, outcome)


# The tests of the service over gRPC, whose fixtures now stand on the server.
for _name in dir(test_server):
    if _name.startswith("test_"):
        globals()[_name] = getattr(test_server, _name)


def test_the_same_is_published(road: Roads) -> None:
    assert road.outcome.published
    ours = road.outcome.manifest
    theirs = road.folder.manifest(road.folder.current() or "")
    assert ours == road.home.manifest(ours.release)
    same = {"release": "", "created": "", "files": {}, "recall": 1.0}
    assert replace(ours, **same) == replace(theirs, **same)


def test_nothing_is_published_twice(road: Roads) -> None:
    again = pipeline.run([road.file], {}, road.home, road.work, QUICK, SilentReporter())
    assert not again.published
    assert again.manifest == road.outcome.manifest


def test_every_song_brings_the_same_songs(road: Roads) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        there, here = road.home.open(), road.folder.open()
        points = await there.popular(60)
        searches = [
            search
            for point in points
            for search in (
                Search(point.vector, limit=20),
                Search(weights={point.song.ordinal: 1.0}, limit=20),
                # Fused ranks are compared in test_homes, where no strengths are equal.
            )
        ]
        found = await there.find(searches), await here.find(searches)
        there.close()
        here.close()
        return found

    for one, other in zip(*asyncio.run(both()), strict=True):
        assert one
        assert_same(one, other)


def test_hit_rates_are_the_same(road: Roads) -> None:
    plan = harness.Plan(split="test", modes=("auto",), baselines=(), behaviours=False, recall=False)
    there, here = (
        harness.evaluate(place, road.work, plan, SilentReporter()).main.figures
        for place in (Place(road.folder.path, road.home.options), Place(road.folder.path))
    )
    for measure in ("hr@10", "hr@100", "mrr@10"):
        # Songs that tie may change places: at the edge, that is one playlist of 51.
        assert there[measure].mean == pytest.approx(here[measure].mean, abs=0.021), measure


def test_the_service_moves_over_to_a_new_release_and_back(
    road: Roads, loop: Loop, server_stores: Shared, tmp_path: Path
) -> None:
    home = server_stores()
    work = tmp_path / "work"
    shutil.copytree(road.work, work)
    first = pipeline.run([road.file], {}, home, work, QUICK, SilentReporter()).manifest.release
    with loop.serve(home) as server, Client(server.address) as client:
        assert client.get_release().release.id == first
        second = pipeline.run([road.file], {}, home, work, QUICK, SilentReporter(), force=True)
        until(lambda: client.get_release().release.id == second.manifest.release)
        home.rollback()
        until(lambda: client.get_release().release.id == first)
