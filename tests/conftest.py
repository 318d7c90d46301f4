"""Fixtures that tests of several packages use: a small release, a Qdrant server, an event loop.

All other fixtures are defined in the conftest of the folder in which they are used.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import hypothesis
import pytest

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from evaluation.synthetic import playlists
from ingest import pipeline
from tests.support.pipeline_runs import Lane
from tests.support.qdrant_servers import BINARY, Program, Shared, container
from tests.support.road import QUICK, SHARED_DATA, SMALL, Road, ServerRoad, Terminal, copy_store
from tests.support.rpc_servers import Loop
from tests.support.store_content import Content, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


# Examples have no time limit, because the machine may be busy. `print_blob` prints how to reproduce
# a failure.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")

SERVER_FIXTURES = {"qdrant_url", "qdrant_binary"}


@pytest.hookimpl(tryfirst=True)  # run before pytest selects tests by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that uses a real Qdrant server with `server`."""
    for item in items:
        if isinstance(item, pytest.Function) and SERVER_FIXTURES & {*item.fixturenames}:
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data next to the checkout. If it is missing, the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """A function that makes standard output a terminal with the given number of columns."""

    def make(width: int) -> Terminal:
        made = Terminal()
        monkeypatch.setattr(sys, "stdout", made)
        monkeypatch.setenv("COLUMNS", str(width))
        return made

    return make


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A release of 500 synthetic playlists. Tests must not change it, only a copy of it."""
    folder = tmp_path_factory.mktemp("road")
    file = folder / "playlists.csv"
    playlists.write_csv(playlists.generate(SMALL, seed=1), file)
    home = EmbeddedStore(folder / "home")
    outcome = pipeline.run([file], home, folder / "work", QUICK, SilentReporter())
    return Road(file, home, folder / "work", QUICK, outcome)


@pytest.fixture(scope="session")
def server_road(
    road: Road, server_stores: Shared, tmp_path_factory: pytest.TempPathFactory
) -> ServerRoad:
    """The playlists of `road`, published to a Qdrant server."""
    work = tmp_path_factory.mktemp("server-road") / "work"
    shutil.copytree(road.work, work)
    home = server_stores()
    outcome = pipeline.run([road.file], home, work, road.parameters, SilentReporter())
    return ServerRoad(road.file, home, work, outcome)


@pytest.fixture
def lane(road: Road, tmp_path: Path) -> Lane:
    """A copy of the work folder and store of `road`, in which a test can run the ingest again."""
    shutil.copytree(road.work, tmp_path / "work")
    return Lane(road, tmp_path / "work", copy_store(road.home, tmp_path / "home"), road.file)


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """Songs with extra fields, dense and sparse vectors, as a draft. Tests must not change it."""
    return made(tmp_path_factory.mktemp("draft"), seed=0)


@pytest.fixture(scope="session")
def published(content: Content, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedStore:
    """A store with a release of `content`. Tests must not change it, only a copy of it."""
    store = EmbeddedStore(tmp_path_factory.mktemp("published"))
    store.publish(content.draft, SilentReporter())
    return store


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Qdrant server. Tests that need it are marked `server`."""
    if url := os.environ.get("QDRANT_URL"):
        yield url
    elif BINARY:
        with Program(tmp_path_factory.mktemp("qdrant")) as server:
            yield server.url
    else:
        with container() as url:
            yield url


@pytest.fixture(scope="session")
def qdrant_binary() -> None:
    """Skip tests that start and kill servers if no Qdrant binary is configured."""
    if not BINARY:
        pytest.skip("NEXTSONG_QDRANT_BINARY is not set to a Qdrant binary")


@pytest.fixture(scope="session")
def server_stores(qdrant_url: str) -> Iterator[Shared]:
    """A factory of stores on the real server, which are removed at the end."""
    shared = Shared(qdrant_url)
    yield shared
    shared.clean()


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """An event loop in a separate thread, for servers and asynchronous calls."""
    loop = Loop()
    yield loop
    loop.close()
