"""The home on a Qdrant server: a collection a release, and an alias for the current one.

    PREFIX_ID      a release; its manifest is in the collection's metadata
    PREFIX         the alias of the current release
    PREFIX_lock    who may publish (see `catalog.server.lock`)

A release is uploaded into a collection of its own, indexed and verified; then the alias moves, in
one step. What a kill leaves is finished, or removed, by the next who publishes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from catalog import index_quality
from catalog import manifest as manifests
from catalog.draft import (
    canaries_of,
    created_of,
    draft_of,
    release_named,
    require_removable,
    write_songs,
)
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
from catalog.server import upload
from catalog.server import verify as server_check
from catalog.server.connection import Absent, AsyncNodes, Nodes
from catalog.server.lock import leased
from catalog.server.options import Layout
from catalog.server.release import ServerRelease
from catalog.store import KEPT, SEE_DOCTOR, others_than_current, release_before, require_current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from catalog.draft import Draft
    from catalog.progress import Reporter
    from catalog.server.options import QdrantOptions
    from catalog.store import Gate, OpenRelease

_READY = "ready"
_UPLOADING = "uploading"


class ServerStore:
    """A home on a Qdrant server. Publishing lays out as `layout` says and keeps `keep` releases."""

    def __init__(
        self,
        options: QdrantOptions,
        *,
        layout: Layout | None = None,
        keep: int = KEPT,
        nodes: Nodes | None = None,
        opened: Callable[[], AsyncNodes] | None = None,
    ) -> None:
        self.options = options
        self.nodes = nodes or Nodes(options)
        self._opened = opened or (lambda: AsyncNodes(options))
        self._layout = layout or Layout()
        self._keep = keep

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"Qdrant at {', '.join(self.options.urls)} ({self.options.prefix})"

    def collection(self, release: str) -> str:
        """The name of a release's collection."""
        return f"{self.options.prefix}_{release}"

    def current(self) -> str | None:
        """The id of the current release, or None if nothing has been published."""
        aliases = self.nodes.ask("read the aliases", lambda client: client.get_aliases()).aliases
        for alias in aliases:
            if alias.alias_name == self.options.prefix:
                release = self._release_in(alias.collection_name)
                if release is None:
                    raise CorruptReleaseError(
                        f"the alias {self.options.prefix} names {alias.collection_name}, which is "
                        f"no release",
                        SEE_DOCTOR,
                    )
                return release
        return None

    def releases(self) -> list[str]:
        """The ids of all finished releases, the oldest first."""
        states = {release: self._metadata(release).get("state") for release in self.all_releases()}
        return sorted(release for release, state in states.items() if state == _READY)

    def all_releases(self) -> list[str]:
        """The ids of all releases, the unfinished too, the oldest first."""
        found = self.nodes.ask("list collections", lambda client: client.get_collections())
        names = (self._release_in(collection.name) for collection in found.collections)
        return sorted(release for release in names if release)

    def manifest(self, release: str) -> Manifest:
        """The account of a release."""
        return self._manifest_in(release, self._metadata(release))

    def open(self, release: str | None = None) -> ServerRelease:
        """Open a release, the current one if none is named, and verify it."""
        release = release or require_current(self)
        manifest = self.manifest(release)
        with _damage(release):
            shards = server_check.quickly(self.nodes, self.collection(release), manifest)
        return ServerRelease(self._opened(), self.collection(release), manifest, shards)

    def publish(self, draft: Draft, reporter: Reporter, gate: Gate | None = None) -> Manifest:
        """Upload the draft as a new release, verify it and make it the current one.

        Whatever goes wrong, the current release stays as it was. Run again, an interrupted upload
        of the same draft goes on where it was. Raises `BusyError`, `StorageError`, `EngineError`,
        `UnavailableError`, `CorruptReleaseError` or `GateError`.
        """
        with (
            self._lease("publishing a release") as lease,
            self.nodes.patiently(upload.PATIENCE_S),
        ):
            draft_sum = upload.sum_of(draft.songs_path)
            finished, unfinished = self._left_behind(draft_sum, draft)
            if finished and self._is_whole(finished, reporter):
                manifest = self.manifest(finished)
            else:
                manifest = self._build(draft, draft_sum, unfinished, reporter)
            if gate:
                self._ask(gate, manifest.release)
            lease.require()
            self._point_at(manifest.release)
            try:
                self._prune(self._keep)
            except NextsongError as error:  # the new release is current all the same
                reporter.say(f"  old releases could not be removed: {error}")
        return manifest

    def rollback(self, release: str | None = None) -> str:
        """Make an older release current, the one before the current if none is named."""
        with self._lease("rolling back") as lease:
            chosen = release or release_before(self)
            self.open(chosen).close()
            lease.require()
            self._point_at(chosen)
        return chosen

    def prune(self, keep: int) -> list[str]:
        """Remove all releases but the current one and the `keep` newest others; returns them."""
        with self._lease("pruning"):
            return self._prune(keep)

    def remove(self, release: str) -> None:
        """Remove a release that is not current. Raises `NoReleaseError` or `InputError`."""
        with self._lease("removing a release"):
            require_removable(self, release)
            self._delete(release)

    def verify(self, release: str, reporter: Reporter) -> Manifest:
        """Read all of a release; raises `CorruptReleaseError` saying what is not as published."""
        metadata = self._metadata(release)
        manifest = self._manifest_in(release, metadata)
        with reporter.task("verify") as task, _damage(release):
            server_check.quickly(self.nodes, self.collection(release), manifest)
            server_check.fully(
                self.nodes, self.collection(release), manifest, metadata.get("digest"), task
            )
            task.result(f"{manifest.counts.songs:,} songs, every bit as published")
        return manifest

    def batches(self, release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        """All songs of a release that was opened here, as a draft has them, some at a time."""
        return server_check.batches(self.nodes, self.collection(release.manifest.release))

    def export(self, release: str, path: Path, reporter: Reporter) -> Draft:
        """Write all songs of a release to the Parquet file `path`: a draft to publish elsewhere."""
        metadata = self._metadata(release)
        manifest = self._manifest_in(release, metadata)
        batches = server_check.batches(self.nodes, self.collection(release))
        with _damage(release):
            checked = server_check.checked(batches, metadata.get("digest"), manifest.counts.songs)
            write_songs(checked, manifest, path, reporter)
        return draft_of(manifest, path)

    def close(self) -> None:
        """Let go of connections."""
        self.nodes.close()

    def _lease(self, task: str) -> Any:
        name = f"{self.options.prefix}_lock"
        return leased(self.nodes, name, task, self._layout.replicas)

    def _release_in(self, collection: str) -> str | None:
        prefix, _, release = collection.rpartition("_")
        known = prefix == self.options.prefix and is_release_id(release)
        return release if known else None

    def _metadata(self, release: str) -> dict[str, Any]:
        if not is_release_id(release):
            raise NoReleaseError(f"'{release}' is no release of {self.place}")
        name = self.collection(release)
        try:
            info = self.nodes.ask(f"look at {name}", lambda client: client.get_collection(name))
        except Absent as error:
            raise NoReleaseError(f"no release {release} in {self.place}") from error
        return dict(info.config.metadata or {})

    def _manifest_in(self, release: str, metadata: dict[str, Any]) -> Manifest:
        where = f"the metadata of {self.collection(release)}"
        if "manifest" not in metadata:
            raise CorruptReleaseError(f"{where} hold no manifest", SEE_DOCTOR)
        return manifests.from_values(metadata["manifest"], where)

    def _left_behind(self, draft_sum: str, draft: Draft) -> tuple[str | None, str | None]:
        """What was made of this draft but never became current: a whole release, and a part.

        Parts of other drafts are removed.
        """
        current = self.current()
        finished = unfinished = None
        for release in self.all_releases():
            if release == current:
                continue
            metadata = self._metadata(release)
            ready = metadata.get("state") == _READY
            same = metadata.get("draft") == draft_sum and metadata.get("layout") == asdict(
                self._layout
            )
            if draft.copy_of:
                goes_on = draft.copy_of.release == release and (ready or same)
            else:
                goes_on = same and (current is None or release > current)
            if ready and goes_on:
                finished = release
            elif goes_on:
                unfinished = release
            elif not ready:
                self._delete(release)
        return finished, unfinished

    def _is_whole(self, release: str, reporter: Reporter) -> bool:
        try:
            self.verify(release, reporter)
        except CorruptReleaseError as error:
            reporter.say(f"  {error}: it is made anew")
            self._delete(release)
            return False
        return True

    def _build(
        self, draft: Draft, draft_sum: str, unfinished: str | None, reporter: Reporter
    ) -> Manifest:
        created = datetime.now(UTC)
        release = unfinished or release_named(draft, created)
        if release == self.current():
            raise BusyError(f"release {release} is the current one of {self.place} already")
        name = self.collection(release)
        with reporter.task("publish") as task:
            if not unfinished:
                metadata = {
                    "state": _UPLOADING,
                    "draft": draft_sum,
                    "layout": asdict(self._layout),
                }
                upload.create(self.nodes, name, draft, self._layout, metadata)
            uploaded = upload.upload(self.nodes, name, draft, task, resumed=unfinished is not None)
            indexed = upload.build_index(self.nodes, name, draft, task)
            manifest = Manifest(
                format=manifests.FORMAT,
                release=release,
                created=created_of(draft, created),
                dimensions=draft.dimensions,
                counts=draft.counts,
                origin=draft.origin,
                files={},
                canaries=canaries_of(draft.songs_path),
                payload=draft.payload,
                ranker=draft.ranker,
                validation=draft.validation,
            )
            manifest = index_quality.with_search_width(
                manifest,
                lambda one: ServerRelease(self._opened(), name, one),
            )
            with _damage(release):
                server_check.quickly(self.nodes, name, manifest)
                server_check.samples(self.nodes, name, uploaded.samples)
            ready = {
                "state": _READY,
                "digest": uploaded.digest,
                "manifest": asdict(manifest),
            }
            self.nodes.ask(
                "write the manifest",
                lambda client: client.update_collection(name, metadata=ready),
            )
            text = f"{manifest.counts.songs:,} songs, {indexed:,} vectors indexed"
            task.result(f"{text}, in release {release}")
        return manifest

    def _ask(self, gate: Gate, release: str) -> None:
        opened = self.open(release)
        try:
            gate(opened)
        except GateError:
            self._delete(release)
            raise
        finally:
            opened.close()

    def _point_at(self, release: str) -> None:
        alias = self.options.prefix
        name = self.collection(release)
        steps: list[Any] = [
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=name, alias_name=alias)
            )
        ]
        existing = self.nodes.ask("read the aliases", lambda client: client.get_aliases()).aliases
        if any(other.alias_name == alias for other in existing):
            gone = models.DeleteAlias(alias_name=alias)
            steps.insert(0, models.DeleteAliasOperation(delete_alias=gone))
        try:
            self.nodes.ask(
                "move the alias", lambda client: client.update_collection_aliases(steps), hurry=True
            )
        except (UnavailableError, EngineError):
            if self.current() != release:  # an answer that was lost may have been a yes
                raise

    def _prune(self, keep: int) -> list[str]:
        doomed = others_than_current(self)[keep:][::-1]
        for release in doomed:
            self._delete(release)
        return doomed

    def _delete(self, release: str) -> None:
        name = self.collection(release)
        self.nodes.ask("remove a release", lambda client: client.delete_collection(name))


@contextmanager
def _damage(release: str) -> Iterator[None]:
    try:
        yield
    except (CorruptReleaseError, Absent) as error:
        raise CorruptReleaseError(f"release {release} is damaged: {error}", SEE_DOCTOR) from error
