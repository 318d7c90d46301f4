"""A store on a Qdrant server: one collection per release, and an alias for the current one.

    PREFIX_ID      a release, with its manifest in the metadata of the collection
    PREFIX         the alias of the current release
    PREFIX_lock    the lock of publishers (see `catalog.server.lock`)

PREFIX is an option of the server (see `QdrantOptions`), and ID is a release id. A release is
uploaded into its own collection, indexed and verified. Then the alias is switched to this
collection atomically. If a publisher is interrupted, the next publisher finishes or removes the
unfinished collection.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from catalog.draft import build_draft, build_manifest, build_release_id, write_songs
from catalog.errors import (
    BusyError,
    CorruptReleaseError,
    EngineError,
    GateError,
    NextsongError,
    NoReleaseError,
    UnavailableError,
)
from catalog.manifest import Manifest
from catalog.model import is_release_id
from catalog.search import index_quality
from catalog.server import indexing, upload
from catalog.server.connection import AsyncNodes, Nodes
from catalog.server.errors import MissingCollectionError
from catalog.server.lock import hold_lock
from catalog.server.options import CollectionLayout
from catalog.server.release import ServerRelease
from catalog.server.verify import (
    read_batches,
    verify_all,
    verify_batches,
    verify_samples,
    verify_summary,
)
from catalog.store import (
    KEPT,
    SEE_DOCTOR,
    find_previous_release,
    list_other_releases,
    require_current,
    require_removable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.draft import Draft
    from catalog.server.lock import Lease
    from catalog.server.options import QdrantOptions
    from catalog.store import Gate, OpenRelease

PATIENCE_S = 120.0
"""Seconds for which publishing retries a request if no node answers."""

_READY = "ready"
"""State of a finished release, in the metadata of its collection."""

_UPLOADING = "uploading"
"""State of an unfinished release, in the metadata of its collection."""


class ServerStore:
    """A release store on a Qdrant server (see `catalog.store.ReleaseStore`).

    Publishing creates collections with the given `layout` and keeps `keep` old releases. The store
    itself uses the connections `nodes`, and each release that is opened uses connections that
    `open_nodes` creates. By default, both connect to the nodes in `options`.
    """

    def __init__(
        self,
        options: QdrantOptions,
        *,
        layout: CollectionLayout | None = None,
        keep: int = KEPT,
        nodes: Nodes | None = None,
        open_nodes: Callable[[], AsyncNodes] | None = None,
    ) -> None:
        self.options = options
        self.nodes = nodes or Nodes(options)
        self._open_nodes = open_nodes or (lambda: AsyncNodes(options))
        self._layout = layout or CollectionLayout()
        self._keep = keep

    @property
    def location(self) -> str:
        """The addresses of the server and the prefix, for messages."""
        return f"Qdrant at {', '.join(self.options.urls)} ({self.options.prefix})"

    def collection(self, release: str) -> str:
        """Return the name of the collection of a release."""
        return f"{self.options.prefix}_{release}"

    def current(self) -> str | None:
        """Return the id of the current release, or None if nothing has been published.

        Raises `CorruptReleaseError` if the alias does not name a release.
        """
        collection = self._read_alias()
        if collection is None:
            return None
        release = self._parse_release(collection)
        if release is None:
            raise CorruptReleaseError(
                f"the alias {self.options.prefix} names {collection}, which is not a release",
                SEE_DOCTOR,
            )
        return release

    def releases(self) -> list[str]:
        """Return the ids of all finished releases, oldest first."""
        states = {release: self._metadata(release).get("state") for release in self.all_releases()}
        return sorted(release for release, state in states.items() if state == _READY)

    def all_releases(self) -> list[str]:
        """Return the ids of all releases, including unfinished releases, oldest first."""
        listed = self.nodes.request("list collections", lambda client: client.get_collections())
        names = (self._parse_release(collection.name) for collection in listed.collections)
        return sorted(release for release in names if release)

    def manifest(self, release: str) -> Manifest:
        """Return the manifest of a release. Raises `NoReleaseError` or `CorruptReleaseError`."""
        return self._parse_manifest(release, self._metadata(release))

    def open(self, release: str | None = None) -> ServerRelease:
        """Open and verify a release, by default the current one.

        Raises `NoReleaseError`, `CorruptReleaseError` or `EngineError`.
        """
        release = release or require_current(self)
        manifest = self.manifest(release)
        with _damage_errors(release):
            verify_summary(self.nodes, self.collection(release), manifest)
        return ServerRelease(self._open_nodes(), self.collection(release), manifest)

    def publish(self, draft: Draft, reporter: Reporter, gate: Gate | None = None) -> Manifest:
        """Upload the draft as a new release, verify it and make it the current one.

        If anything fails, the current release stays as it was. An interrupted upload of the same
        draft is continued. For `gate`, see `ReleaseStore.publish`. Raises
        `BusyError`, `StorageError`, `EngineError`, `UnavailableError`, `CorruptReleaseError` or
        `GateError`.
        """
        with self._lease("publishing a release") as lease, self.nodes.retrying_for(PATIENCE_S):
            checksum = upload.compute_checksum(draft.songs_path)
            finished, unfinished = self._find_leftovers(checksum, draft)
            if finished and self._is_intact(finished, reporter):
                manifest = self.manifest(finished)
            else:
                manifest = self._build(draft, checksum, unfinished, reporter)
            if gate:
                self._check_gate(gate, manifest.release)
            lease.require()
            self._move_alias(manifest.release)
            try:
                self._prune(self._keep)
            except NextsongError as error:  # the new release is already current
                reporter.say(f"  old releases could not be removed: {error}")
        return manifest

    def rollback(self, release: str | None = None) -> str:
        """Verify a release, make it current, and return its id (see `ReleaseStore.rollback`)."""
        with self._lease("rolling back") as lease:
            release = release or find_previous_release(self)
            self.open(release).close()
            lease.require()
            self._move_alias(release)
        return release

    def prune(self, keep: int) -> list[str]:
        """Remove all releases except the current one and the `keep` newest others.

        Returns the ids of the removed releases.
        """
        with self._lease("pruning"):
            return self._prune(keep)

    def remove(self, release: str) -> None:
        """Remove a release that is not current. Raises `NoReleaseError` or `InputError`."""
        with self._lease("removing a release"):
            require_removable(self, release)
            self._delete(release)

    def verify(self, release: str, reporter: Reporter) -> Manifest:
        """Read all songs of a release, and return the manifest.

        Raises `CorruptReleaseError` if a song has changed since the release was published.
        """
        name, metadata = self.collection(release), self._metadata(release)
        manifest = self._parse_manifest(release, metadata)
        with reporter.task("verify") as task, _damage_errors(release):
            verify_summary(self.nodes, name, manifest)
            verify_all(self.nodes, name, manifest, metadata.get("digest"), task)
            task.result(f"{manifest.counts.songs:,} songs, every bit as published")
        return manifest

    def batches(self, release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        """Yield the songs of a release that this store opened, in batches.

        The songs are rows as described in `catalog.draft.Draft`.
        """
        return read_batches(self.nodes, self.collection(release.manifest.release))

    def export(self, release: str, path: Path, reporter: Reporter) -> Draft:
        """Write all songs of a release to the Parquet file `path`, and return a draft of them."""
        metadata = self._metadata(release)
        manifest = self._parse_manifest(release, metadata)
        batches = read_batches(self.nodes, self.collection(release))
        with _damage_errors(release):
            intact = verify_batches(batches, metadata.get("digest"), manifest.counts.songs)
            write_songs(intact, manifest, path, reporter)
        return build_draft(manifest, path)

    def close(self) -> None:
        """Close the connections."""
        self.nodes.close()

    def _lease(self, task: str) -> AbstractContextManager[Lease]:
        name = f"{self.options.prefix}_lock"
        return hold_lock(self.nodes, name, task, self._layout.replicas)

    def _read_alias(self) -> str | None:
        """Return the collection that the alias names, or None if there is no alias."""
        answer = self.nodes.request("read the aliases", lambda client: client.get_aliases())
        names = {alias.alias_name: alias.collection_name for alias in answer.aliases}
        return names.get(self.options.prefix)

    def _parse_release(self, collection: str) -> str | None:
        """Return the release id in a collection's name, or None if the name contains no id."""
        prefix, _, release = collection.rpartition("_")
        is_ours = prefix == self.options.prefix and is_release_id(release)
        return release if is_ours else None

    def _metadata(self, release: str) -> dict[str, Any]:
        if not is_release_id(release):
            raise NoReleaseError(f"'{release}' is not a release in {self.location}")
        name = self.collection(release)
        try:
            info = self.nodes.request(f"read {name}", lambda client: client.get_collection(name))
        except MissingCollectionError as error:
            raise NoReleaseError(f"no release {release} in {self.location}") from error
        return dict(info.config.metadata or {})

    def _parse_manifest(self, release: str, metadata: dict[str, Any]) -> Manifest:
        where = f"the metadata of {self.collection(release)}"
        if "manifest" not in metadata:
            raise CorruptReleaseError(f"{where} has no manifest", SEE_DOCTOR)
        return Manifest.from_json(json.dumps(metadata["manifest"]), where)

    def _find_leftovers(self, checksum: str, draft: Draft) -> tuple[str | None, str | None]:
        """Return the ids of a finished and of an unfinished release built from this draft.

        An id is None if there is no such release. The current release is ignored. Unfinished
        releases of other drafts are removed. `checksum` is the SHA-256 of the draft's file.
        """
        current = self.current()
        finished = unfinished = None
        for release in self.all_releases():
            if release == current:
                continue
            metadata = self._metadata(release)
            is_ready = metadata.get("state") == _READY
            has_layout = metadata.get("layout") == asdict(self._layout)
            has_format = metadata.get("format") == draft.format
            is_same = has_layout and has_format and metadata.get("draft") == checksum
            if draft.copy_of:
                is_usable = draft.copy_of.release == release and (is_ready or is_same)
            else:
                is_usable = is_same and (current is None or release > current)
            if is_usable and is_ready:
                finished = release
            elif is_usable:
                unfinished = release
            elif not is_ready:
                self._delete(release)
        return finished, unfinished

    def _is_intact(self, release: str, reporter: Reporter) -> bool:
        try:
            self.verify(release, reporter)
        except CorruptReleaseError as error:
            reporter.say(f"  {error}: it is built again")
            self._delete(release)
            return False
        return True

    def _build(
        self, draft: Draft, checksum: str, unfinished: str | None, reporter: Reporter
    ) -> Manifest:
        """Build a release, or finish the release with the id `unfinished`. Return the manifest.

        The current release does not change.
        """
        created = datetime.now(UTC)
        release = unfinished or build_release_id(draft, created)
        if release == self.current():
            raise BusyError(f"release {release} is already the current one of {self.location}")
        name = self.collection(release)
        with reporter.task("publish") as task:
            if not unfinished:
                metadata = {
                    "state": _UPLOADING,
                    "draft": checksum,
                    "format": draft.format,
                    "layout": asdict(self._layout),
                }
                upload.create(self.nodes, name, draft, self._layout, metadata)
            is_resumed = unfinished is not None
            uploaded = upload.upload(self.nodes, name, draft, task, is_resumed=is_resumed)
            indexed = indexing.build_index(self.nodes, name, draft, task)
            manifest = index_quality.choose_search_width(
                build_manifest(draft, release, created),
                lambda manifest: ServerRelease(self._open_nodes(), name, manifest),
            )
            with _damage_errors(release):
                verify_summary(self.nodes, name, manifest)
                verify_samples(self.nodes, name, uploaded.samples)
            ready = {"state": _READY, "digest": uploaded.digest, "manifest": asdict(manifest)}
            self.nodes.request(
                "write the manifest", lambda client: client.update_collection(name, metadata=ready)
            )
            songs = manifest.counts.songs
            task.result(f"{songs:,} songs, {indexed:,} vectors indexed, in release {release}")
        return manifest

    def _check_gate(self, gate: Gate, release: str) -> None:
        opened = self.open(release)
        try:
            gate(opened)
        except GateError:
            self._delete(release)
            raise
        finally:
            opened.close()

    def _move_alias(self, release: str) -> None:
        alias = self.options.prefix
        name = self.collection(release)
        create = models.CreateAlias(collection_name=name, alias_name=alias)
        steps: list[Any] = [models.CreateAliasOperation(create_alias=create)]
        if self._read_alias() is not None:
            delete = models.DeleteAlias(alias_name=alias)
            steps.insert(0, models.DeleteAliasOperation(delete_alias=delete))
        try:
            self.nodes.request(
                "move the alias", lambda client: client.update_collection_aliases(steps), once=True
            )
        except (UnavailableError, EngineError):
            if self.current() != release:  # the change may have succeeded
                raise

    def _prune(self, keep: int) -> list[str]:
        outdated = list_other_releases(self)[keep:][::-1]
        for release in outdated:
            self._delete(release)
        return outdated

    def _delete(self, release: str) -> None:
        name = self.collection(release)
        self.nodes.request("remove a release", lambda client: client.delete_collection(name))


@contextmanager
def _damage_errors(release: str) -> Iterator[None]:
    """Add the release id and advice to the message of each `CorruptReleaseError` in this block."""
    try:
        yield
    except (CorruptReleaseError, MissingCollectionError) as error:
        raise CorruptReleaseError(f"release {release} is damaged: {error}", SEE_DOCTOR) from error
