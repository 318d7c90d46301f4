"""Check for leaks: held-out playlists that are also training playlists, by id or by songs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from evaluation.protocol.dataset import SongLists
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from pathlib import Path

BYTES_PER_SONG = 4  # size of a song number in the digested bytes


@dataclass(frozen=True)
class Leaks:
    """Held-out playlists (validation and test) that are also training playlists.

    - `playlists`: number of held-out playlists.
    - `same_id`: number of held-out playlists with the id of a training playlist. It must be 0.
    - `same_songs`: ids of held-out playlists with the same songs as a training playlist. They are
      duplicates in the data.
    - `across`: number of test playlists with the same songs as a validation playlist.
    """

    playlists: int
    same_id: int
    same_songs: list[str]
    across: int = 0


def find_leaks(work: Path, *, ordered: bool = True) -> Leaks:
    """Compare the validation and test playlists with the training playlists.

    If `ordered` is False, playlists with the same songs in different order count as equal. Raises
    `MismatchError` if the work folder has no split.
    """
    train_ids, train_digests = _read_split(work, "train", ordered=ordered)
    validation_ids, validation_digests = _read_split(work, "validation", ordered=ordered)
    test_ids, test_digests = _read_split(work, "test", ordered=ordered)
    ids, digests = validation_ids + test_ids, validation_digests + test_digests
    in_train, in_validation = set(train_digests), set(validation_digests)
    known_ids = set(train_ids)
    return Leaks(
        playlists=len(ids),
        same_id=sum(playlist_id in known_ids for playlist_id in ids),
        same_songs=[
            playlist_id
            for playlist_id, digest in zip(ids, digests, strict=True)
            if digest in in_train
        ],
        across=sum(digest in in_validation for digest in test_digests),
    )


def _read_split(work: Path, split: str, *, ordered: bool) -> tuple[list[str], list[bytes]]:
    """Return the ids of the playlists of a split, and a digest of the songs of each playlist."""
    path = finished_stage(work, "split").folder / f"{split}.parquet"
    table = pq.read_table(path, columns=["playlist_id", "songs"])
    lists = SongLists.from_arrow(table["songs"])
    order = slice(None) if ordered else np.lexsort((lists.songs, lists.rows))
    songs = lists.songs[order].astype("<i4").tobytes()
    ends = (lists.offsets * BYTES_PER_SONG).tolist()
    digests = [
        hashlib.blake2b(songs[start:end], digest_size=16).digest() for start, end in pairwise(ends)
    ]
    return table["playlist_id"].to_pylist(), digests
