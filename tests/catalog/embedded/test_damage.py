"""Damaged releases and pointers: they are noticed, and said in one line."""

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

from catalog.errors import CorruptReleaseError, NoReleaseError, ReleaseError
from catalog.progress import SilentReporter
from tests.support.embedded_releases import Library, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.draft import Draft
    from catalog.embedded.store import EmbeddedStore


def one_line(home: EmbeddedStore, error: type[ReleaseError] = CorruptReleaseError) -> str:
    with pytest.raises(error) as caught:
        home.open()
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    return message


def file_in(home: EmbeddedStore, name: str) -> Path:
    """The largest file of this name in the shard, as its own copy."""
    path = max(shard_of(home).rglob(name), key=lambda path: path.stat().st_size)
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
def test_a_damaged_file(
    home: EmbeddedStore, name: str, damage: Callable[[Path], None], word: str
) -> None:
    damage(file_in(home, name))
    message = one_line(home)
    assert message.startswith(f"release {home.current()} is damaged: ")
    assert f"{name} {word}" in message
    assert "ingest run --force" in message


def test_a_segment_without_its_version_file(home: EmbeddedStore) -> None:
    file_in(home, "version.info").unlink()  # the engine would skip the segment silently
    assert "version.info is missing" in one_line(home)


def test_a_file_too_many(home: EmbeddedStore) -> None:
    (shard_of(home) / "segments" / "stray").write_text("x")
    assert "stray does not belong to the release" in one_line(home)


def test_what_another_reader_writes_for_itself_is_no_damage(home: EmbeddedStore) -> None:
    # The engine makes such a file whenever it opens or closes a release; a kill leaves it there.
    for folder in (shard_of(home), next((shard_of(home) / "segments").iterdir())):
        (folder / ".atomicwriteWdyLib").mkdir()
        (folder / ".atomicwriteWdyLib" / "tmpfile.tmp").write_text("{")
    home.open().close()


def test_the_engines_folder_is_gone(home: EmbeddedStore) -> None:
    shutil.rmtree(shard_of(home))
    assert "shard is missing" in one_line(home)


def test_a_file_that_cannot_be_read(home: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise OSError(errno.EIO, "Input/output error", "matrix.dat")

    monkeypatch.setattr(hashlib, "file_digest", broken)
    assert "cannot be read (matrix.dat: Input/output error)" in one_line(home)


def edit_manifest(home: EmbeddedStore, **changes: Any) -> None:
    path = shard_of(home).parent / "manifest.json"
    manifest = replace(home.manifest(home.current() or ""), **changes)
    path.write_text(manifest.to_json(), encoding="utf-8")


def test_more_songs_than_there_are(home: EmbeddedStore, small: Library) -> None:
    edit_manifest(home, counts=replace(small.draft.counts, songs=301))
    assert "the engine holds 300 songs of 301" in one_line(home)


@pytest.mark.parametrize(
    ("canary", "word"), [(str(UUID(int=7)), "cannot be found"), ("0-0", "are not song ids")]
)
def test_a_canary_that_is_not_there(home: EmbeddedStore, canary: str, word: str) -> None:
    edit_manifest(home, canaries=[canary])
    assert word in one_line(home)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\0" * 500, b'{"format": 1}'])
def test_a_broken_manifest(home: EmbeddedStore, content: bytes | None) -> None:
    path = shard_of(home).parent / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert str(path) in one_line(home)
    with pytest.raises(CorruptReleaseError):
        home.manifest(home.current() or "")


def test_a_pointer_to_a_missing_release(home: EmbeddedStore) -> None:
    release = home.current() or ""
    shutil.rmtree(home.path / "releases" / release)
    assert one_line(home).startswith(f"release {release} cannot be read (")


@pytest.mark.parametrize("content", [b"", b"\n", b" \n"])
def test_an_empty_pointer(home: EmbeddedStore, content: bytes) -> None:
    (home.path / "current").write_bytes(content)
    assert "no release in" in one_line(home, NoReleaseError)


@pytest.mark.parametrize("content", [b"\0" * 29, b"\xff\xfe", b"../../etc", b"20261123T2040"])
def test_a_pointer_to_nowhere(home: EmbeddedStore, content: bytes) -> None:
    (home.path / "current").write_bytes(content)
    message = one_line(home)
    assert f"{home.path / 'current'} does not name a release" in message
    assert "ingest run --force" in message


def test_a_damaged_home_takes_a_new_release(home: EmbeddedStore, quick: Draft) -> None:
    flip(file_in(home, "matrix.dat"))
    release = home.publish(quick, SilentReporter()).release
    assert home.current() == release
    home.open().close()
    (home.path / "current").write_bytes(b"\0" * 20)
    release = home.publish(quick, SilentReporter()).release
    assert home.current() == release
    home.open().close()
