"""Identify the recording that versions of a song, such as remasters and edits, have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.song import normalise
from catalog.versions import bare_title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.recommend.seeds import ResolvedSeed, Seed

Recording = tuple[str, str]
"""The normalised artist of a song and its title without the parts that name a version."""


def identify_recording(artist_key: str, title_key: str) -> Recording | None:
    """Return the recording of a song, or None if it has no artist or no title.

    Without an artist, songs with equal titles are not necessarily versions of each other.
    """
    return (artist_key, bare_title(title_key)) if artist_key and title_key else None


def list_played(seeds: Iterable[tuple[Seed, ResolvedSeed]]) -> frozenset[Recording]:
    """Return the recordings of the seeds, for their names both in the query and in the catalog."""
    recordings = set()
    for seed, resolved in seeds:
        recordings.add(identify_recording(seed.artist_key, seed.title_key))
        if resolved.point is not None:
            song = resolved.point.song
            recordings.add(identify_recording(song.artist_key, normalise(song.title)))
    return frozenset(recording for recording in recordings if recording)
