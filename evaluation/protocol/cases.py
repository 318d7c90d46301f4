"""Held-out cases: each held-out playlist is divided into seeds and labels.

Every playlist of the split becomes a case. A case whose label is not in the catalog is kept and
counts as a miss.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.parquet as pq

from catalog.errors import MismatchError
from evaluation.protocol.dataset import SongLists, SongNumbers
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.manifest import Manifest

Split = Literal["validation", "test"]
Holdout = Literal["last", "random", "half"]

HOLDOUTS = {
    "last": "the last song of each held out",
    "random": "one song of each held out, at a random position",
    "half": "the last half of each held out",
}
"""Texts that describe the held-out songs, to follow a text such as "500 playlists, "."""


@dataclass(frozen=True)
class HeldOutCases:
    """n cases: held-out playlists, each divided into seeds, in play order, and labels.

    - `playlist_ids`, `names`: ids and names of the playlists, length n.
    - `seeds`, `labels`: the seeds and the labels of each case.

    `weights` contains a weight for each entry of `seeds.songs`, negative for disliked songs. It is
    None if all weights are 1. Releases and services use the weights; baselines ignore them.
    """

    playlist_ids: list[str]
    names: list[str]
    seeds: SongLists
    labels: SongLists
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def label(self) -> SongNumbers:
        """The first label of each case, shape (n,)."""
        return self.labels.songs[self.labels.offsets[:-1]]

    def take(self, rows: NDArray[np.integer[Any]]) -> HeldOutCases:
        """Return the cases with these indexes."""
        return HeldOutCases(
            [self.playlist_ids[row] for row in rows],
            [self.names[row] for row in rows],
            self.seeds.take(rows),
            self.labels.take(rows),
            None if self.weights is None else self._take_weights(self.weights, rows),
        )

    def _take_weights(
        self, weights: NDArray[np.float32], rows: NDArray[np.integer[Any]]
    ) -> NDArray[np.float32]:
        offsets = self.seeds.offsets
        return np.concatenate([weights[offsets[row] : offsets[row + 1]] for row in rows])

    def split_batches(self, size: int) -> Iterator[HeldOutCases]:
        """Yield the cases in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def sample(self, size: int, seed: int) -> HeldOutCases:
        """Return at most `size` cases, drawn at random, in their original order."""
        if size >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:size]))

    def with_seeds(
        self, seeds: SongLists, weights: NDArray[np.float32] | None = None
    ) -> HeldOutCases:
        """Return the same cases with other seeds. `seeds` has one list for each case."""
        return replace(self, seeds=seeds, weights=weights)


@dataclass(frozen=True)
class HeldOutPlaylists:
    """The playlists of a split: ids, names and songs in play order."""

    ids: list[str]
    names: list[str]
    songs: SongLists


def read_playlists(work: Path, split: Split) -> HeldOutPlaylists:
    """Return the playlists of a split, in the order of their ids.

    Raises `MismatchError` if the split has no playlists.
    """
    table = pq.read_table(finished_stage(work, "split").folder / f"{split}.parquet")
    if not table.num_rows:
        raise MismatchError(
            f"the {split} split has no playlists: ingest more playlists, or use another --seed"
        )
    return HeldOutPlaylists(
        table["playlist_id"].to_pylist(),
        table["name"].to_pylist(),
        SongLists.from_arrow(table["songs"]),
    )


def load_cases(
    work: Path, split: Split, holdout: Holdout, seed: int, manifest: Manifest | None = None
) -> HeldOutCases:
    """Return the cases of a split, in the order of playlist ids.

    Each case has at least one seed and one label. If `holdout` is "random", the position of the
    label depends on `seed` and the id of the playlist. Raises `MismatchError` if the split has no
    playlists, or if `manifest` describes a release that was not made in the work folder: such a
    release may have been trained on these playlists.
    """
    stage = finished_stage(work, "split")
    if manifest and stage.fingerprint != manifest.origin.split_fingerprint:
        raise MismatchError(
            f"release {manifest.release} was not made from the playlists in {work}: run "
            f"`nextsong ingest run` again, or name its folder with --work"
        )
    playlists = read_playlists(work, split)
    divided = [
        _divide(playlists.songs[row], holdout, f"{seed}:{playlist_id}")
        for row, playlist_id in enumerate(playlists.ids)
    ]
    return HeldOutCases(
        playlists.ids,
        playlists.names,
        SongLists.from_lists([seeds for seeds, _ in divided]),
        SongLists.from_lists([labels for _, labels in divided]),
    )


def _divide(songs: SongNumbers, holdout: Holdout, key: str) -> tuple[SongNumbers, SongNumbers]:
    """Return the seeds and the labels of one playlist. `key` determines a random position."""
    if holdout == "last":
        return songs[:-1], songs[-1:]
    if holdout == "half":
        middle = (len(songs) + 1) // 2
        return songs[:middle], songs[middle:]
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") % len(songs)
    return np.delete(songs, position), songs[position : position + 1]
