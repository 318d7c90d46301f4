"""What homes are spared: ids that are none, copies that differ, and failures after the fact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qdrant_client import models

from catalog.commands.copy import copy
from catalog.embedded.store import EmbeddedStore
from catalog.errors import EngineError, GateError, NoReleaseError, UnavailableError
from catalog.progress import SilentReporter
from catalog.server import indexing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease, ReleaseStore
    from tests.support.store_content import Content


def test_a_copy_that_is_not_the_same_changes_nothing(
    home: ReleaseStore,
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
    with pytest.raises(GateError, match="not the same to the bit"):
        copy(home, there, None, tmp_path, SilentReporter())
    assert (there.current(), there.releases()) == (before, [before])


@pytest.mark.parametrize("form", ["./{}", "{}/", "{}/.", "../releases/{}", "nothing", "{}\n"])
def test_what_is_no_id_is_no_release(make_store: Any, content: Content, form: str) -> None:
    home = make_store()
    older = home.publish(content.draft, SilentReporter()).release
    current = home.publish(content.draft, SilentReporter()).release
    name = form.format(older)
    for use in (
        lambda: home.rollback(name),
        lambda: home.open(name),
        lambda: home.manifest(name),
        lambda: home.verify(name, SilentReporter()),
        lambda: home.export(name, Path("unused"), SilentReporter()),
    ):
        with pytest.raises(NoReleaseError, match="is no release of"):
            use()
    assert home.current() == current
    assert home.rollback(older) == older


def test_old_releases_that_cannot_be_removed_do_not_undo_a_new_one(
    make_store: Any, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_store()

    def failing(_keep: int) -> list[str]:
        raise UnavailableError("away")

    monkeypatch.setattr(home, "_prune", failing)
    published = home.publish(content.draft, SilentReporter()).release
    assert home.current() == published


def test_only_releases_are_listed(content: Content, tmp_path: Path) -> None:
    home = EmbeddedStore(tmp_path)
    release = home.publish(content.draft, SilentReporter()).release
    (tmp_path / "releases" / "lost+found").mkdir()
    (tmp_path / "releases" / "20260101T000000000-afile").write_text("")
    assert home.releases() == [release]


class Optimiser:
    """A server whose index looks as one state after another says; the last one stays."""

    def __init__(self, *states: tuple[str, int]) -> None:
        self.states = list(states)
        self.told = 0

    def request(self, task: str, _call: Any, **_: Any) -> Any:
        if task == "start indexing":
            self.told += 1
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
    """As much of a draft as the index needs: 100,000 vectors of 64 numbers, 25 MB."""

    dimensions = 64

    class counts:  # noqa: N801
        vectors = 100_000


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "POLL_S", 0.001)
    monkeypatch.setattr(indexing, "IDLE_S", 0.05)
    monkeypatch.setattr(indexing, "NUDGE_S", 0.01)


@pytest.mark.usefixtures("hasty")
def test_green_is_not_enough_where_many_vectors_are_not_indexed() -> None:
    early = [("green", 0)] * 8 + [("yellow", 40_000)] * 3
    server: Any = Optimiser(*early, ("green", 97_000))
    large: Any = Large()
    with SilentReporter().task("") as task:
        assert indexing.build_index(server, "c", large, task) == 97_000


@pytest.mark.usefixtures("hasty")
def test_an_index_that_stands_still_is_told_again_and_then_given_up() -> None:
    server: Any = Optimiser(("grey", 40_000))
    large: Any = Large()
    with (
        SilentReporter().task("") as task,
        pytest.raises(
            EngineError, match=r"stopped indexing c at 40,000 of 100,000 vectors \(grey\)"
        ),
    ):
        indexing.build_index(server, "c", large, task)
    assert server.told > 1
