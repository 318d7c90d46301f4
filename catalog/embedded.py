"""The embedded home: a folder of finished releases and a pointer to the current one.

    HOME/current                   the id of the current release; replaced atomically
    HOME/releases/ID/manifest.json
    HOME/releases/ID/shard/        the engine's folder, never changed once it is here

A release is built under another name by a child process, verified, and renamed into place.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog import manifest as manifests
from catalog.edge import EdgeRelease
from catalog.errors import CorruptReleaseError, EngineError, NoReleaseError, StorageError
from catalog.manifest import Manifest
from catalog.storage import locked, make_folder, storage_errors, sync_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.manifest import Counts, Origin
    from catalog.reporting import Reporter

KEPT = 2
"""How many old releases stay beside the current one."""

CANARIES = 8

_RELEASE = re.compile(r"\d{8}T\d{9}-\w{1,8}", re.ASCII)


@dataclass(frozen=True)
class Draft:
    """What is to be published.

    `songs_path` is a Parquet file with a row a song: the fields of the payload (see
    `catalog.schema`); `vector`, a list of `dimensions` floats of unit length, null where there is
    none; `seeds` and `strengths`, the ordinals and values of its sparse vector, likewise.
    """

    songs_path: Path
    dimensions: int
    counts: Counts
    origin: Origin


class EmbeddedHome:
    """A home in the folder `path`, which need not exist before the first release."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pointer = path / "current"
        self._releases = path / "releases"

    def current(self) -> str | None:
        """The id of the current release, or None if nothing has been published.

        Raises `CorruptReleaseError` or `StorageError` when that cannot be told.
        """
        try:
            release = self._pointer.read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self._pointer}: {error.strerror}") from error
        if release and not _RELEASE.fullmatch(release):
            raise CorruptReleaseError(
                f"{self._pointer} names no release: "
                f"publish again with `nextsong ingest run --force`"
            )
        return release or None

    def releases(self) -> list[str]:
        """The ids of all releases, the oldest first."""
        if not self._releases.is_dir():
            return []
        return sorted(path.name for path in self._releases.iterdir() if path.name[0] != ".")

    def manifest(self, release: str) -> Manifest:
        """The manifest of a release. Raises `CorruptReleaseError`."""
        path = self._releases / release / "manifest.json"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise CorruptReleaseError(
                f"release {release} cannot be read ({path}: {error.strerror})"
            ) from error
        return Manifest.from_json(text, str(path))

    def open(self, release: str | None = None) -> EdgeRelease:
        """Open a release, the current one if none is named, and verify it."""
        release = release or self.current()
        if release is None:
            raise NoReleaseError(
                f"no release in {self.path} yet: publish one with `nextsong ingest run FILE`, "
                f"or name another folder with --home"
            )
        manifest = self.manifest(release)
        return _open_verified(self._releases / release / "shard", manifest)

    def publish(self, draft: Draft, reporter: Reporter) -> Manifest:
        """Build a release from the draft, verify it and make it the current one.

        Whatever goes wrong, the current release stays as it was. Raises `BusyError`,
        `StorageError`, `EngineError` or `CorruptReleaseError`.
        """
        with locked(self.path, "publishing a release"):
            make_folder(self._releases)
            self._remove_unfinished()
            created = datetime.now(UTC)
            release = f"{created:%Y%m%dT%H%M%S%f}"[:-3] + f"-{draft.origin.content_fingerprint[:8]}"
            partial = self._releases / f".{release}.partial"
            with storage_errors(partial):
                partial.mkdir()
                try:
                    manifest = _build(draft, partial, release, created, reporter)
                    target = self._releases / release
                    partial.rename(target)
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
                sync_folder(self._releases)
            write_atomically(self._pointer, f"{release}\n")
            self._prune()
        return manifest

    def _remove_unfinished(self) -> None:
        for leftover in self._releases.glob(".*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob(f".{self._pointer.name}.*.partial"):
            leftover.unlink(missing_ok=True)

    def _prune(self) -> None:
        old = [release for release in self.releases() if release != self.current()]
        for release in old[: max(0, len(old) - KEPT)]:
            # Under this name, what a kill leaves of it is no release and goes the next time.
            doomed = self._releases / f".{release}.partial"
            with suppress(OSError):
                (self._releases / release).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def _build(
    draft: Draft, folder: Path, release: str, created: datetime, reporter: Reporter
) -> Manifest:
    shard = folder / "shard"
    with reporter.task("publish") as task:
        points, indexed = 0, 0
        for message in _run_builder(draft, shard):
            if "done" in message:
                task.advance(message["done"], message["total"])
            else:
                points, indexed = message["points"], message["indexed"]
        if points != draft.counts.songs:
            raise EngineError(f"Qdrant Edge holds {points} songs of {draft.counts.songs}")
        songs = pq.read_table(
            draft.songs_path, columns=["song_id"], filters=pc.field("vector").is_valid()
        )["song_id"]
        spread = np.linspace(0, len(songs) - 1, min(CANARIES, len(songs)), dtype=int)
        manifest = Manifest(
            format=manifests.FORMAT,
            release=release,
            created=created.isoformat(timespec="seconds"),
            dimensions=draft.dimensions,
            counts=draft.counts,
            origin=draft.origin,
            files=manifests.sum_files(shard),
            canaries=[songs[int(place)].as_py() for place in spread],
        )
        write_atomically(folder / "manifest.json", manifest.to_json())
        _open_verified(shard, manifest).close()
        manifests.verify_files(shard, manifest.files)  # reading must not have changed it
        task.result(f"{points:,} songs, {indexed:,} vectors indexed, in release {release}")
    return manifest


def _run_builder(draft: Draft, shard: Path) -> Iterator[dict[str, Any]]:
    arguments = [str(draft.songs_path), str(draft.dimensions), str(shard)]
    # -P: a `catalog` or `json` that happens to lie in the working folder is none of ours.
    command = [sys.executable, "-P", "-m", "catalog.edge_build", *arguments]
    # Standard error goes to a file: nobody reads while it works, and a full pipe would stop it.
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(  # noqa: S603 -- our own module, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    message = json.loads(line)
                    if "error" in message:
                        raise _build_error(message["error"], shard)
                    yield message
            except json.JSONDecodeError as error:
                child.kill()
                raise EngineError(f"the process that builds {shard} says {line[:80]!r}") from error
            except BaseException:
                child.kill()
                raise
        if child.returncode != 0:
            complaints.seek(0)
            last_words = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            reason = last_words[0] if last_words else f"exit code {child.returncode}"
            raise EngineError(f"the process that builds {shard} ended early: {reason}")


def _build_error(message: str, shard: Path) -> StorageError | EngineError:
    if "No space left" in message or "os error 28" in message:
        return StorageError(f"cannot write {shard}: the disk is full: free some room and run again")
    return EngineError(message)


def _open_verified(shard: Path, manifest: Manifest) -> EdgeRelease:
    if not shard.is_dir():
        raise CorruptReleaseError(f"release {manifest.release}: {shard} is missing")
    try:
        manifests.verify_files(shard, manifest.files)
        release = EdgeRelease(shard, manifest)
        release.verify()
    except (EngineError, CorruptReleaseError) as error:
        raise CorruptReleaseError(
            f"release {manifest.release} is damaged: {error}; "
            f"publish again with `nextsong ingest run --force`"
        ) from error
    except OSError as error:
        raise CorruptReleaseError(
            f"release {manifest.release} cannot be read ({error.filename}: {error.strerror})"
        ) from error
    return release
