"""Proof that no held-out playlist is in training: by its id, and by its songs under another id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from evaluation.protocol.dataset import ragged_of
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.protocol.dataset import Ragged

HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Leaks:
    """Held-out playlists, of validation and test, that training holds too.

    `same_id` counts those with the id of a training playlist, which must be none; `same_songs`
    names those that have the very songs of a training playlist, in order, under another id: the
    data holds the playlist more than once. `across` are test playlists whose songs are those of a
    validation playlist: parameters that were chosen on that one have seen them.
    """

    playlists: int
    same_id: int
    same_songs: list[str]
    across: int = 0


def find_leaks(work: Path, *, ordered: bool = True) -> Leaks:
    """Compare both held-out splits with the training playlists. Raises `MismatchError`.

    Where playlists are not `ordered`, the same songs in any order are the same playlist.
    """
    folder = finished_stage(work, "split").folder
    columns = ["playlist_id", "songs"]
    train = pq.read_table(folder / "train.parquet", columns=columns)
    train_ids = set(train["playlist_id"].to_pylist())
    train_songs = set(_digests(ragged_of(train["songs"]), ordered=ordered))
    ids: list[str] = []
    digests: list[list[bytes]] = []
    for split in HELD_OUT:
        held_out = pq.read_table(folder / f"{split}.parquet", columns=columns)
        ids += held_out["playlist_id"].to_pylist()
        digests.append(_digests(ragged_of(held_out["songs"]), ordered=ordered))
    validation, test = digests
    known = set(validation)
    both = zip(ids, [*validation, *test], strict=True)
    return Leaks(
        playlists=len(ids),
        same_id=sum(one in train_ids for one in ids),
        same_songs=[one for one, digest in both if digest in train_songs],
        across=sum(digest in known for digest in test),
    )


def _digests(lists: Ragged, *, ordered: bool) -> list[bytes]:
    size = 4  # bytes a song
    order = slice(None) if ordered else np.lexsort((lists.songs, lists.rows))
    songs = lists.songs[order].astype("<i4").tobytes()
    spans = zip(
        (lists.offsets[:-1] * size).tolist(), (lists.offsets[1:] * size).tolist(), strict=True
    )
    return [hashlib.blake2b(songs[start:end], digest_size=16).digest() for start, end in spans]
