"""Co-occurrence weights: how strongly each song in the training playlists predicts other songs.

A play is an occurrence of a song in a playlist. A song occurs in a playlist only once. Two songs
co-occur if they are at most `cooccurrence_window` positions apart in a playlist. For a seed s and a
song t, count(s, t) is the sum of distance ** -distance_power over their co-occurrences. If t comes
before s, the term is multiplied by `backward`. The weight of seed s for song t is count(s, t) /
plays(s) ** seed_exponent, where plays(s) is the number of training playlists with s. In a release,
the weight is also divided by plays(t) ** song_exponent (see `ingest.publish.points`).

Each seed keeps its `neighbours` largest weights. At most `lone_neighbours` of these weights belong
to songs that share only one playlist with the seed. Most pairs of songs share only one playlist,
which is weak evidence.

This is the item-item neighbourhood of Deshpande and Karypis, "Item-Based Top-N Recommendation
Algorithms", 2004, except that counts depend on the distance within the playlist.
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
"""Maximum number of pairs of plays that a thread counts at a time, which limits memory use."""

_SHARED_PLAYLIST = float(1 << 26)
"""Number added to the count of a seed and a song for each playlist that they share.

One sum therefore contains both the count and the number of shared playlists (see `_counts`).
"""

_STEPS = 64
"""Number of equal intervals of counts from 0 to 1 in the histogram of `_may_be_kept`."""

_WEIGHT_BITS = 23  # kept bits of a positive float32: the exponent and 15 bits of the fraction
_ALL_WEIGHT_BITS = (1 << _WEIGHT_BITS) - 1


Ints = NDArray[np.integer[Any]]
Part = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
"""Co-occurrence weights, as three arrays of equal length: seeds, songs and weights."""


@dataclass(frozen=True)
class CountSummary:
    """Result of the `count` stage.

    - `text`: a one-line summary for display.
    - `songs`: number of songs in training playlists.
    - `strengths`: number of co-occurrence weights.
    - `lone_neighbours`: the maximum number of weights per seed for songs that share only one
      playlist with the seed (see `Parameters.lone_neighbours_for`).
    - `scale`: the scale of the weights (see `WeightScale`).
    """

    text: str
    songs: int
    strengths: int
    lone_neighbours: int
    scale: float


class WeightScale:
    """The scale of the co-occurrence weights, computed from one part of the weights at a time.

    For each play, take the largest weight that the played song has as a seed (0 if it has none).
    The scale is the mean of these weights over all plays. Content entries (see `catalog.content`)
    and cosines are multiplied by the scale, to make them comparable with weights.
    """

    def __init__(self, plays: NDArray[np.int64]) -> None:
        self._plays = plays  # (songs,), the number of plays of each song
        self._total = 0.0

    def add(self, part: Part) -> None:
        """Add weights that `compute_weights` yields, with the largest weight of each seed first."""
        seeds, _, weights = part
        first = np.flatnonzero(np.diff(seeds, prepend=-1))
        self._total += float(self._plays[seeds[first]] @ weights[first].astype(np.float64))

    @property
    def value(self) -> float:
        """The scale of all weights added so far."""
        return self._total / max(1, int(self._plays.sum()))


def count_cooccurrence(
    train_path: Path, folder: Path, parameters: Parameters, reporter: Reporter
) -> CountSummary:
    """Write `cooccurrence.parquet` to `folder`, with one row for each co-occurrence weight.

    The columns are `seed` and `song` (song numbers, int32) and `strength` (the weight: float32,
    above 0, rounded to 16 bits of precision). Rows are sorted by ascending seed, then by descending
    weight. Memory use: all playlists, plus at most `PAIRS_PER_PART` pairs of plays per thread.
    """
    with reporter.task("count") as task:
        lists = pq.read_table(train_path, columns=["songs"])["songs"].combine_chunks()
        offsets = lists.offsets.to_numpy()
        songs = lists.flatten().to_numpy()
        schema = pa.schema([("seed", pa.int32()), ("song", pa.int32()), ("strength", pa.float32())])
        plays = np.bincount(songs)
        kept, scale = 0, WeightScale(plays)
        with (
            storage_errors(folder),
            pq.ParquetWriter(folder / "cooccurrence.parquet", schema) as writer,
        ):
            for done, total, part in compute_weights(offsets, songs, parameters):
                writer.write_table(pa.table(list(part), schema=schema))
                kept += len(part[0])
                scale.add(part)
                task.advance(done, total)
        text = f"{kept:,} co-occurrence weights"
        task.result(text)
    return CountSummary(
        text=text,
        songs=int(np.count_nonzero(plays)),
        strengths=kept,
        lone_neighbours=parameters.lone_neighbours_for(len(plays)),
        scale=scale.value,
    )


def compute_weights(
    offsets: Ints, songs: NDArray[np.int32], parameters: Parameters
) -> Iterator[tuple[int, int, Part]]:
    """Yield the largest `parameters.neighbours` weights of each seed, one range of seeds at a time.

    Playlist i is `songs[offsets[i]:offsets[i + 1]]`, in play order, without repeated songs. Each
    yielded item consists of the number of seeds done so far, the total number of songs, and three
    arrays of equal length: seeds, songs and weights.
    """
    plays = _Plays.of(offsets, songs, parameters)
    total = len(plays.of_song)
    lone = parameters.lone_neighbours_for(total)
    # Threads suffice, because NumPy releases the global interpreter lock (GIL). The queue is short,
    # so that only a few finished parts are in memory. Unlike a ThreadPoolExecutor, a ThreadPool
    # does not wait for its threads after Ctrl-C.
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
    """The plays of all playlists, sorted by song, and the window of plays around each play."""

    songs: NDArray[np.int32]  # (plays,), songs of all playlists, one playlist after the other
    of_song: NDArray[np.int64]  # (songs,), the number of plays of each song
    starts: NDArray[np.int64]  # (songs + 1,), the index in `at` of each song's first play
    at: NDArray[np.int32]  # (plays,), the index of each play in `songs`, sorted by song
    low: NDArray[np.int32]  # (plays,), songs[low[i]:high[i]] is the window around play at[i]
    high: NDArray[np.int32]  # (plays,), the end of the window (see `low`)

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
        """Yield ranges of songs for `_largest_weights`: the first song, and the end (exclusive).

        A range has at most `PAIRS_PER_PART` pairs of plays, unless it is a single song. The number
        of songs is limited so that the integers in `_largest_weights` fit into 63 bits.
        """
        pairs = np.append(0, np.cumsum(self.high - self.low, dtype=np.int64))[self.starts]
        total = len(self.of_song)
        max_songs = 1 << (63 - _WEIGHT_BITS - 1 - total.bit_length())
        low = 0
        while low < total:
            high = int(np.searchsorted(pairs, pairs[low] + PAIRS_PER_PART, side="right")) - 1
            high = min(max(high, low + 1), low + max_songs, total)
            yield low, high
            low = high


def _largest_weights(plays: _Plays, low: int, high: int, parameters: Parameters, lone: int) -> Part:
    """Return the seeds, songs and weights for the seeds from `low` up to but not including `high`.

    `lone` is the maximum number of songs per seed that share only one playlist with the seed.

    Each pair of seed and song is sorted as a 64-bit integer, because integers sort many times
    faster than records. From the highest bit to the lowest, the integer consists of the seed, the
    weight (inverted, so that the largest weight comes first), a flag for pairs that share only one
    playlist, and the song.
    """
    sums = _counts(plays, low, high, parameters)
    row = np.repeat(np.arange(high - low), np.diff(sums.indptr))
    playlists = (sums.data * (1 / _SHARED_PLAYLIST)).astype(np.int32)
    count = sums.data - playlists * _SHARED_PLAYLIST
    candidate = _may_be_kept(row, count, playlists == 1, lone)
    row, song, count = row[candidate], sums.indices[candidate], count[candidate]
    is_lone = playlists[candidate] == 1
    weight = count / (plays.of_song[low:high] ** parameters.seed_exponent)[row]
    # The bits of positive floats, read as integers, have the same order as the floats.
    bits = weight.astype(np.float32).view(np.uint32).astype(np.int64)
    bits = (bits + (1 << 7)) >> 8
    is_positive = bits > 0
    song_bits = len(plays.of_song).bit_length()
    key = row[is_positive] << _WEIGHT_BITS | (_ALL_WEIGHT_BITS - bits[is_positive])
    key = (key << 1 | is_lone[is_positive]) << song_bits | song[is_positive]
    key.sort()
    song = key & ((1 << song_bits) - 1)
    key >>= song_bits
    row = key >> (_WEIGHT_BITS + 1)
    is_lone = (key & 1).astype(bool)
    kept = ~is_lone | (_rank(row, is_lone) < lone)
    kept[kept] = _rank(row[kept], np.ones(int(kept.sum()), bool)) < parameters.neighbours
    bits = _ALL_WEIGHT_BITS - ((key[kept] >> 1) & _ALL_WEIGHT_BITS)
    return (
        (low + row[kept]).astype(np.int32),
        song[kept].astype(np.int32),
        (bits << 8).astype(np.uint32).view(np.float32),
    )


def _counts(plays: _Plays, low: int, high: int, parameters: Parameters) -> csr_array:
    """Return count + `_SHARED_PLAYLIST` * number of shared playlists, for each seed and song.

    The matrix has shape (high - low, songs). It is the product of two sparse matrices: the first
    maps seeds to their plays, and the second maps plays to the songs around them. The product is
    many times faster than sorting the pairs of plays.
    """
    window = parameters.cooccurrence_window
    of_seeds = slice(plays.starts[low], plays.starts[high])
    at, first = plays.at[of_seeds], plays.low[of_seeds]
    size = plays.high[of_seeds] - first
    ends = np.append(0, np.cumsum(size, dtype=np.int64)).astype(np.int32)
    neighbour = np.arange(ends[-1], dtype=np.int32) + np.repeat(first - ends[:-1], size)
    distance = np.arange(2 * window + 1.0) - window
    weight = np.where(distance < 0, parameters.backward, 1.0)
    weight *= np.maximum(1, np.abs(distance)) ** -parameters.distance_power
    # A song does not co-occur with itself. A co-occurrence adds at most 1 to a count, so counts
    # stay far below _SHARED_PLAYLIST. Counts below 1e-8 are lost when the sum is rounded.
    weight = np.where(distance == 0, 0.0, weight + _SHARED_PLAYLIST)
    songs_by_play = csr_array(
        (weight[neighbour - np.repeat(at - window, size)], plays.songs[neighbour], ends),
        shape=(len(at), len(plays.of_song)),
    )
    seed_starts = (plays.starts[low : high + 1] - plays.starts[low]).astype(np.int32)
    plays_by_seed = csr_array(
        (np.ones(len(at)), np.arange(len(at), dtype=np.int32), seed_starts),
        shape=(high - low, len(at)),
    )
    return plays_by_seed @ songs_by_play


def _may_be_kept(
    row: NDArray[np.int64], count: NDArray[np.float64], is_lone: NDArray[np.bool_], lone: int
) -> NDArray[np.bool_]:
    """Return a mask of the pairs that may be among the `lone` largest lone pairs of their seed.

    A lone pair is a seed and a song that share only one playlist. The mask includes all other pairs
    with a count above 0. A histogram of each seed's counts rules out most lone pairs, so that the
    exact selection sorts only a few.
    """
    # The count of a lone pair is between 0 and 1. The count of a song with itself is 0.
    step = row * _STEPS + (count * (_STEPS - 1)).astype(np.int64)
    rows = int(row[-1]) + 1 if len(row) else 0
    at_step = np.bincount(step[is_lone], minlength=rows * _STEPS).reshape(rows, _STEPS)
    above = at_step[:, ::-1].cumsum(axis=1)[:, ::-1] - at_step
    return (count > 0) & (~is_lone | (above.ravel()[np.where(is_lone, step, 0)] < lone))


def _rank(row: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each entry, return the number of earlier `counted` entries in the same row.

    `row` contains the row of each entry, ascending, and `counted` is a mask of the entries.
    """
    before: NDArray[np.int64] = np.cumsum(counted) - counted
    starts = np.diff(row, prepend=-1) != 0
    return before - np.maximum.accumulate(np.where(starts, before, 0))
