"""The interfaces of a release store and of an open release."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from catalog.errors import NoReleaseError
from catalog.model import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from catalog.draft import Draft
    from catalog.manifest import Manifest
    from catalog.model import Filter, Hit, Point, Search, Song, Vector
    from catalog.progress import Reporter

KEPT = 2
"""How many old releases stay beside the current one."""


class OpenRelease(Protocol):
    """A release opened for reading.

    The methods are coroutines because one of the two homes is across a network. All of them raise
    `EngineError` when Qdrant fails.
    """

    @property
    def manifest(self) -> Manifest:
        """The account of the release."""

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """The songs of these ids with their vectors; unknown ids are left out."""

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """The songs that each search finds, best first, all asked in one go."""

    async def strengths(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        """How strongly each seed, by its ordinal, predicts these songs; unknown ids left out."""

    async def similarities(
        self, asked: Sequence[tuple[Vector, Sequence[UUID]]]
    ) -> list[dict[UUID, float]]:
        """The cosines of a vector with these songs, -1 to 1, for each that is asked about.

        Songs without a vector, and unknown ids, are left out.
        """

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """At most `limit` songs, those in the most training playlists first."""

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """At most `limit` songs with a word in artist or title for each beginning in `text`.

        Those in the most training playlists come first.
        """

    def close(self) -> None:
        """Let go of the engine; nothing may be asked afterwards."""


Gate = Callable[[OpenRelease], None]
"""Looks at a new release before it becomes current; raises `GateError` where it must not."""


class ReleaseStore(Protocol):
    """A place that keeps releases, of which at most one is current.

    All methods wait for disk or network: a program that serves calls them in a thread. A server
    that cannot be reached raises `UnavailableError`.
    """

    @property
    def place(self) -> str:
        """Where it is, for people."""

    def current(self) -> str | None:
        """The id of the current release, or None if nothing has been published."""

    def releases(self) -> list[str]:
        """The ids of all finished releases, the oldest first."""

    def manifest(self, release: str) -> Manifest:
        """The account of a release. Raises `NoReleaseError` or `CorruptReleaseError`."""

    def open(self, release: str | None = None) -> OpenRelease:
        """Open a release, the current one if none is named, and verify it.

        Raises `NoReleaseError`, `CorruptReleaseError` or `EngineError`.
        """

    def publish(self, draft: Draft, reporter: Reporter, gate: Gate | None = None) -> Manifest:
        """Make a release of the draft, verify it and make it the current one.

        `gate` is given the new release before it becomes current, and raises `GateError` where it
        must not. Whatever goes wrong, the current release stays as it was. Raises `BusyError`,
        `StorageError`, `EngineError` or `CorruptReleaseError`.
        """

    def rollback(self, release: str | None = None) -> str:
        """Make an older release current, the one before the current if none is named.

        It is verified first. Returns its id. Raises `NoReleaseError` where there is none.
        """

    def prune(self, keep: int) -> list[str]:
        """Remove all releases but the current one and the `keep` newest others; returns them."""

    def remove(self, release: str) -> None:
        """Remove a release that is not current. Raises `NoReleaseError` or `InputError`."""

    def verify(self, release: str, reporter: Reporter) -> Manifest:
        """Read all of a release; raises `CorruptReleaseError` saying what is not as published."""

    def batches(self, release: OpenRelease) -> Iterator[list[dict[str, Any]]]:
        """All songs of a release that was opened here, as a draft has them, some at a time."""

    def export(self, release: str, path: Path, reporter: Reporter) -> Draft:
        """Write all songs of a release to the Parquet file `path`: a draft to publish elsewhere."""

    def close(self) -> None:
        """Let go of connections."""


def others_than_current(home: ReleaseStore) -> list[str]:
    """The releases of a home beside its current one, the newest first."""
    current = home.current()
    return [release for release in reversed(home.releases()) if release != current]


SEE_DOCTOR = "see `nextsong doctor`, or publish again with `nextsong ingest run --force FILE`"
"""The advice of every message about damage: what helps depends on the other releases."""


def require_current(home: ReleaseStore) -> str:
    """Return the id of the current release. Raises `NoReleaseError` if there is none."""
    current = home.current()
    if current is not None:
        return current
    kept = home.releases()
    if not kept:
        raise NoReleaseError(
            f"no release in {home.place} yet: publish one with `nextsong ingest run FILE`, "
            f"or name another place with --home or --qdrant-url"
        )
    raise NoReleaseError(
        f"no release in {home.place} is the current one, though it keeps {len(kept):,}: make the "
        f"newest current with `nextsong releases rollback {kept[-1]}`"
    )


def release_before(home: ReleaseStore) -> str:
    """Return the newest release that is older than the current one; without one, the newest.

    Raises `NoReleaseError` if there is none.
    """
    current = home.current()
    others = others_than_current(home)
    older = [release for release in others if current is None or release < current]
    if not older:
        raise NoReleaseError(f"{home.place} keeps no release older than {current}")
    return older[0]
