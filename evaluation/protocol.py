"""Held-out playlists -> queries: the first songs are asked with, the last is the label.

Every playlist of the split makes a query; a label that the catalog lacks is a miss, and never
leaves the denominator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import pyarrow.parquet as pq

from catalog.errors import MismatchError
from ingest.work import finished_stage
from service.seeds import Seed

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.manifest import Manifest

Split = Literal["validation", "test"]


@dataclass(frozen=True, slots=True)
class Query:
    """A held-out playlist: its songs but the last, in play order, and the last."""

    playlist_id: str
    name: str
    seeds: tuple[Seed, ...]
    label: Seed


def load_queries(work: Path, split: Split, manifest: Manifest) -> list[Query]:
    """The queries of a split, in the order of playlist ids.

    Raises `MismatchError` where the work folder is not the one that the release was made in, for
    then its training playlists may hold these very ones.
    """
    splits = finished_stage(work, "split")
    if splits.fingerprint != manifest.origin.split_fingerprint:
        raise MismatchError(
            f"release {manifest.release} was not made from the playlists in {work}: run "
            f"`nextsong ingest run` again, or name its folder with --work"
        )
    playlists = pq.read_table(splits.folder / f"{split}.parquet")
    if not playlists.num_rows:
        raise MismatchError(f"no playlist falls to {split}: give more playlists, or another --seed")
    needed = set(playlists["songs"].combine_chunks().flatten().to_pylist())
    songs_path = finished_stage(work, "prepare").folder / "songs.parquet"
    songs = pq.read_table(songs_path, columns=["song", "song_id", "artist", "title"])
    seeds = {
        song: Seed(UUID(song_id), artist, title)
        for song, song_id, artist, title in zip(
            *(column.to_pylist() for column in songs.columns), strict=True
        )
        if song in needed
    }
    return [
        Query(
            row["playlist_id"],
            row["name"],
            tuple(seeds[song] for song in row["songs"][:-1]),
            seeds[row["songs"][-1]],
        )
        for row in playlists.to_pylist()
    ]
