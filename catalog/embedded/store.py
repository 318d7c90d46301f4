"""The embedded home: a folder of finished releases and a pointer to the current one.

    HOME/current                   the id of the current release; replaced atomically
    HOME/releases/ID/manifest.json
    HOME/releases/ID/shard/        the engine's folder, never changed once it is here

A release is built under another name by a child process, verified, and renamed into place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from catalog import index_quality
from catalog import manifest as manifests
from catalog.draft import (
    Draft,
    canaries_of,
    created_of,
    draft_of,
    release_named,
    require_removable,
    write_songs,
)
from catalog.embedded.release import EmbeddedRelease
from catalog.errors import (
    BusyError,
    CorruptReleaseError,
    EngineError,
    NextsongError,
    NoReleaseError,
    StorageError,
)
from catalog.files import locked, make_folder, storage_errors, sync_folder, write_atomically
from catalog.manifest import Manifest
from catalog.model import is_release_id
from catalog.store import KEPT, SEE_DOCTOR, others_than_current, release_before, require_current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.progress import Reporter
    from catalog.store import Gate, OpenRelease


class EmbeddedStore:
    """A home in the folder `path`, which need not exist before the first release.

    Publishing keeps `keep` old releases.
    """

    def __init__(self, path: Path, *, keep: int = KEPT) -> None:
        self.path = path
        self._keep = keep
        self._pointer = path / "current"
        self._releases = path / "releases"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.path)

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
        if release and not is_release_id(release):
            raise CorruptReleaseError(f"{self._pointer} names no release", SEE_DOCTOR)
        return release or None

    def releases(self) -> list[str]:
        """The ids of all releases, the oldest first."""
        if not self._releases.is_dir():
            return []
        return sorted(
            path.name
            for path in self._releases.iterdir()
            if is_release_id(path.name) and path.is_dir()
        )

    def manifest(self, release: str) -> Manifest:
        """The manifest of a release. Raises `NoReleaseError` or `CorruptReleaseError`."""
        if not is_release_id(release):
            raise NoReleaseError(f"'{release}' is no release of {self.path}")
        path = self._releases / release / "manifest.json"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise CorruptReleaseError(
                f"release {release} cannot be read ({path}: {error.strerror})", SEE_DOCTOR
            ) from error
        return Manifest.from_json(text, str(path))

    def open(self, release: str | None = None) -> EmbeddedRelease:
        """Open a release, the current one if none is named, and verify it."""
        release = release or require_current(self)
        manifest = self.manifest(release)
        return _open_verified(self._releases / release / "shard", manifest)

    def publish(self, draft: Draft, reporter: Reporter, gate: Gate | None = None) -> Manifest:
        """Build a release from the draft, verify it and make it the current one.

        Whatever goes wrong, the current release stays as it was. Raises `BusyError`,
        `StorageError`, `EngineError`, `CorruptReleaseError` or `GateError`.
        """
        with locked(self.path, "publishing a release"):
            make_folder(self._releases)
            self._remove_unfinished()
            created = datetime.now(UTC)
            release = release_named(draft, created)
            if (self._releases / release).exists():
                raise BusyError(f"release {release} is in {self.path} already")
            partial = self._releases / f".{release}.partial"
            with storage_errors(partial):
                partial.mkdir()
                try:
                    manifest = _build(draft, partial, release, created, reporter)
                    if gate:
                        _ask(gate, partial / "shard", manifest)
                    target = self._releases / release
                    partial.rename(target)
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
                sync_folder(self._releases)
            write_atomically(self._pointer, f"{release}\n")
            try:
                self._prune(self._keep)
            except NextsongError as error:  # the new release is current all the same
                reporter.say(f"  old releases could not be removed: {error}")
        return manifest

    def rollback(self, release: str | None = None) -> str:
        """Make an older release current, the one before the current if none is named."""
        with locked(self.path, "rolling back"):
            chosen = release or release_before(self)
            self.open(chosen).close()
            write_atomically(self._pointer, f"{chosen}\n")
        return chosen

    def prune(self, keep: int) -> list[str]:
        """Remove all releases but the current one and the `keep` newest others; returns them."""
        with locked(self.path, "pruning"):
            return self._prune(keep)

    def remove(self, release: str) -> None:
        """Remove a release that is not current. Raises `NoReleaseError` or `InputError`."""
        with locked(self.path, "removing a release"):
            require_removable(self, release)
            self._remove(release)

    def verify(self, release: str, reporter: Reporter) -> Manifest:
        """Read all of a release; raises `CorruptReleaseError` saying what is not as published."""
        with reporter.task("verify") as task:
            opened = self.open(release)
            opened.close()
            task.result(f"{len(opened.manifest.files)} files, every byte as published")
        return opened.manifest

    def batches(self, release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        """All songs of a release that was opened here, as a draft has them, some at a time."""
        assert isinstance(release, EmbeddedRelease)
        return release.batches()

    def export(self, release: str, path: Path, reporter: Reporter) -> Draft:
        """Write all songs of a release to the Parquet file `path`: a draft to publish elsewhere."""
        opened = self.open(release)
        try:
            write_songs(opened.batches(), opened.manifest, path, reporter)
        finally:
            opened.close()
        return draft_of(opened.manifest, path)

    def close(self) -> None:
        """Nothing is held open."""

    def _remove_unfinished(self) -> None:
        for leftover in self._releases.glob(".*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob(f".{self._pointer.name}.*.partial"):
            leftover.unlink(missing_ok=True)

    def _prune(self, keep: int) -> list[str]:
        doomed = others_than_current(self)[keep:][::-1]
        for release in doomed:
            self._remove(release)
        return doomed

    def _remove(self, release: str) -> None:
        # Under this name, what a kill leaves of it is no release and goes the next time.
        partial = self._releases / f".{release}.partial"
        with suppress(OSError):
            (self._releases / release).rename(partial)
        shutil.rmtree(partial, ignore_errors=True)


def _ask(gate: Gate, shard: Path, manifest: Manifest) -> None:
    release = EmbeddedRelease(shard, manifest)
    try:
        gate(release)
    finally:
        release.close()
    manifests.verify_files(shard, manifest.files)  # reading must not have changed it


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
        manifest = Manifest(
            format=manifests.FORMAT,
            release=release,
            created=created_of(draft, created),
            dimensions=draft.dimensions,
            counts=draft.counts,
            origin=draft.origin,
            files=manifests.sum_files(shard),
            canaries=canaries_of(draft.songs_path),
            payload=draft.payload,
            ranker=draft.ranker,
            validation=draft.validation,
        )
        manifest = index_quality.with_search_width(
            manifest, lambda one: EmbeddedRelease(shard, one)
        )
        write_atomically(folder / "manifest.json", manifest.to_json())
        _open_verified(shard, manifest).close()
        manifests.verify_files(shard, manifest.files)  # reading must not have changed it
        task.result(f"{points:,} songs, {indexed:,} vectors indexed, in release {release}")
    return manifest


def _run_builder(draft: Draft, shard: Path) -> Iterator[dict[str, Any]]:
    payload = json.dumps(draft.payload)
    arguments = [str(draft.songs_path), str(draft.dimensions), payload, str(shard)]
    # -P: a `catalog` or `json` that happens to lie in the working folder is none of ours.
    command = [sys.executable, "-P", "-m", "catalog.embedded.build", *arguments]
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


def _open_verified(shard: Path, manifest: Manifest) -> EmbeddedRelease:
    if not shard.is_dir():
        raise CorruptReleaseError(f"release {manifest.release}: {shard} is missing", SEE_DOCTOR)
    try:
        manifests.verify_files(shard, manifest.files)
        release = EmbeddedRelease(shard, manifest)
        release.verify()
    except (EngineError, CorruptReleaseError) as error:
        raise CorruptReleaseError(
            f"release {manifest.release} is damaged: {error}", SEE_DOCTOR
        ) from error
    except OSError as error:
        raise CorruptReleaseError(
            f"release {manifest.release} cannot be read ({error.filename}: {error.strerror})",
            SEE_DOCTOR,
        ) from error
    return release
