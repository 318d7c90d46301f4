"""The interfaces of a release store and of an open release."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from catalog.errors import InputError, NoReleaseError
from catalog.model import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from catalog.console.progress import Reporter
    from catalog.draft import Draft
    from catalog.manifest import Manifest
    from catalog.model import Filter, Hit, Point, Search, Song

KEPT = 2
"""Default number of old releases that are kept in addition to the current one."""


class OpenRelease(Protocol):
    """A release opened for reading.

    The methods are coroutines because a Qdrant server is reached over a network. All of them raise
    `EngineError` if Qdrant fails.
    """

    @property
    def manifest(self) -> Manifest:
        """The manifest of the release."""

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """Return the song and dense vector for each of these ids. Unknown ids are omitted."""

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """Return the hits of each search, best first. A server gets all searches in one request."""

    async def cooccurrence_weights(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        """Return the co-occurrence vectors of songs by song id, as weights by index.

        Indexes are ordinals of seeds, or indexes of content keys (see `catalog.content`). Unknown
        ids are omitted.
        """

    async def cooccurrence_scores(
        self, pairs: Sequence[tuple[Mapping[int, float], Sequence[Song]]]
    ) -> list[dict[UUID, float]]:
        """Return, for each pair of seed weights and songs, the scores of the songs by song id.

        For the seed weights and the score, see `Search.weights`. Songs with score 0 may be left
        out. All pairs are sent in one request.
        """

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """Return the `limit` songs that pass `where` and are in the most training playlists.

        The songs are sorted by this number, highest first.
        """

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """Return at most `limit` songs whose artist and title match `text`.

        Each word of `text` must be the beginning of a word of the artist or of the title. The songs
        are sorted by number of training playlists, highest first.
        """

    async def search_spelling(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """Return at most `limit` songs whose artist and title share trigrams with `text`.

        The songs with the most and the rarest trigrams in common come first. If the release has no
        spelling vectors (see `Manifest.has_spelling`), the result is empty.
        """

    def with_deadline(self, deadline: float | None) -> OpenRelease:
        """Return the same release with a deadline for its requests to a server.

        `deadline` is a time of `time.monotonic`, in seconds, or None for no deadline. The returned
        release must not be closed.
        """

    def close(self) -> None:
        """Close the release. No method may be called afterwards."""


Gate = Callable[[OpenRelease], None]
"""A check of a new release before it becomes current; raises `GateError` to refuse it."""


class ReleaseStore(Protocol):
    """A store of releases, of which at most one is current.

    All methods block on disk or network, so an asynchronous caller must run them in a thread. They
    raise `UnavailableError` if a server cannot be reached.
    """

    @property
    def location(self) -> str:
        """The location of the store for messages: a folder, or the address of a server."""

    def current(self) -> str | None:
        """Return the id of the current release, or None if no release is current."""

    def releases(self) -> list[str]:
        """Return the ids of all finished releases, oldest first."""

    def manifest(self, release: str) -> Manifest:
        """Return the manifest of a release. Raises `NoReleaseError` or `CorruptReleaseError`."""

    def open(self, release: str | None = None) -> OpenRelease:
        """Open and verify a release, by default the current one.

        Raises `NoReleaseError`, `CorruptReleaseError` or `EngineError`.
        """

    def publish(self, draft: Draft, reporter: Reporter, gate: Gate | None = None) -> Manifest:
        """Build a release from the draft, verify it and make it the current one.

        `gate` is called with the new release before it becomes current. If anything fails, the
        current release stays as it was. Raises `BusyError`, `StorageError`, `EngineError`,
        `CorruptReleaseError`, and `GateError` if the gate refuses the release.
        """

    def rollback(self, release: str | None = None) -> str:
        """Verify a release, make it the current release, and return its id.

        The default is the newest release that is older than the current release, or the newest
        release if none is current. Raises `NoReleaseError` if there is no such release.
        """

    def prune(self, keep: int) -> list[str]:
        """Remove all releases except the current one and the `keep` newest others.

        Returns the ids of the removed releases.
        """

    def remove(self, release: str) -> None:
        """Remove a release that is not current.

        Raises `NoReleaseError` if the release does not exist, and `InputError` if it is current.
        """

    def verify(self, release: str, reporter: Reporter) -> Manifest:
        """Read all data of a release, and return the manifest.

        Raises `CorruptReleaseError` if data has changed since the release was published.
        """

    def batches(self, release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        """Yield the songs of a release of this store, in batches of rows of `Draft.songs_path`."""

    def export(self, release: str, path: Path, reporter: Reporter) -> Draft:
        """Write all songs of a release to the Parquet file `path`, and return a draft of them."""

    def close(self) -> None:
        """Close the connections, if there are any."""


def list_other_releases(store: ReleaseStore) -> list[str]:
    """Return the ids of all releases of a store except the current one, newest first."""
    current = store.current()
    return [release for release in reversed(store.releases()) if release != current]


SEE_DOCTOR = "see `nextsong doctor`, or publish again with `nextsong ingest run --force FILE`"
"""Advice about a damaged release. `nextsong doctor` finds out which releases are intact."""


def require_current(store: ReleaseStore) -> str:
    """Return the id of the current release. Raises `NoReleaseError` if there is none."""
    current = store.current()
    if current is not None:
        return current
    kept = store.releases()
    if not kept:
        raise NoReleaseError(
            f"no release in {store.location} yet: publish one with `nextsong ingest run FILE`, "
            f"or select another store with --home or --qdrant-url"
        )
    raise NoReleaseError(
        f"no release in {store.location} is the current one (it keeps {len(kept):,}): make the "
        f"newest current with `nextsong releases rollback {kept[-1]}`"
    )


def find_previous_release(store: ReleaseStore) -> str:
    """Return the id of the newest release older than the current one.

    If no release is current, return the id of the newest release. Raises `NoReleaseError` if no
    such release exists.
    """
    current = store.current()
    others = list_other_releases(store)
    older = [release for release in others if current is None or release < current]
    if not older:
        raise NoReleaseError(f"{store.location} keeps no release older than {current}")
    return older[0]


def require_removable(store: ReleaseStore, release: str) -> None:
    """Raise `NoReleaseError` if the release does not exist, and `InputError` if it is current."""
    if release not in store.releases():
        raise NoReleaseError(
            f"no release {release} in {store.location}: see `nextsong releases list`"
        )
    if release == store.current():
        raise InputError(
            f"release {release} is the current one: make another one current first, "
            f"with `nextsong releases rollback`"
        )
