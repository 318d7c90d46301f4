"""Malformed ids, copies that differ, failures after publishing, and stalled indexing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qdrant_client import models

from catalog.commands.copy import copy_release
from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import EngineError, GateError, NoReleaseError, UnavailableError
from catalog.server import indexing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease, ReleaseStore
    from tests.support.store_content import Content


def test_a_copy_that_differs_is_refused_and_changes_nothing(
    store: ReleaseStore,
    make_store: Any,
    content: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = make_store()
    before = there.publish(content.draft, SilentReporter()).release
    batches = there.batches

    def altered(release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        for rows in batches(release):
            rows[0]["title"] = "another"
            yield rows

    monkeypatch.setattr(there, "batches", altered)
    with pytest.raises(GateError, match="not identical to the original"):
        copy_release(store, there, None, tmp_path, SilentReporter())
    assert (there.current(), there.releases()) == (before, [before])


@pytest.fixture(scope="module")
def two_releases(make_store: Any, content: Content) -> tuple[ReleaseStore, str, str]:
    """A store with two releases, and their ids, the older one first."""
    store = make_store()
    older = store.publish(content.draft, SilentReporter()).release
    return store, older, store.publish(content.draft, SilentReporter()).release


@pytest.mark.parametrize("form", ["./{}", "{}/", "{}/.", "../releases/{}", "nothing", "{}\n"])
def test_a_malformed_release_id_is_refused(
    two_releases: tuple[ReleaseStore, str, str], form: str
) -> None:
    store, older, current = two_releases
    name = form.format(older)
    for use in (
        lambda: store.rollback(name),
        lambda: store.open(name),
        lambda: store.manifest(name),
        lambda: store.verify(name, SilentReporter()),
        lambda: store.export(name, Path("unused"), SilentReporter()),
    ):
        with pytest.raises(NoReleaseError, match="is not a release in"):
            use()
    assert store.current() == current


def test_a_release_is_current_even_if_old_ones_cannot_be_removed(
    make_store: Any, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()

    def failing(_keep: int) -> list[str]:
        raise UnavailableError("away")

    monkeypatch.setattr(store, "_prune", failing)
    published = store.publish(content.draft, SilentReporter()).release
    assert store.current() == published


def test_only_releases_are_listed(content: Content, tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    release = store.publish(content.draft, SilentReporter()).release
    (tmp_path / "releases" / "lost+found").mkdir()
    (tmp_path / "releases" / "20260101T000000000-afile").write_text("")
    assert store.releases() == [release]


class Optimiser:
    """A fake server. Each query for the state of the collection returns the next of `states`.

    A state is the status and the number of indexed vectors. The last state is repeated.
    """

    def __init__(self, *states: tuple[str, int]) -> None:
        self.states = list(states)
        self.starts = 0

    def request(self, task: str, _call: Any, **_: Any) -> Any:
        if task == "start indexing":
            self.starts += 1
        if task == "read the state of the replicas":
            return models.CollectionClusterInfo(
                peer_id=1, shard_count=1, local_shards=[], remote_shards=[], shard_transfers=[]
            )
        status, indexed = self.states[0]
        if len(self.states) > 1:
            del self.states[0]
        return models.CollectionInfo.model_construct(
            status=models.CollectionStatus(status),
            optimizer_status=models.OptimizersStatusOneOf.OK,
            indexed_vectors_count=indexed,
            segments_count=2,
        )


class Large:
    """The parts of a draft that indexing needs: 100,000 vectors of 64 numbers, 25 MB."""

    dimensions = 64

    class counts:  # noqa: N801
        vectors = 100_000
        songs = predicted = 100_000  # sparse vectors of each kind


def test_a_green_status_is_not_trusted_before_vectors_are_indexed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(indexing, "POLL_S", 0.001)
    early = [("green", 200_000)] * 8 + [("yellow", 240_000)] * 3
    server: Any = Optimiser(*early, ("green", 297_000))
    large: Any = Large()
    with SilentReporter().task("") as task:
        assert indexing.build_index(server, "c", large, task) == 297_000


def test_an_idle_optimizer_is_started_again_and_then_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(indexing, "POLL_S", 0.001)
    monkeypatch.setattr(indexing, "IDLE_S", 0.05)
    monkeypatch.setattr(indexing, "NUDGE_S", 0.01)
    server: Any = Optimiser(("green", 200_000), ("grey", 240_000))
    large: Any = Large()
    with (
        SilentReporter().task("") as task,
        pytest.raises(
            EngineError, match=r"stopped indexing c at 40,000 of 100,000 vectors \(grey\)"
        ),
    ):
        indexing.build_index(server, "c", large, task)
    assert server.starts > 1
