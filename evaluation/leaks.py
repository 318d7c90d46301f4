"""Proof that no held-out playlist is in training: by its id, and by its songs under another id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from evaluation.data import ragged_of
from ingest.work import finished_stage

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.data import Ragged
    from evaluation.protocol import Split


@dataclass(frozen=True)
class Leaks:
    """Playlists of the split that training holds too.

    `same_id` counts those with the id of a training playlist, which must be none; `same_songs`
    names those that have the very songs of a training playlist, in order, under another id: the
    data holds the playlist more than once.
    """

    playlists: int
    same_id: int
    same_songs: list[str]


def find_leaks(work: Path, split: Split, *, ordered: bool = True) -> Leaks:
    """Compare a split with the training playlists. Raises `MismatchError`.

    Where playlists are not `ordered`, the same songs in any order are the same playlist.
    """
    folder = finished_stage(work, "split").folder
    held_out = pq.read_table(folder / f"{split}.parquet", columns=["playlist_id", "songs"])
    train = pq.read_table(folder / "train.parquet", columns=["playlist_id", "songs"])
    train_ids = set(train["playlist_id"].to_pylist())
    train_songs = set(_digests(ragged_of(train["songs"]), ordered=ordered))
    ids = held_out["playlist_id"].to_pylist()
    digests = _digests(ragged_of(held_out["songs"]), ordered=ordered)
    return Leaks(
        playlists=len(ids),
        same_id=sum(one in train_ids for one in ids),
        same_songs=[one for one, digest in zip(ids, digests, strict=True) if digest in train_songs],
    )


def _digests(lists: Ragged, *, ordered: bool) -> list[bytes]:
    size = 4  # bytes a song
    order = slice(None) if ordered else np.lexsort((lists.songs, lists.rows))
    songs = lists.songs[order].astype("<i4").tobytes()
    spans = zip(
        (lists.offsets[:-1] * size).tolist(), (lists.offsets[1:] * size).tolist(), strict=True
    )
    return [hashlib.blake2b(songs[start:end], digest_size=16).digest() for start, end in spans]
