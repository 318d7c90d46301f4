"""Training playlists -> how strongly each song predicts each other: the co-occurrence vectors.

Every two songs of a playlist within a window count, the more the nearer they are, and more for the
song that comes later: count(s, t) = sum of distance ** -distance_power, times `backward` where t
comes before s. The strength of s for t is count(s, t) / plays(s) ** seed_exponent /
plays(t) ** song_exponent, and each s keeps its strongest `neighbours`, of which at most
`lone_neighbours` that it met in one playlist only: such pairs are most of all, and say least. This
is the item-item neighbourhood of Deshpande and Karypis, "Item-Based Top-N Recommendation
Algorithms", 2004, with the distance in the playlist for their conditional probability.
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

    from catalog.progress import Reporter
    from ingest.parameters import Parameters

PAIRS_PER_PART = 12_000_000
_MEETING = float(1 << 26)
_STEPS = 64
_STRENGTH_BITS = 23  # of a float32 that is above 0: its exponent and 15 bits of its fraction
_ALL_STRENGTH_BITS = (1 << _STRENGTH_BITS) - 1

Ints = NDArray[np.integer[Any]]
Part = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def count(
    train_path: Path, folder: Path, parameters: Parameters, reporter: Reporter
) -> dict[str, Any]:
    """Write `cooccurrence.parquet` to `folder`: a row for each seed and song that it predicts.

    Columns: seed and song (numbers), strength (float32, above 0, rounded to 16 bits of precision);
    by ascending seed, the strongest song first. Memory is bounded by `PAIRS_PER_PART`, beside the
    playlists themselves. Returns the counts.
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
            for done, total, part in strengths(offsets, songs, parameters):
                writer.write_table(pa.table(list(part), schema=schema))
                kept += len(part[0])
                task.advance(done, total)
        text = f"{kept:,} strengths of co-occurrence"
        task.result(text)
    numbers = int(songs.max(initial=-1)) + 1
    return {
        "text": text,
        "songs": int(np.count_nonzero(np.bincount(songs, minlength=numbers))),
        "strengths": kept,
        "lone_neighbours": parameters.lone_neighbours_for(numbers),
    }


def strengths(
    offsets: Ints, songs: NDArray[np.int32], parameters: Parameters
) -> Iterator[tuple[int, int, Part]]:
    """The strongest neighbours of every song, a range of songs at a time.

    Playlist i is `songs[offsets[i]:offsets[i + 1]]`, in play order, no song twice. Yields songs
    done, songs in all, and the arrays seed, song and strength of the range.
    """
    plays = _Plays.of(offsets, songs, parameters)
    total = len(plays.of_song)
    lone = parameters.lone_neighbours_for(total)
    # NumPy lets go of the interpreter, so that threads share the work; few parts wait at a time.
    # Nobody waits for the threads of this kind of pool when Ctrl-C ends the work.
    with ThreadPool(os.cpu_count()) as pool:
        waiting: deque[tuple[int, AsyncResult[Part]]] = deque()
        for low, high in plays.parts():
            waiting.append(
                (high, pool.apply_async(_strongest, (plays, low, high, parameters, lone)))
            )
            if len(waiting) > (os.cpu_count() or 1):
                done, part = waiting.popleft()
                yield done, total, part.get()
        for done, part in waiting:
            yield done, total, part.get()


@dataclass(frozen=True)
class _Plays:
    """All plays by song: where each stands, and from where to where its company does."""

    songs: NDArray[np.int32]  # (plays,), a playlist after the other
    of_song: NDArray[np.int64]  # (songs,), how many plays each has
    starts: NDArray[np.int64]  # (songs + 1,), where the plays of each begin in the next ones
    at: NDArray[np.int32]  # (plays,), places in `songs`, by song
    low: NDArray[np.int32]  # (plays,), the company of each is songs[low:high]
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
        """Ranges of songs with about `PAIRS_PER_PART` pairs each, and not too many to number."""
        pairs = np.append(0, np.cumsum(self.high - self.low, dtype=np.int64))[self.starts]
        total = len(self.of_song)
        most = 1 << (63 - _STRENGTH_BITS - 1 - total.bit_length())
        low = 0
        while low < total:
            high = int(np.searchsorted(pairs, pairs[low] + PAIRS_PER_PART, side="right")) - 1
            high = min(max(high, low + 1), low + most, total)
            yield low, high
            low = high


def _strongest(plays: _Plays, low: int, high: int, parameters: Parameters, lone: int) -> Part:
    """The arrays seed, song and strength for the seeds from `low` to before `high`.

    A pair is packed into one integer of 64 bits, which sort many times faster than records.
    """
    counted = _counts(plays, low, high, parameters)
    row = np.repeat(np.arange(high - low), np.diff(counted.indptr))
    playlists = (counted.data * (1 / _MEETING)).astype(np.int32)
    count = counted.data - playlists * _MEETING
    near = _could_be_kept(row, count, playlists == 1, lone)
    row, song, count, once = row[near], counted.indices[near], count[near], playlists[near] == 1
    strength = count / (plays.of_song[low:high] ** parameters.seed_exponent)[row]
    strength /= (plays.of_song**parameters.song_exponent)[song]
    bits = strength.astype(np.float32).view(np.uint32).astype(np.int64)
    bits = (bits + (1 << 7)) >> 8
    some = bits > 0
    song_bits = len(plays.of_song).bit_length()
    key = row[some] << _STRENGTH_BITS | (_ALL_STRENGTH_BITS - bits[some])
    key = (key << 1 | once[some]) << song_bits | song[some]
    key.sort()
    song = key & ((1 << song_bits) - 1)
    key >>= song_bits
    row = key >> (_STRENGTH_BITS + 1)
    once = (key & 1).astype(bool)
    kept = ~once | (_rank(row, once) < lone)
    kept[kept] = _rank(row[kept], np.ones(int(kept.sum()), bool)) < parameters.neighbours
    bits = _ALL_STRENGTH_BITS - ((key[kept] >> 1) & _ALL_STRENGTH_BITS)
    return (
        (low + row[kept]).astype(np.int32),
        song[kept].astype(np.int32),
        (bits << 8).astype(np.uint32).view(np.float32),
    )


def _counts(plays: _Plays, low: int, high: int, parameters: Parameters) -> csr_array:
    """Count and meetings of each seed less `low` and song: count + `_MEETING` * playlists.

    The product of two sparse arrays, seeds by plays and plays by the songs around them, adds up
    what recurs, and takes a fraction of the time of sorting.
    """
    window = parameters.cooccurrence_window
    own = slice(plays.starts[low], plays.starts[high])
    at, first = plays.at[own], plays.low[own]
    company = plays.high[own] - first
    ends = np.append(0, np.cumsum(company, dtype=np.int64)).astype(np.int32)
    other = np.arange(ends[-1], dtype=np.int32) + np.repeat(first - ends[:-1], company)
    distance = np.arange(2 * window + 1.0) - window
    weight = np.where(distance < 0, parameters.backward, 1.0)
    weight *= np.maximum(1, np.abs(distance)) ** -parameters.distance_power
    # A song is no company to itself. Counts stay far below _MEETING, for no weight is above 1;
    # weights below 1e-8 vanish beside it.
    weight = np.where(distance == 0, 0.0, weight + _MEETING)
    around = csr_array(
        (weight[other - np.repeat(at - window, company)], plays.songs[other], ends),
        shape=(len(at), len(plays.of_song)),
    )
    its_plays = (plays.starts[low : high + 1] - plays.starts[low]).astype(np.int32)
    seeds = csr_array(
        (np.ones(len(at)), np.arange(len(at), dtype=np.int32), its_plays),
        shape=(high - low, len(at)),
    )
    return seeds @ around


def _could_be_kept(
    row: NDArray[np.int64], count: NDArray[np.float64], once: NDArray[np.bool_], lone: int
) -> NDArray[np.bool_]:
    """All pairs but those that met once and that `lone` nearer ones of the same row outdo.

    It spares the sort most of the pairs, and leaves the exact choice to it.
    """
    # The count of a pair that met once is a weight, from 0 to 1; of a song with itself it is 0.
    step = row * _STEPS + (count * (_STEPS - 1)).astype(np.int64)
    rows = int(row[-1]) + 1 if len(row) else 0
    at_step = np.bincount(step[once], minlength=rows * _STEPS).reshape(rows, _STEPS)
    above = at_step[:, ::-1].cumsum(axis=1)[:, ::-1] - at_step
    return (count > 0) & (~once | (above.ravel()[np.where(once, step, 0)] < lone))


def _rank(row: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of the counted stand before each in its row; rows ascend."""
    before: NDArray[np.int64] = np.cumsum(counted) - counted
    starts = np.diff(row, prepend=-1) != 0
    return before - np.maximum.accumulate(np.where(starts, before, 0))
