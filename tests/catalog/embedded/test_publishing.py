"""Publishing to a folder: releases that are kept, and failures that change nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.embedded import build
from catalog.embedded.release import EmbeddedRelease
from catalog.embedded.store import EmbeddedStore
from catalog.errors import EngineError, NoReleaseError, StorageError
from tests.support.embedded_releases import (
    Library,
    Notes,
    drafted,
    make_songs,
    nearest,
    run,
    vectors_of,
)

if TYPE_CHECKING:
    from catalog.draft import Draft
    from catalog.model import Vector

LAYOUT = build.Layout(dimensions=4, payload={}, has_spelling=True)


def assert_as_it_was(store: EmbeddedStore, small: Library) -> None:
    """Assert that the store has one release, which is current and readable."""
    assert store.current() == small.release.manifest.release
    assert [path.name for path in (store.path / "releases").iterdir()] == store.releases()
    assert store.releases() == [store.current()]
    release = store.open()
    assert run(release.popular(1))[0].song == small.songs[0]
    release.close()


# Current releases, and old releases that are kept


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
def test_a_store_without_a_release(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "home"
    if kind == "empty":
        path.mkdir()
    elif kind == "a file":
        path.write_text("x")
    store = EmbeddedStore(path)
    assert store.current() is None
    assert store.releases() == []
    with pytest.raises(NoReleaseError, match=r"no release in .*home yet: .*ingest run.*--home"):
        store.open()
    assert path.exists() == (kind != "missing")


def test_a_folder_that_cannot_be_written_is_reported(small: Library, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    with pytest.raises(StorageError, match="a file exists where a folder is needed"):
        EmbeddedStore(tmp_path / "home").publish(small.draft, SilentReporter())


def test_two_old_releases_are_kept(tmp_path: Path, quick: Draft) -> None:
    store = EmbeddedStore(tmp_path / "home")
    published: list[str] = []
    for _ in range(5):
        published.append(store.publish(quick, SilentReporter()).release)
        assert store.current() == published[-1]
        assert store.releases() == published[-3:]
    for release in published[-3:]:
        opened = store.open(release)
        assert opened.manifest.release == release
        opened.close()
    assert (store.path / "current").read_text() == published[-1] + "\n"
    assert sorted(path.name for path in store.path.iterdir()) == [".lock", "current", "releases"]
    assert len(list((store.path / "releases").iterdir())) == 3


def test_an_open_release_survives_the_removal_of_its_files(tmp_path: Path, quick: Draft) -> None:
    store = EmbeddedStore(tmp_path / "home")
    first = store.publish(quick, SilentReporter()).release
    opened = store.open()
    for _ in range(3):
        store.publish(quick, SilentReporter())
    assert first not in store.releases()
    assert [point.song.ordinal for point in run(opened.popular(3))] == [0, 1, 2]
    opened.close()


def test_the_current_release_is_never_pruned(tmp_path: Path, quick: Draft) -> None:
    store = EmbeddedStore(tmp_path / "home")
    first = store.publish(quick, SilentReporter()).release
    for _ in range(2):
        store.publish(quick, SilentReporter())
    (store.path / "current").write_text(first)  # the same state as after a rollback
    assert store.publish(quick, SilentReporter()).release == store.current()
    assert len(store.releases()) == 3
    assert first not in store.releases()


# Failures that leave the current release unchanged


def builder(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Make publishing run the shell script `script` instead of the build process of a release."""
    path = folder / "builder"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("exit 3", "ended early: exit code 3"),
        ("echo bad luck >&2; echo worse luck >&2; exit 1", "ended early: worse luck"),
        ("kill -9 $$", "ended early: exit code -9"),
        ("exit 0", "holds 0 songs of 300"),
        ("""echo '{"points": 299, "indexed": 0}'""", "holds 299 songs of 300"),
        ("""echo '{"error": "Qdrant Edge failed to build: a panic"}'""", "a panic"),
        ("echo Traceback; sleep 60", "wrote 'Traceback"),
        ("yes | head -c 1000000 >&2; echo flooded >&2; exit 1", "ended early: flooded"),
    ],
)
def test_a_failed_build_is_reported(
    store: EmbeddedStore,
    small: Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    word: str,
) -> None:
    builder(tmp_path, monkeypatch, script)
    with pytest.raises(EngineError) as caught:
        store.publish(small.draft, SilentReporter())
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_as_it_was(store, small)


def test_a_full_disk_during_the_build_is_reported(
    store: EmbeddedStore, small: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """echo '{"error": "failed to build: No space left on device (os error 28)"}'"""
    builder(tmp_path, monkeypatch, script)
    with pytest.raises(StorageError, match="the disk is full: free disk space"):
        store.publish(small.draft, SilentReporter())
    assert_as_it_was(store, small)


def test_a_killed_build_is_reported(
    store: EmbeddedStore, small: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []

    class Remembered(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Remembered)
    with pytest.raises(EngineError, match="ended early: exit code -9"):
        store.publish(small.draft, Notes(lambda done, total: started[0].kill()))
    assert_as_it_was(store, small)


def test_an_interrupt_ends_the_build(
    store: EmbeddedStore, small: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    script = f"""echo $$ > {pid_file}; echo '{{"done": 1, "total": 300}}'; exec sleep 60"""
    builder(tmp_path, monkeypatch, script)

    def interrupt(done: float, total: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.publish(small.draft, Notes(interrupt))
    assert not Path(f"/proc/{int(pid_file.read_text())}").exists()
    assert_as_it_was(store, small)


def test_modules_in_the_working_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("catalog.py", "json.py", "pyarrow.py"):
        (tmp_path / name).write_text("raise SystemExit('a wrong module was imported')")
    draft = drafted(tmp_path, vectors_of(3, 4))
    monkeypatch.chdir(tmp_path)
    store = EmbeddedStore(Path("home"))
    store.publish(draft, SilentReporter())
    store.open().close()


def spoiled(kind: str) -> tuple[Vector, pa.Array | None]:
    """Return vectors of 12 songs, the ninth of which is malformed."""
    vectors = vectors_of(12, 4)
    lists = vectors.tolist()
    if kind == "nan":
        vectors[8, 2] = np.nan
    elif kind == "infinite":
        vectors[8, 2] = np.inf
    elif kind == "zero":
        vectors[8] = 0
    elif kind == "long":
        vectors[8] *= 1.01
    elif kind == "null number":
        lists[8][2] = None
        return vectors, pa.array(lists, pa.list_(pa.float32(), 4))
    elif kind == "shorter":
        return vectors, pa.array([*lists[:8], lists[8][:3], *lists[9:]], pa.list_(pa.float32()))
    elif kind == "longer":
        return vectors, pa.array([*lists[:8], [*lists[8], 0.0], *lists[9:]])
    return vectors, None


@pytest.mark.parametrize(
    "kind", ["nan", "infinite", "zero", "long", "null number", "shorter", "longer"]
)
def test_a_build_refuses_wrong_vectors(tmp_path: Path, kind: str) -> None:
    vectors, column = spoiled(kind)
    draft = drafted(tmp_path, vectors, column=column)
    ninth = make_songs(12)[8].song_id
    with pytest.raises(EngineError, match=f"the vector of song {ninth} is not 4 numbers of unit"):
        build.build(draft.songs_path, LAYOUT, tmp_path / "shard")


def test_a_build_accepts_all_list_types(tmp_path: Path) -> None:
    vectors = vectors_of(12, 4)
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 4)):
        draft = drafted(tmp_path, vectors, column=pa.array(vectors.tolist(), kind))
        build.build(draft.songs_path, LAYOUT, tmp_path / f"shard of {kind}")


def test_a_release_in_several_segments_returns_the_same_songs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = vectors_of(2 * build.BATCH, 8)
    draft = drafted(tmp_path, vectors)
    manifest = EmbeddedStore(tmp_path / "home").publish(draft, SilentReporter())
    releases, segments = [], []
    for most in (2 * build.BATCH, build.BATCH):
        monkeypatch.setattr(build, "SONGS_PER_SEGMENT", most)
        shard = tmp_path / "shards" / f"of {most}"
        shard.parent.mkdir(exist_ok=True)
        build.build(draft.songs_path, replace(LAYOUT, dimensions=8), shard)
        segments.append(len(list(shard.glob("segments/*/vector_index-song"))))
        releases.append(EmbeddedRelease(shard, manifest))
        releases[-1].verify()
    assert segments == [1, 2]
    assert len(list((tmp_path / "shards").iterdir())) == 2  # temporary folders are removed
    for vector in vectors[::400]:
        whole, parted = (nearest(release, vector, 20) for release in releases)
        assert [hit.song for hit in whole] == [hit.song for hit in parted]


def test_a_song_twice_in_different_segments_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = make_songs(2 * build.BATCH)
    twice = [*songs[:-1], songs[0]]
    draft = drafted(tmp_path, vectors_of(len(songs), 4), of_songs=twice)
    monkeypatch.setattr(build, "SONGS_PER_SEGMENT", build.BATCH)
    with pytest.raises(EngineError, match="holds 3999 songs of 4000"):
        build.build(draft.songs_path, LAYOUT, tmp_path / "shard")


def test_an_error_in_one_of_several_segments_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = vectors_of(2 * build.BATCH, 4)
    vectors[-1, 0] = np.nan
    monkeypatch.setattr(build, "SONGS_PER_SEGMENT", build.BATCH)
    last = make_songs(len(vectors))[-1].song_id
    with pytest.raises(EngineError, match=f"the vector of song {last}"):
        build.build(drafted(tmp_path, vectors).songs_path, LAYOUT, tmp_path / "shard")


def test_a_killed_process_of_a_segment_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "SONGS_PER_SEGMENT", build.BATCH)
    draft = drafted(tmp_path, vectors_of(2 * build.BATCH, 4))
    builder(tmp_path, monkeypatch, "kill -9 $$")
    with pytest.raises(EngineError, match="a part of the release ended early: exit code -9"):
        build.build(draft.songs_path, LAYOUT, tmp_path / "shard")


@pytest.mark.parametrize(
    ("songs", "builders", "parts"),
    [(100, 2, 1), (101, 2, 2), (200, 4, 2), (201, 2, 4), (500, 4, 8)],
)
def test_many_segments_are_a_multiple_of_those_built_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, songs: int, builders: int, parts: int
) -> None:
    monkeypatch.setattr(build, "SONGS_PER_SEGMENT", 100)
    draft = drafted(tmp_path, vectors_of(songs, 4))
    assert build.count_parts(pq.read_metadata(draft.songs_path), builders) == parts


def test_many_weights_need_several_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = pa.table({"seeds": pa.array([[1, 2], [3], None, [4, 5, 6]], pa.list_(pa.uint32()))})
    pq.write_table(weights, tmp_path / "songs.parquet", row_group_size=2)
    monkeypatch.setattr(build, "WEIGHTS_PER_SEGMENT", 5)
    assert build.count_parts(pq.read_metadata(tmp_path / "songs.parquet"), 2) == 2


def test_a_song_without_a_vector_is_kept(tmp_path: Path) -> None:
    vectors = vectors_of(12, 4)
    lists = vectors.tolist()
    column = pa.array([*lists[:8], None, *lists[9:]], pa.list_(pa.float32(), 4))
    store = EmbeddedStore(tmp_path / "home")
    store.publish(drafted(tmp_path, vectors, column=column), SilentReporter())
    release = store.open()
    ninth = make_songs(12)[8].song_id
    assert run(release.points([ninth]))[ninth].vector is None
    assert [point.song.song_id for point in run(release.popular(20))][8] == ninth
    assert ninth not in {hit.song.song_id for hit in nearest(release, vectors[0], 20)}


def test_a_wrong_vector_is_never_published(
    store: EmbeddedStore, small: Library, tmp_path: Path
) -> None:
    vectors = vectors_of(300, 8)
    vectors[-1, 0] = np.nan
    with pytest.raises(EngineError, match=f"the vector of song {small.songs[-1].song_id}"):
        store.publish(drafted(tmp_path, vectors), SilentReporter())
    assert_as_it_was(store, small)


def test_vectors_of_another_size_are_never_published(store: EmbeddedStore, small: Library) -> None:
    with pytest.raises(EngineError, match="is not 9 numbers of unit length"):
        store.publish(replace(small.draft, dimensions=9), SilentReporter())
    assert_as_it_was(store, small)


def test_a_draft_with_a_song_twice_is_never_published(
    store: EmbeddedStore, small: Library, tmp_path: Path
) -> None:
    draft = drafted(tmp_path, small.vectors, of_songs=[*small.songs[:-1], small.songs[0]])
    with pytest.raises(EngineError, match="holds 299 songs of 300"):
        store.publish(draft, SilentReporter())
    assert_as_it_was(store, small)
