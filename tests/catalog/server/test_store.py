"""The store on a real Qdrant server: schema of the collections, damage, versions and health."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from qdrant_client import models

from catalog.commands.doctor import examine
from catalog.console.progress import SilentReporter
from catalog.errors import CorruptReleaseError, EngineError, NoReleaseError, UnavailableError
from catalog.model import Filter
from catalog.server import connection, indexing, upload
from catalog.server.options import CollectionLayout
from catalog.server.store import ServerStore
from tests.support.embedded_releases import Notes, drafted, run, vectors_of
from tests.support.qdrant_servers import Shared, options_of, wipe
from tests.support.server_content import QUERY, answers, name_of
from tests.support.store_content import SONGS, Content

if TYPE_CHECKING:
    from collections.abc import Callable


# Schema and settings of the collections


def test_schema_and_settings_of_the_collection(store: ServerStore) -> None:
    info = store.nodes.request("look", lambda client: client.get_collection(name_of(store)))
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
    assert info.segments_count <= optimizer.default_segment_number  # no segments were merged
    assert info.config.metadata is not None
    assert info.config.metadata["manifest"]["release"] == store.current()
    unindexed = models.FieldCondition(key="title", match=models.MatchValue(value="x"))
    with pytest.raises(EngineError, match="title"):
        store.nodes.request(
            "search",
            lambda client: client.scroll(
                name_of(store), scroll_filter=models.Filter(must=[unindexed])
            ),
        )


def test_many_vectors_are_indexed_before_the_release_is_current(
    server_stores: Shared, tmp_path: Path
) -> None:
    store = server_stores(layout=CollectionLayout(storage="quantized"))
    draft = drafted(tmp_path, vectors_of(6_000, 200))
    notes = Notes()
    release = store.publish(draft, notes).release
    info = store.nodes.request("look", lambda client: client.get_collection(name_of(store)))
    assert info.indexed_vectors_count == 12_000  # with the sparse vectors of spellings
    assert f"6,000 songs, 12,000 vectors indexed, in release {release}" in notes.results[0]
    vectors = info.config.params.vectors
    assert isinstance(vectors, dict)
    assert vectors["song"].on_disk
    assert vectors["song"].quantization_config is not None
    assert store.manifest(release).recall == pytest.approx(1.0, abs=0.03)
    assert store.verify(release, SilentReporter()).counts.songs == 6_000


def test_a_sharded_release_returns_the_same_hits(
    server_stores: Shared, store: ServerStore, content: Content
) -> None:
    sharded = server_stores(
        layout=CollectionLayout(shards=3, replicas=1, write_consistency=1, storage="disk")
    )
    sharded.publish(content.draft, SilentReporter())
    # Each shard fuses its own songs, so hybrid results are the same only if all songs are fused.
    everything = replace(QUERY, limit=500)
    few = replace(QUERY, where=Filter(max_playlists=90))
    none = replace(QUERY, where=Filter(include_artists=frozenset({"nobody"})))
    searches = (everything, replace(QUERY, weights={}), replace(QUERY, vector=None), few, none)
    for query in searches:
        assert answers(sharded, query) == answers(store, query)
    assert len(answers(sharded)) == QUERY.limit
    assert not answers(sharded, none)
    info = sharded.nodes.request("look", lambda client: client.get_collection(name_of(sharded)))
    assert info.config.params.shard_number == 3


def test_a_release_is_restored_from_a_snapshot(store: ServerStore, content: Content) -> None:
    release, name, before = store.current() or "", name_of(store), answers(store)
    address = store.options.urls[0]
    with httpx.Client(base_url=address, timeout=60) as http:
        snapshot = http.post(f"/collections/{name}/snapshots").raise_for_status().json()
        file = http.get(f"/collections/{name}/snapshots/{snapshot['result']['name']}").content
        store.publish(content.draft, SilentReporter())
        store.nodes.request("lose it", lambda client: client.delete_collection(name))
        assert release not in store.releases()
        upload = {"snapshot": ("release.snapshot", file)}
        http.post(
            f"/collections/{name}/snapshots/upload", params={"priority": "snapshot"}, files=upload
        ).raise_for_status()
    assert release in store.releases()
    store.verify(release, SilentReporter())
    assert store.rollback(release) == release
    assert answers(store) == before


# Damage, versions and health

FIRST = "ordinal"


def point(store: ServerStore, content: Content) -> str:
    return str(content.songs[3].song_id)


def lose_a_song(store: ServerStore, content: Content) -> None:
    chosen: Any = [point(store, content)]
    store.nodes.request(
        "", lambda client: client.delete(name_of(store), models.PointIdsList(points=chosen))
    )


def rename_a_song(store: ServerStore, content: Content) -> None:
    chosen: Any = [point(store, content)]
    store.nodes.request(
        "", lambda client: client.set_payload(name_of(store), {"title": "x"}, points=chosen)
    )


def bend_a_vector(store: ServerStore, content: Content) -> None:
    moved = vectors_of(1, 12, seed=5)[0].tolist()
    changed = models.PointVectors(id=point(store, content), vector={"song": moved})
    store.nodes.request("", lambda client: client.update_vectors(name_of(store), [changed]))


def bend_all_vectors(store: ServerStore, content: Content) -> None:
    for song, vector in zip(content.songs, content.vectors, strict=True):
        if (
            vector is not None
            and str(song.song_id) in store.manifest(store.current() or "").canaries
        ):
            gone: Any = [str(song.song_id)]
            store.nodes.request(
                "", lambda client, gone=gone: client.delete_vectors(name_of(store), ["song"], gone)
            )
            return


def drop_an_index(store: ServerStore, content: Content) -> None:
    store.nodes.request("", lambda client: client.delete_payload_index(name_of(store), "genre"))


def forge_the_manifest(store: ServerStore, content: Content) -> None:
    forged = {"manifest": {"dimensions": -1}}
    store.nodes.request(
        "", lambda client: client.update_collection(name_of(store), metadata=forged)
    )


@pytest.mark.parametrize(
    ("tamper", "message", "opens"),
    [
        (lose_a_song, f"it holds {SONGS - 1} songs of {SONGS}", False),
        (rename_a_song, "a song was changed", True),
        (bend_a_vector, "a song was changed", True),
        (bend_all_vectors, "cannot be found by its own vector", False),
        (drop_an_index, "the field genre has no keyword index", False),
        (forge_the_manifest, "not a manifest", False),
    ],
)
def test_tampering_is_noticed(
    store: ServerStore,
    content: Content,
    tamper: Callable[[ServerStore, Content], None],
    message: str,
    opens: bool,
) -> None:
    tamper(store, content)
    with pytest.raises(CorruptReleaseError, match=message):
        store.verify(store.current() or "", SilentReporter())
    if opens:
        store.open().close()
    else:
        with pytest.raises(CorruptReleaseError, match=message):
            store.open()
    again = store.publish(content.draft, SilentReporter())
    assert store.verify(again.release, SilentReporter()) == again


def test_an_alias_of_another_collection_is_an_error(store: ServerStore) -> None:
    other = f"{store.options.prefix}_mine"
    store.nodes.request("", lambda client: client.create_collection(other, vectors_config={}))
    alias = models.CreateAlias(collection_name=other, alias_name=store.options.prefix)
    gone = models.DeleteAlias(alias_name=store.options.prefix)
    store.nodes.request(
        "",
        lambda client: client.update_collection_aliases(
            [
                models.DeleteAliasOperation(delete_alias=gone),
                models.CreateAliasOperation(create_alias=alias),
            ]
        ),
    )
    with pytest.raises(CorruptReleaseError, match="not a release"):
        store.current()


def test_removal_of_the_current_release_is_noticed(store: ServerStore) -> None:
    release = store.open()
    store.nodes.request("", lambda client: client.delete_collection(name_of(store)))
    with pytest.raises(NoReleaseError, match="is not on the server any more"):
        run(release.find([QUERY]))
    assert store.current() is None  # the alias was removed with the collection
    with pytest.raises(NoReleaseError):
        store.open()


@pytest.mark.parametrize("version", ["1.16.3", "0.11.0", "2.0.0", "nonsense", ""])
def test_unsupported_versions(version: str) -> None:
    with pytest.raises(EngineError, match=r"needs 1\.17 or later below 2\.0 .*upgrade"):
        connection.require_version(version, "http://q")


@pytest.mark.parametrize("version", ["1.17.0", "1.19.2", "1.100.0-dev"])
def test_supported_versions(version: str) -> None:
    connection.require_version(version, "http://q")


def test_a_server_that_is_too_old_is_refused(
    store: ServerStore, server_stores: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "OLDEST", (1, 99))
    late = server_stores.again(store)
    with pytest.raises(EngineError, match=r"is version 1\..*needs 1\.99"):
        late.current()
    findings = list(examine(Path(), store.options))
    assert "upgrade it" in next(each.what for each in findings if each.level == "failure")


def test_a_server_that_does_not_run_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAUSE_S", 0.01)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        options = options_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UnavailableError, match=r"does not answer .*check that it runs"):
            ServerStore(replace(options, timeout_s=1)).current()
        findings = list(examine(tmp_path, replace(options, timeout_s=1)))
    assert [each.level for each in findings][-2:] == ["warning", "failure"]


def test_doctor_finds_no_problem_in_a_healthy_store(store: ServerStore, tmp_path: Path) -> None:
    findings = list(examine(tmp_path, store.options))
    # If the server is on another machine, the warning about the missing key is correct.
    others = [each for each in findings if "is used without a key" not in each.what]
    assert {each.level for each in others} == {"ok"}
    text = "\n".join(each.what for each in findings)
    for part in ("answers at", "may write" if store.options.api_key else "writing needs no key"):
        assert part in text
    assert f"release {store.current()} (current): {SONGS} songs, all as published" in text
    assert "green" in text


def test_doctor_reports_damage_and_unfinished_uploads(
    store: ServerStore, content: Content, tmp_path: Path
) -> None:
    rename_a_song(store, content)
    part = f"{store.options.prefix}_20260101T000000000-abcdef01"
    store.nodes.request(
        "",
        lambda client: client.create_collection(
            part, vectors_config={}, metadata={"state": "uploading"}
        ),
    )
    findings = list(examine(tmp_path, store.options))
    broken = next(each for each in findings if each.level == "failure")
    assert "a song was changed" in broken.what
    assert "no older one is intact" in broken.advice
    assert f"{part} is an upload that did not finish" in [each.what for each in findings]


def test_wipe_removes_all_collections(store: ServerStore) -> None:
    wipe(store)
    assert store.current() is None
    assert store.all_releases() == []
