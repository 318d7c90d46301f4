"""Held-out playlists -> queries: some songs are asked with, the others are the labels.

Every playlist of the split makes a query; a label that the catalog lacks is a miss, and never
leaves the denominator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.parquet as pq

from catalog.errors import MismatchError
from evaluation.protocol.dataset import Numbers, Ragged, ragged, ragged_of
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.manifest import Manifest

Split = Literal["validation", "test"]
Holdout = Literal["last", "random", "half"]

HOLDOUTS = {
    "last": "the last song of each held out",
    "random": "one song of each held out, wherever it stands",
    "half": "the last half of each held out",
}


@dataclass(frozen=True)
class Queries:
    """n held-out playlists: the songs that are asked with, in play order, and the labels."""

    playlist_ids: list[str]
    names: list[str]
    seeds: Ragged
    labels: Ragged

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def label(self) -> Numbers:
        """The first label of each query, shape (n,)."""
        return self.labels.songs[self.labels.offsets[:-1]]

    def take(self, places: NDArray[np.integer[Any]]) -> Queries:
        """The queries at these places."""
        return Queries(
            [self.playlist_ids[place] for place in places],
            [self.names[place] for place in places],
            self.seeds.take(places),
            self.labels.take(places),
        )

    def sample(self, size: int, seed: int) -> Queries:
        """At most `size` of them, drawn at random, in the order in which they stand."""
        if size >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:size]))

    def asking(self, seeds: Ragged) -> Queries:
        """The same playlists asked with other songs."""
        return replace(self, seeds=seeds)


def load_queries(
    work: Path, split: Split, holdout: Holdout, seed: int, manifest: Manifest | None = None
) -> Queries:
    """The queries of a split, in the order of playlist ids; each has a seed and a label.

    `seed` chooses the place of a random label, by the playlist's id alone. With `manifest`, raises
    `MismatchError` where the work folder is not the one that the release was made in, for then its
    training playlists may hold these very ones.
    """
    splits = finished_stage(work, "split")
    if manifest and splits.fingerprint != manifest.origin.split_fingerprint:
        raise MismatchError(
            f"release {manifest.release} was not made from the playlists in {work}: run "
            f"`nextsong ingest run` again, or name its folder with --work"
        )
    playlists = pq.read_table(splits.folder / f"{split}.parquet")
    if not playlists.num_rows:
        raise MismatchError(f"no playlist falls to {split}: give more playlists, or another --seed")
    songs = ragged_of(playlists["songs"])
    ids = playlists["playlist_id"].to_pylist()
    seeds, labels = [], []
    for playlist_id, place in zip(ids, range(len(songs)), strict=True):
        asked, held_out = _cut(songs[place], holdout, f"{seed}:{playlist_id}")
        seeds.append(asked)
        labels.append(held_out)
    return Queries(ids, playlists["name"].to_pylist(), ragged(seeds), ragged(labels))


def _cut(songs: Numbers, holdout: Holdout, key: str) -> tuple[Numbers, Numbers]:
    if holdout == "last":
        return songs[:-1], songs[-1:]
    if holdout == "half":
        middle = (len(songs) + 1) // 2
        return songs[:middle], songs[middle:]
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") % len(songs)
    return np.delete(songs, place), songs[place : place + 1]
