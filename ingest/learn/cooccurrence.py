"""Co-occurrence weights: how strongly each song of the training playlists predicts each other song.

Two songs of a playlist within a window count, more if they are nearer, and more for the later song:
count(s, t) is the sum of distance ** -distance_power, times `backward` if t comes before s. The
weight of seed s for song t is count(s, t) / plays(s) ** seed_exponent / plays(t) ** song_exponent.
Each seed keeps its `neighbours` largest weights; of these, at most `lone_neighbours` for songs that
it met in a single playlist, which are most of all pairs and the weakest evidence. This is the
item-item neighbourhood of Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms",
2004, with the distance within the playlist in place of their conditional probability.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array

from catalog.files import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.pool import AsyncResult
    from pathlib import Path

    from catalog.console.progress import Reporter
    from ingest.parameters import Parameters

PAIRS_PER_PART = 12_000_000
"""Pairs of plays that are counted at a time, which bounds memory."""

_MEETING = float(1 << 26)
_STEPS = 64
_WEIGHT_BITS = 23  # of a positive float32: its exponent and 15 bits of its fraction
_ALL_WEIGHT_BITS = (1 << _WEIGHT_BITS) - 1


@dataclass(frozen=True)
class CountSummary:
    """Result of the stage `count`.

    - `songs`: number of songs in training playlists.
    - `strengths`: number of co-occurrence weights.
    - `lone_neighbours`: the limit that was applied (see `Parameters.lone_neighbours_for`).
    """

    text: str
    songs: int
    strengths: int
    lone_neighbours: int


Ints = NDArray[np.integer[Any]]
Part = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def count_cooccurrence(
    train_path: Path, folder: Path, parameters: Parameters, reporter: Reporter
) -> CountSummary:
    """Write `cooccurrence.parquet` to `folder`: a row for each seed and song with a weight.

    Columns: seed and song (numbers), strength (the weight: float32, above 0, rounded to 16 bits of
    precision); by ascending seed, largest weight first. Memory is bounded by `PAIRS_PER_PART`,
    beside the playlists themselves.
    """
    with reporter.task("count") as task:
        lists = pq.read_table(train_path, columns=["songs"])["songs"].combine_chunks()
        offsets = lists.offsets.to_numpy()
        songs = lists.flatten().to_numpy()
        schema = pa.schema([("seed", pa.int32()), ("song", pa.int32()), ("strength", pa.float32())])
        kept = 0
        with (
            storage_errors(folder),
            pq.ParquetWriter(folder / "cooccurrence.parquet", schema) as writer,
        ):
            for done, total, part in compute_weights(offsets, songs, parameters):
                writer.write_table(pa.table(list(part), schema=schema))
                kept += len(part[0])
                task.advance(done, total)
        text = f"{kept:,} co-occurrence weights"
        task.result(text)
    numbers = int(songs.max(initial=-1)) + 1
    return CountSummary(
        text=text,
        songs=int(np.count_nonzero(np.bincount(songs, minlength=numbers))),
        strengths=kept,
        lone_neighbours=parameters.lone_neighbours_for(numbers),
    )


def compute_weights(
    offsets: Ints, songs: NDArray[np.int32], parameters: Parameters
) -> Iterator[tuple[int, int, Part]]:
    """Yield the largest weights of every seed, a range of seeds at a time.

    Playlist i is `songs[offsets[i]:offsets[i + 1]]`, in play order, without repeated songs. Yields
    the number of seeds done, the number of songs in all, and the arrays seed, song and weight.
    """
    plays = _Plays.of(offsets, songs, parameters)
    total = len(plays.of_song)
    lone = parameters.lone_neighbours_for(total)
    # NumPy releases the interpreter lock, so threads share the work, and few finished parts wait.
    # Unlike an executor, this pool does not wait for its threads when Ctrl-C ends the work.
    with ThreadPool(os.cpu_count()) as pool:
        waiting: deque[tuple[int, AsyncResult[Part]]] = deque()
        for low, high in plays.parts():
            waiting.append(
                (high, pool.apply_async(_largest_weights, (plays, low, high, parameters, lone)))
            )
            if len(waiting) > (os.cpu_count() or 1):
                done, part = waiting.popleft()
                yield done, total, part.get()
        for done, part in waiting:
            yield done, total, part.get()


@dataclass(frozen=True)
class _Plays:
    """All plays ordered by song, with the range of plays in the window around each."""

    songs: NDArray[np.int32]  # (plays,), songs of all playlists, one playlist after the other
    of_song: NDArray[np.int64]  # (songs,), number of plays of each song
    starts: NDArray[np.int64]  # (songs + 1,), index of the first play of each song in `at`
    at: NDArray[np.int32]  # (plays,), index in `songs` of each play, ordered by song
    low: NDArray[np.int32]  # (plays,), the window around each play is songs[low:high]
    high: NDArray[np.int32]

    @staticmethod
    def of(offsets: Ints, songs: NDArray[np.int32], parameters: Parameters) -> _Plays:
        lengths = np.diff(offsets)
        of_song = np.bincount(songs)
        at = np.argsort(songs, kind="stable").astype(np.int32)
        first = np.repeat(offsets[:-1].astype(np.int32), lengths)[at]
        end = np.repeat(offsets[1:].astype(np.int32), lengths)[at]
        window = parameters.cooccurrence_window
        return _Plays(
            songs=songs,
            of_song=of_song,
            starts=np.append(0, np.cumsum(of_song)),
            at=at,
            low=np.maximum(first, at - window) if parameters.backward else at,
            high=np.minimum(end, at + (window + 1)),
        )

    def parts(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of songs with about `PAIRS_PER_PART` pairs each, small enough to sort."""
        pairs = np.append(0, np.cumsum(self.high - self.low, dtype=np.int64))[self.starts]
        total = len(self.of_song)
        most = 1 << (63 - _WEIGHT_BITS - 1 - total.bit_length())
        low = 0
        while low < total:
            high = int(np.searchsorted(pairs, pairs[low] + PAIRS_PER_PART, side="right")) - 1
            high = min(max(high, low + 1), low + most, total)
            yield low, high
            low = high


def _largest_weights(plays: _Plays, low: int, high: int, parameters: Parameters, lone: int) -> Part:
    """Return the arrays seed, song and weight for the seeds from `low` to before `high`.

    To sort pairs, each is packed into one 64-bit integer: integers sort many times faster than
    records.
    """
    counted = _counts(plays, low, high, parameters)
    row = np.repeat(np.arange(high - low), np.diff(counted.indptr))
    playlists = (counted.data * (1 / _MEETING)).astype(np.int32)
    count = counted.data - playlists * _MEETING
    near = _may_be_kept(row, count, playlists == 1, lone)
    row, song, count, once = row[near], counted.indices[near], count[near], playlists[near] == 1
    weight = count / (plays.of_song[low:high] ** parameters.seed_exponent)[row]
    weight /= (plays.of_song**parameters.song_exponent)[song]
    bits = weight.astype(np.float32).view(np.uint32).astype(np.int64)
    bits = (bits + (1 << 7)) >> 8
    is_positive = bits > 0
    song_bits = len(plays.of_song).bit_length()
    key = row[is_positive] << _WEIGHT_BITS | (_ALL_WEIGHT_BITS - bits[is_positive])
    key = (key << 1 | once[is_positive]) << song_bits | song[is_positive]
    key.sort()
    song = key & ((1 << song_bits) - 1)
    key >>= song_bits
    row = key >> (_WEIGHT_BITS + 1)
    once = (key & 1).astype(bool)
    kept = ~once | (_rank(row, once) < lone)
    kept[kept] = _rank(row[kept], np.ones(int(kept.sum()), bool)) < parameters.neighbours
    bits = _ALL_WEIGHT_BITS - ((key[kept] >> 1) & _ALL_WEIGHT_BITS)
    return (
        (low + row[kept]).astype(np.int32),
        song[kept].astype(np.int32),
        (bits << 8).astype(np.uint32).view(np.float32),
    )


def _counts(plays: _Plays, low: int, high: int, parameters: Parameters) -> csr_array:
    """Return count + `_MEETING` * shared playlists of each seed (minus `low`) and song.

    The product of two sparse matrices, seeds by plays and plays by the songs around them, sums over
    repeated pairs in a fraction of the time of a sort.
    """
    window = parameters.cooccurrence_window
    own = slice(plays.starts[low], plays.starts[high])
    at, first = plays.at[own], plays.low[own]
    size = plays.high[own] - first
    ends = np.append(0, np.cumsum(size, dtype=np.int64)).astype(np.int32)
    other = np.arange(ends[-1], dtype=np.int32) + np.repeat(first - ends[:-1], size)
    distance = np.arange(2 * window + 1.0) - window
    weight = np.where(distance < 0, parameters.backward, 1.0)
    weight *= np.maximum(1, np.abs(distance)) ** -parameters.distance_power
    # A song does not co-occur with itself. Counts stay far below _MEETING because no single pair
    # counts more than 1; counts below 1e-8 are lost to rounding beside it.
    weight = np.where(distance == 0, 0.0, weight + _MEETING)
    around = csr_array(
        (weight[other - np.repeat(at - window, size)], plays.songs[other], ends),
        shape=(len(at), len(plays.of_song)),
    )
    its_plays = (plays.starts[low : high + 1] - plays.starts[low]).astype(np.int32)
    seeds = csr_array(
        (np.ones(len(at)), np.arange(len(at), dtype=np.int32), its_plays),
        shape=(high - low, len(at)),
    )
    return seeds @ around


def _may_be_kept(
    row: NDArray[np.int64], count: NDArray[np.float64], once: NDArray[np.bool_], lone: int
) -> NDArray[np.bool_]:
    """Return all pairs except those that met once and have `lone` nearer such pairs in their row.

    This leaves out most pairs before the sort, which makes the exact selection.
    """
    # The count of a pair that met once is from 0 to 1; that of a song with itself is 0.
    step = row * _STEPS + (count * (_STEPS - 1)).astype(np.int64)
    rows = int(row[-1]) + 1 if len(row) else 0
    at_step = np.bincount(step[once], minlength=rows * _STEPS).reshape(rows, _STEPS)
    above = at_step[:, ::-1].cumsum(axis=1)[:, ::-1] - at_step
    return (count > 0) & (~once | (above.ravel()[np.where(once, step, 0)] < lone))


def _rank(row: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many counted entries precede each entry in its row. Rows ascend."""
    before: NDArray[np.int64] = np.cumsum(counted) - counted
    starts = np.diff(row, prepend=-1) != 0
    return before - np.maximum.accumulate(np.where(starts, before, 0))
