"""The home on a real Qdrant server: how releases are kept there, and what is noticed of damage."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from qdrant_client import models

from catalog.commands.doctor import examine
from catalog.errors import CorruptReleaseError, EngineError, NoReleaseError, UnavailableError
from catalog.model import Filter
from catalog.progress import SilentReporter
from catalog.server import connection, indexing, upload
from catalog.server.options import CollectionLayout
from catalog.server.store import ServerStore
from tests.support.embedded_releases import Notes, drafted, run, vectors_of
from tests.support.qdrant_servers import Shared, options_of, wipe
from tests.support.server_content import QUERY, answers, name_of
from tests.support.store_content import SONGS, Content

if TYPE_CHECKING:
    from collections.abc import Callable


# How it is kept.


def test_the_collection_is_as_it_should_be(home: ServerStore) -> None:
    info = home.nodes.request("look", lambda client: client.get_collection(name_of(home)))
    indexed = {name: index.data_type.value for name, index in info.payload_schema.items()}
    assert indexed == {
        "artist_key": "keyword",
        "ordinal": "integer",
        "playlists": "integer",
        "search_text": "text",
        "genre": "keyword",
        "year": "integer",
        "tempo": "float",
        "notes": "text",
    }
    assert info.config.strict_mode_config is not None
    assert info.config.strict_mode_config.enabled
    optimizer = info.config.optimizer_config
    assert optimizer.indexing_threshold == indexing.INDEXING_THRESHOLD_KB
    assert optimizer.max_segment_size == upload.LARGEST_SEGMENT_KB
    assert info.segments_count <= optimizer.default_segment_number  # none is merged
    assert info.config.metadata is not None
    assert info.config.metadata["manifest"]["release"] == home.current()
    unindexed = models.FieldCondition(key="title", match=models.MatchValue(value="x"))
    with pytest.raises(EngineError, match="title"):
        home.nodes.request(
            "search",
            lambda client: client.scroll(
                name_of(home), scroll_filter=models.Filter(must=[unindexed])
            ),
        )


def test_many_vectors_are_indexed_before_the_release_is_current(
    server_stores: Shared, tmp_path: Path
) -> None:
    home = server_stores(layout=CollectionLayout(storage="quantized"))
    draft = drafted(tmp_path, vectors_of(6_000, 200))
    notes = Notes()
    release = home.publish(draft, notes).release
    info = home.nodes.request("look", lambda client: client.get_collection(name_of(home)))
    assert info.indexed_vectors_count == 6_000
    assert f"6,000 songs, 6,000 vectors indexed, in release {release}" in notes.results[0]
    vectors = info.config.params.vectors
    assert isinstance(vectors, dict)
    assert vectors["song"].on_disk
    assert vectors["song"].quantization_config is not None
    assert home.manifest(release).recall == pytest.approx(1.0, abs=0.03)
    assert home.verify(release, SilentReporter()).counts.songs == 6_000


def test_several_shards_answer_as_one(
    server_stores: Shared, home: ServerStore, content: Content
) -> None:
    sharded = server_stores(
        layout=CollectionLayout(shards=3, replicas=1, write_consistency=1, storage="disk")
    )
    sharded.publish(content.draft, SilentReporter())
    pushed = replace(QUERY, weights={**QUERY.weights, 7: -0.5})
    few = replace(QUERY, where=Filter(max_playlists=90))
    none = replace(QUERY, where=Filter(include_artists=frozenset({"nobody"})))
    searches = (QUERY, replace(QUERY, weights={}), replace(QUERY, vector=None), pushed, few, none)
    for query in searches:
        assert answers(sharded, query) == answers(home, query)
    assert len(answers(sharded)) == QUERY.limit
    assert not answers(sharded, none)
    info = sharded.nodes.request("look", lambda client: client.get_collection(name_of(sharded)))
    assert info.config.params.shard_number == 3


def test_a_snapshot_brings_a_release_back(home: ServerStore, content: Content) -> None:
    release, name, before = home.current() or "", name_of(home), answers(home)
    address = home.options.urls[0]
    with httpx.Client(base_url=address, timeout=60) as http:
        snapshot = http.post(f"/collections/{name}/snapshots").raise_for_status().json()
        file = http.get(f"/collections/{name}/snapshots/{snapshot['result']['name']}").content
        home.publish(content.draft, SilentReporter())
        home.nodes.request("lose it", lambda client: client.delete_collection(name))
        assert release not in home.releases()
        upload = {"snapshot": ("release.snapshot", file)}
        http.post(
            f"/collections/{name}/snapshots/upload", params={"priority": "snapshot"}, files=upload
        ).raise_for_status()
    assert release in home.releases()
    home.verify(release, SilentReporter())
    assert home.rollback(release) == release
    assert answers(home) == before


# What is noticed.

FIRST = "ordinal"


def point(home: ServerStore, content: Content) -> str:
    return str(content.songs[3].song_id)


def lose_a_song(home: ServerStore, content: Content) -> None:
    chosen: Any = [point(home, content)]
    home.nodes.request(
        "", lambda client: client.delete(name_of(home), models.PointIdsList(points=chosen))
    )


def rename_a_song(home: ServerStore, content: Content) -> None:
    chosen: Any = [point(home, content)]
    home.nodes.request(
        "", lambda client: client.set_payload(name_of(home), {"title": "x"}, points=chosen)
    )


def bend_a_vector(home: ServerStore, content: Content) -> None:
    moved = vectors_of(1, 12, seed=5)[0].tolist()
    changed = models.PointVectors(id=point(home, content), vector={"song": moved})
    home.nodes.request("", lambda client: client.update_vectors(name_of(home), [changed]))


def bend_all_vectors(home: ServerStore, content: Content) -> None:
    for song, vector in zip(content.songs, content.vectors, strict=True):
        if vector is not None and str(song.song_id) in home.manifest(home.current() or "").canaries:
            gone: Any = [str(song.song_id)]
            home.nodes.request(
                "", lambda client, gone=gone: client.delete_vectors(name_of(home), ["song"], gone)
            )
            return


def drop_an_index(home: ServerStore, content: Content) -> None:
    home.nodes.request("", lambda client: client.delete_payload_index(name_of(home), "genre"))


def forge_the_manifest(home: ServerStore, content: Content) -> None:
    forged = {"manifest": {"dimensions": -1}}
    home.nodes.request("", lambda client: client.update_collection(name_of(home), metadata=forged))


@pytest.mark.parametrize(
    ("tamper", "said", "opens"),
    [
        (lose_a_song, f"it holds {SONGS - 1} songs of {SONGS}", False),
        (rename_a_song, "a song was changed", True),
        (bend_a_vector, "a song was changed", True),
        (bend_all_vectors, "cannot be found by its own vector", False),
        (drop_an_index, "the field genre has no keyword index", False),
        (forge_the_manifest, "not a manifest", False),
    ],
)
def test_what_was_tampered_with(
    home: ServerStore,
    content: Content,
    tamper: Callable[[ServerStore, Content], None],
    said: str,
    opens: bool,
) -> None:
    tamper(home, content)
    with pytest.raises(CorruptReleaseError, match=said):
        home.verify(home.current() or "", SilentReporter())
    if opens:
        home.open().close()
    else:
        with pytest.raises(CorruptReleaseError, match=said):
            home.open()
    again = home.publish(content.draft, SilentReporter())
    assert home.verify(again.release, SilentReporter()) == again


def test_an_alias_to_something_else(home: ServerStore) -> None:
    other = f"{home.options.prefix}_mine"
    home.nodes.request("", lambda client: client.create_collection(other, vectors_config={}))
    alias = models.CreateAlias(collection_name=other, alias_name=home.options.prefix)
    gone = models.DeleteAlias(alias_name=home.options.prefix)
    home.nodes.request(
        "",
        lambda client: client.update_collection_aliases(
            [
                models.DeleteAliasOperation(delete_alias=gone),
                models.CreateAliasOperation(create_alias=alias),
            ]
        ),
    )
    with pytest.raises(CorruptReleaseError, match="not a release"):
        home.current()


def test_the_current_release_was_removed(home: ServerStore) -> None:
    release = home.open()
    home.nodes.request("", lambda client: client.delete_collection(name_of(home)))
    with pytest.raises(NoReleaseError, match="is not on the server any more"):
        run(release.find([QUERY]))
    assert home.current() is None  # the alias went with it
    with pytest.raises(NoReleaseError):
        home.open()


@pytest.mark.parametrize("version", ["1.16.3", "0.11.0", "2.0.0", "nonsense", ""])
def test_versions_that_cannot_be_used(version: str) -> None:
    with pytest.raises(EngineError, match=r"needs 1\.17 or later below 2\.0 .*upgrade"):
        connection.require_version(version, "http://q")


@pytest.mark.parametrize("version", ["1.17.0", "1.19.2", "1.100.0-dev"])
def test_versions_that_can_be_used(version: str) -> None:
    connection.require_version(version, "http://q")


def test_a_server_that_is_too_old(
    home: ServerStore, server_stores: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "OLDEST", (1, 99))
    late = server_stores.again(home)
    with pytest.raises(EngineError, match=r"is version 1\..*needs 1\.99"):
        late.current()
    findings = list(examine(Path(), home.options))
    assert "upgrade it" in next(each.what for each in findings if each.level == "failure")


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PAUSE_S", 0.01)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        options = options_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UnavailableError, match=r"does not answer .*check that it runs"):
            ServerStore(replace(options, timeout_s=1)).current()
        findings = list(examine(tmp_path, replace(options, timeout_s=1)))
    assert [each.level for each in findings][-2:] == ["warning", "failure"]


def test_doctor_finds_a_healthy_home_healthy(home: ServerStore, tmp_path: Path) -> None:
    findings = list(examine(tmp_path, home.options))
    # A server that is not on this machine is rightly said to need a key.
    others = [each for each in findings if "is asked without a key" not in each.what]
    assert {each.level for each in others} == {"ok"}
    text = "\n".join(each.what for each in findings)
    for part in ("answers at", "may write" if home.options.api_key else "writing needs no key"):
        assert part in text
    assert f"release {home.current()} (current): {SONGS} songs, all as published" in text
    assert "green" in text


def test_doctor_says_what_is_wrong(home: ServerStore, content: Content, tmp_path: Path) -> None:
    rename_a_song(home, content)
    part = f"{home.options.prefix}_20260101T000000000-abcdef01"
    home.nodes.request(
        "",
        lambda client: client.create_collection(
            part, vectors_config={}, metadata={"state": "uploading"}
        ),
    )
    findings = list(examine(tmp_path, home.options))
    broken = next(each for each in findings if each.level == "failure")
    assert "a song was changed" in broken.what
    assert "no older one is kept" in broken.advice
    assert f"{part} is an upload that did not finish" in [each.what for each in findings]


def test_the_home_is_wiped(home: ServerStore) -> None:
    wipe(home)
    assert home.current() is None
    assert home.all_releases() == []
