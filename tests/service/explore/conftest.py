"""Fixtures of the pages: an explorer of a small release, and a simulated user."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from nicegui.testing import User, user_simulation

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from service.explore.explorer import Explorer, LoggedRun
from service.explore.overview import OverviewTask, StoreLocation
from service.explore.server import register_pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.support.store_content import Content

RUNS = [
    LoggedRun("a", "2026-01-01T10:00:00+00:00", "ingest", "r1", "", {}),
    LoggedRun("b", "2026-01-02T10:00:00+00:00", "evaluate", "r1", "test, last", {"hr@10": 0.125}),
]


@pytest.fixture(scope="package")
def explored(content: Content, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedStore:
    """A store with two releases of songs that have extra fields."""
    store = EmbeddedStore(tmp_path_factory.mktemp("explored"))
    origin = replace(content.draft.origin, parameters={"query_decay": 0.9, "dense_weight": 1.0})
    for _ in range(2):
        store.publish(replace(content.draft, origin=origin), SilentReporter())
    return store


@pytest.fixture
def explorer(explored: EmbeddedStore, tmp_path: Path) -> Iterator[Explorer]:
    """An `Explorer` of the current release. The folder for its files is empty."""
    release = explored.open()
    location = StoreLocation(explored.path, None, release.manifest.release)
    task = OverviewTask(location, tmp_path)
    explorer = Explorer(explored, release, tmp_path, lambda: RUNS, task)
    yield explorer
    explorer.close()


@pytest.fixture
def visit(explorer: Explorer) -> Callable[[Callable[[User], Awaitable[None]]], None]:
    """A function that lets a simulated user follow a scenario."""

    def run(scenario: Callable[[User], Awaitable[None]]) -> None:
        async def simulate() -> None:
            async with user_simulation(root=lambda: None) as user:
                register_pages(explorer)
                await scenario(user)

        modules = dict(sys.modules)
        try:
            asyncio.run(simulate())
        finally:
            # The simulation ends by removing the modules of pages, and their packages, from
            # sys.modules. They are restored, because other tests use them.
            sys.modules.update(modules)

    return run
