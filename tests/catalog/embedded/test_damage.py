"""Damage to a release, or to the pointer to the current release, is reported in one line."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import CorruptReleaseError, NoReleaseError, ReleaseError
from tests.support.embedded_releases import Library, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.draft import Draft
    from catalog.embedded.store import EmbeddedStore


def one_line(store: EmbeddedStore, error: type[ReleaseError] = CorruptReleaseError) -> str:
    with pytest.raises(error) as caught:
        store.open()
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    return message


def file_in(store: EmbeddedStore, name: str) -> Path:
    """Replace the largest file of this name in the shard by a copy, and return its path.

    The file is a hard link, so without the copy, a test would also damage the original file.
    """
    path = max(shard_of(store).rglob(name), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["matrix.dat", "segment.json", "vocab.dat"])
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (truncate, "is not as it was published"),
        (flip, "is not as it was published"),
        (Path.unlink, "is missing"),
    ],
)
def test_a_damaged_file_is_noticed(
    store: EmbeddedStore, name: str, damage: Callable[[Path], None], word: str
) -> None:
    damage(file_in(store, name))
    message = one_line(store)
    assert message.startswith(f"release {store.current()} is damaged: ")
    assert f"{name} {word}" in message
    assert "ingest run --force" in message


def test_a_segment_without_its_version_file_is_noticed(store: EmbeddedStore) -> None:
    file_in(store, "version.info").unlink()  # Qdrant Edge would skip the segment
    assert "version.info is missing" in one_line(store)


def test_an_extra_file_is_noticed(store: EmbeddedStore) -> None:
    (shard_of(store) / "segments" / "stray").write_text("x")
    assert "stray does not belong to the release" in one_line(store)


def test_temporary_files_of_other_readers_are_ignored(store: EmbeddedStore) -> None:
    # Qdrant Edge creates such a folder when it opens or closes a release. If the process is killed,
    # the folder remains.
    for folder in (shard_of(store), next((shard_of(store) / "segments").iterdir())):
        (folder / ".atomicwriteWdyLib").mkdir()
        (folder / ".atomicwriteWdyLib" / "tmpfile.tmp").write_text("{")
    store.open().close()


def test_a_missing_shard_is_noticed(store: EmbeddedStore) -> None:
    shutil.rmtree(shard_of(store))
    assert "shard is missing" in one_line(store)


def test_an_unreadable_file_is_reported(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise OSError(errno.EIO, "Input/output error", "matrix.dat")

    monkeypatch.setattr(hashlib, "file_digest", broken)
    assert "cannot be read (matrix.dat: Input/output error)" in one_line(store)


def edit_manifest(store: EmbeddedStore, **changes: Any) -> None:
    path = shard_of(store).parent / "manifest.json"
    manifest = replace(store.manifest(store.current() or ""), **changes)
    path.write_text(manifest.to_json(), encoding="utf-8")


def test_a_wrong_number_of_songs_is_noticed(store: EmbeddedStore, small: Library) -> None:
    edit_manifest(store, counts=replace(small.draft.counts, songs=301))
    assert "the engine holds 300 songs of 301" in one_line(store)


@pytest.mark.parametrize(
    ("canary", "word"), [(str(UUID(int=7)), "cannot be found"), ("0-0", "are not song ids")]
)
def test_a_wrong_canary_is_noticed(store: EmbeddedStore, canary: str, word: str) -> None:
    edit_manifest(store, canaries=[canary])
    assert word in one_line(store)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\0" * 500, b'{"format": 1}'])
def test_a_broken_manifest_is_noticed(store: EmbeddedStore, content: bytes | None) -> None:
    path = shard_of(store).parent / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert str(path) in one_line(store)
    with pytest.raises(CorruptReleaseError):
        store.manifest(store.current() or "")


def test_a_pointer_to_a_missing_release_is_noticed(store: EmbeddedStore) -> None:
    release = store.current() or ""
    shutil.rmtree(store.path / "releases" / release)
    assert one_line(store).startswith(f"release {release} cannot be read (")


@pytest.mark.parametrize("content", [b"", b"\n", b" \n"])
def test_an_empty_pointer_means_no_release(store: EmbeddedStore, content: bytes) -> None:
    (store.path / "current").write_bytes(content)
    assert "no release in" in one_line(store, NoReleaseError)


@pytest.mark.parametrize("content", [b"\0" * 29, b"\xff\xfe", b"../../etc", b"20261123T2040"])
def test_a_damaged_pointer_is_noticed(store: EmbeddedStore, content: bytes) -> None:
    (store.path / "current").write_bytes(content)
    message = one_line(store)
    assert f"{store.path / 'current'} does not name a release" in message
    assert "ingest run --force" in message


def test_a_damaged_store_accepts_a_new_release(store: EmbeddedStore, quick: Draft) -> None:
    flip(file_in(store, "matrix.dat"))
    release = store.publish(quick, SilentReporter()).release
    assert store.current() == release
    store.open().close()
    (store.path / "current").write_bytes(b"\0" * 20)
    release = store.publish(quick, SilentReporter()).release
    assert store.current() == release
    store.open().close()
