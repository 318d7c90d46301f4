"""Fixtures of the embedded store: a small release, a large release, and a copy to damage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from catalog.embedded import store as embedded_store
from catalog.embedded.store import EmbeddedStore
from tests.support.embedded_releases import Library, library
from tests.support.road import linked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from catalog.draft import Draft
    from catalog.manifest import Manifest


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A release of 300 songs, few enough for exact search."""
    yield from library(tmp_path_factory.mktemp("small"), 300, 8)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A release of 6,000 songs with 64 dimensions, enough for search with the HNSW graph."""
    yield from library(tmp_path_factory.mktemp("large"), 6_000, 64)


@pytest.fixture
def store(small: Library, tmp_path: Path) -> EmbeddedStore:
    """A copy of the small store that a test may damage."""
    shutil.copytree(small.store.path, tmp_path / "home", copy_function=linked)
    return EmbeddedStore(tmp_path / "home")


@pytest.fixture
def quick(small: Library, monkeypatch: pytest.MonkeyPatch) -> Draft:
    """A draft of the small release. To publish it, the release is copied instead of built."""
    template = small.release.manifest

    def build(
        draft: Draft, folder: Path, release: str, created: datetime, reporter: object
    ) -> Manifest:
        shutil.copytree(small.shard, folder / "shard", copy_function=linked)
        manifest = replace(template, release=release, created=created.isoformat())
        (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    monkeypatch.setattr(embedded_store, "_build", build)
    return small.draft
