"""Fixtures of the catalog tests: stores of each kind, with a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from tests.support.qdrant_servers import memory_store

if TYPE_CHECKING:
    from catalog.store import ReleaseStore
    from tests.support.store_content import Content


@pytest.fixture(
    scope="module",
    params=["folder", "memory", pytest.param("server", marks=pytest.mark.server)],
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def make_store(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A function that creates an empty store of the kind that the fixture `kind` names."""
    if kind == "folder":
        return lambda **more: EmbeddedStore(tmp_path_factory.mktemp("home"), **more)
    return memory_store if kind == "memory" else request.getfixturevalue("server_stores")


@pytest.fixture(scope="module")
def store(
    kind: str, make_store: Any, content: Content, request: pytest.FixtureRequest
) -> ReleaseStore:
    """A store with a release of `content`. No test changes the store."""
    if kind == "folder":
        published: ReleaseStore = request.getfixturevalue("published")
        return published
    store: ReleaseStore = make_store()
    store.publish(content.draft, SilentReporter())
    return store
