"""A store in a folder: finished releases and a pointer to the current release.

    HOME/current                   id of the current release, replaced atomically
    HOME/releases/ID/manifest.json
    HOME/releases/ID/shard/        data of Qdrant Edge, which never change

HOME is the folder of the store, and ID is a release id. A child process builds each release in a
folder with a temporary name, which is renamed after the release has been verified.
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

from catalog import manifest as manifests
from catalog.draft import Draft, build_draft, build_manifest, build_release_id, write_songs
from catalog.embedded.release import EmbeddedRelease
from catalog.errors import (
    BusyError,
    CorruptReleaseError,
    EngineError,
    NextsongError,
    NoReleaseError,
    StorageError,
)
from catalog.files import lock_folder, make_folder, storage_errors, sync_folder, write_atomically
from catalog.model import is_release_id
from catalog.search import index_quality
from catalog.store import (
    KEPT,
    SEE_DOCTOR,
    find_previous_release,
    list_other_releases,
    require_current,
    require_removable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.manifest import Manifest
    from catalog.store import Gate, OpenRelease


class EmbeddedStore:
    """A release store in the folder `path` (see `catalog.store.ReleaseStore`).

    The folder is created when the first release is published. Publishing keeps `keep` old releases.
    """

    def __init__(self, path: Path, *, keep: int = KEPT) -> None:
        self.path = path
        self._keep = keep
        self._pointer = path / "current"
        self._releases = path / "releases"

    @property
    def location(self) -> str:
        """The path of the folder, for messages."""
        return str(self.path)

    def current(self) -> str | None:
        """Return the id of the current release, or None if nothing has been published.

        Raises `CorruptReleaseError` if the pointer to the current release is damaged, and
        `StorageError` if it cannot be read.
        """
        try:
            release = self._pointer.read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self._pointer}: {error.strerror}") from error
        if release and not is_release_id(release):
            raise CorruptReleaseError(f"{self._pointer} does not name a release", SEE_DOCTOR)
        return release or None

    def releases(self) -> list[str]:
        """Return the ids of all releases, oldest first."""
        if not self._releases.is_dir():
            return []
        return sorted(
            path.name
            for path in self._releases.iterdir()
            if is_release_id(path.name) and path.is_dir()
        )

    def manifest(self, release: str) -> Manifest:
        """Return the manifest of a release. Raises `NoReleaseError` or `CorruptReleaseError`."""
        if not is_release_id(release):
            raise NoReleaseError(f"'{release}' is not a release in {self.path}")
        path = self._releases / release / "manifest.json"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise CorruptReleaseError(
                f"release {release} cannot be read ({path}: {error.strerror})", SEE_DOCTOR
            ) from error
        return manifests.Manifest.from_json(text, str(path))

    def open(self, release: str | None = None) -> EmbeddedRelease:
        """Open and verify a release, by default the current one.

        Raises `NoReleaseError` or `CorruptReleaseError`.
        """
        release = release or require_current(self)
        manifest = self.manifest(release)
        return _open_verified(self._releases / release / "shard", manifest)

    def publish(self, draft: Draft, reporter: Reporter, gate: Gate | None = None) -> Manifest:
        """Build a release from the draft, verify it and make it the current one.

        If anything fails, the current release stays as it was. For `gate`, see
        `ReleaseStore.publish`. Raises `BusyError`, `StorageError`, `EngineError`,
        `CorruptReleaseError` or `GateError`.
        """
        with lock_folder(self.path, "publishing a release"):
            make_folder(self._releases)
            self._remove_unfinished()
            created = datetime.now(UTC)
            release = build_release_id(draft, created)
            if (self._releases / release).exists():
                raise BusyError(f"release {release} already exists in {self.path}")
            partial = self._releases / f".{release}.partial"
            with storage_errors(partial):
                partial.mkdir()
                try:
                    manifest = _build(draft, partial, release, created, reporter)
                    if gate:
                        _check_gate(gate, partial / "shard", manifest)
                    partial.rename(self._releases / release)
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
                sync_folder(self._releases)
            write_atomically(self._pointer, f"{release}\n")
            try:
                self._prune(self._keep)
            except NextsongError as error:  # the new release is already current
                reporter.say(f"  old releases could not be removed: {error}")
        return manifest

    def rollback(self, release: str | None = None) -> str:
        """Verify a release, make it current, and return its id (see `ReleaseStore.rollback`)."""
        with lock_folder(self.path, "rolling back"):
            release = release or find_previous_release(self)
            self.open(release).close()
            write_atomically(self._pointer, f"{release}\n")
        return release

    def prune(self, keep: int) -> list[str]:
        """Remove all releases except the current one and the `keep` newest others.

        Returns the ids of the removed releases.
        """
        with lock_folder(self.path, "pruning"):
            return self._prune(keep)

    def remove(self, release: str) -> None:
        """Remove a release that is not current. Raises `NoReleaseError` or `InputError`."""
        with lock_folder(self.path, "removing a release"):
            require_removable(self, release)
            self._remove(release)

    def verify(self, release: str, reporter: Reporter) -> Manifest:
        """Read all files of a release, and return the manifest.

        Raises `CorruptReleaseError` if a file has changed since the release was published.
        """
        with reporter.task("verify") as task:
            manifest = self.manifest(release)
            _open_verified(self._releases / release / "shard", manifest).close()
            task.result(f"{len(manifest.files)} files, every byte as published")
        return manifest

    def batches(self, release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        """Yield the songs of a release that this store opened, in batches.

        The songs are rows as described in `catalog.draft.Draft`.
        """
        assert isinstance(release, EmbeddedRelease)
        return release.batches()

    def export(self, release: str, path: Path, reporter: Reporter) -> Draft:
        """Write all songs of a release to the Parquet file `path`, and return a draft of them."""
        opened = self.open(release)
        try:
            write_songs(opened.batches(), opened.manifest, path, reporter)
        finally:
            opened.close()
        return build_draft(opened.manifest, path)

    def close(self) -> None:
        """Do nothing, because this store has no open connections."""

    def _remove_unfinished(self) -> None:
        for leftover in self._releases.glob(".*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob(f".{self._pointer.name}.*.partial"):
            leftover.unlink(missing_ok=True)

    def _prune(self, keep: int) -> list[str]:
        outdated = list_other_releases(self)[keep:][::-1]
        for release in outdated:
            self._remove(release)
        return outdated

    def _remove(self, release: str) -> None:
        # Rename the folder first. If the process is killed, the remaining files do not count as a
        # release, and the next publisher removes them.
        partial = self._releases / f".{release}.partial"
        with suppress(OSError):
            (self._releases / release).rename(partial)
        shutil.rmtree(partial, ignore_errors=True)


def _check_gate(gate: Gate, shard: Path, manifest: Manifest) -> None:
    release = EmbeddedRelease(shard, manifest)
    try:
        gate(release)
    finally:
        release.close()
    manifests.verify_files(shard, manifest.files)  # check that opening changed nothing


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
        manifest = index_quality.choose_search_width(
            build_manifest(draft, release, created, manifests.sum_files(shard)),
            lambda manifest: EmbeddedRelease(shard, manifest),
        )
        write_atomically(folder / "manifest.json", manifest.to_json())
        _open_verified(shard, manifest).close()
        manifests.verify_files(shard, manifest.files)  # check that reading changed nothing
        task.result(f"{points:,} songs, {indexed:,} vectors indexed, in release {release}")
    return manifest


def _run_builder(draft: Draft, shard: Path) -> Iterator[dict[str, Any]]:
    layout = {
        "dimensions": draft.dimensions,
        "payload": draft.payload,
        "has_spelling": draft.has_spelling,
    }
    arguments = [str(draft.songs_path), json.dumps(layout), str(shard)]
    # -P prevents the child from importing a `catalog.py` or `json.py` in the working folder.
    command = [sys.executable, "-P", "-m", "catalog.embedded.build", *arguments]
    # Standard error goes to a file, because it is read only after the child has ended: meanwhile, a
    # full pipe would block the child.
    with tempfile.TemporaryFile() as stderr:
        with subprocess.Popen(  # noqa: S603 -- our own module, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
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
                raise EngineError(f"the process that builds {shard} wrote {line[:80]!r}") from error
            except BaseException:
                child.kill()
                raise
        if child.returncode != 0:
            stderr.seek(0)
            last_line = stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            reason = last_line[0] if last_line else f"exit code {child.returncode}"
            raise EngineError(f"the process that builds {shard} ended early: {reason}")


def _build_error(message: str, shard: Path) -> StorageError | EngineError:
    if "No space left" in message or "os error 28" in message:
        return StorageError(
            f"cannot write {shard}: the disk is full: free disk space and run again"
        )
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
