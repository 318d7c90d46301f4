"""Training playlists -> how strongly each song predicts each other: the co-occurrence vectors.

Every two songs of a playlist within a window count, the more the nearer they are, and more for the
song that comes later: count(s, t) = sum of distance ** -distance_power, times `backward` where t
comes before s. The strength of s for t is count(s, t) / plays(s) ** seed_exponent /
plays(t) ** song_exponent, and each s keeps its strongest `neighbours`. This is the item-item
neighbourhood of Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", 2004, with
the distance in the playlist for their conditional probability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import coo_array

from catalog.storage import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.reporting import Reporter
    from ingest.parameters import Parameters

PAIRS_PER_PART = 20_000_000


def count(
    train_path: Path, folder: Path, parameters: Parameters, reporter: Reporter
) -> dict[str, Any]:
    """Write `cooccurrence.parquet` to `folder`: a row for each seed and song that it predicts.

    Columns: seed and song (numbers), strength (float32, above 0); by ascending seed. Memory is
    bounded by `PAIRS_PER_PART`, beside the playlists themselves. Returns the counts.
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
    return {"text": text, "strengths": kept}


def strengths(
    offsets: NDArray[np.integer[Any]], songs: NDArray[np.int32], parameters: Parameters
) -> Iterator[tuple[int, int, tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]]]:
    """The strongest neighbours of every song, a range of songs at a time.

    Playlist i is `songs[offsets[i]:offsets[i + 1]]`, in play order, no song twice. Yields songs
    done, songs in all, and the arrays seed, song and strength of the range.
    """
    plays = np.bincount(songs).astype(np.int64)
    first = np.repeat(offsets[:-1], np.diff(offsets))
    end = np.repeat(offsets[1:], np.diff(offsets))
    by_song = np.argsort(songs, kind="stable")
    starts = np.concatenate([[0], np.cumsum(plays)])
    plays_per_part = max(1, PAIRS_PER_PART // (2 * parameters.cooccurrence_window))
    low = 0
    while low < len(plays):
        high = int(np.searchsorted(starts, starts[low] + plays_per_part, side="right")) - 1
        high = min(max(high, low + 1), len(plays))
        at = by_song[starts[low] : starts[high]]
        counted = _counts(at, first[at], end[at], songs, (low, high, len(plays)), parameters)
        yield high, len(plays), _strongest(counted, low, plays, parameters)
        low = high


def _counts(
    at: NDArray[np.int64],
    first: NDArray[np.integer[Any]],
    end: NDArray[np.integer[Any]],
    songs: NDArray[np.int32],
    seed_range: tuple[int, int, int],
    parameters: Parameters,
) -> coo_array:
    low, high, total = seed_range
    rows, columns, weights = [], [], []
    longest = int((end - first).max(initial=0))
    for distance in range(1, min(parameters.cooccurrence_window, longest - 1) + 1):
        weight = distance**-parameters.distance_power
        for other, inside, direction in (
            (at + distance, at + distance < end, 1.0),
            (at - distance, at - distance >= first, parameters.backward),
        ):
            rows.append(songs[at[inside]] - low)
            columns.append(songs[other[inside]])
            weights.append(np.full(len(rows[-1]), weight * direction, dtype=np.float32))
    empty = np.zeros(0, dtype=np.int32)
    pairs = (np.concatenate([empty, *rows]), np.concatenate([empty, *columns]))
    values = np.concatenate([empty.astype(np.float32), *weights])
    return coo_array((values, pairs), shape=(high - low, total))


def _strongest(
    counted: coo_array, low: int, plays: NDArray[np.int64], parameters: Parameters
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    summed = counted.tocsr()  # adds up the pairs that recur
    summed.eliminate_zeros()
    row = np.repeat(np.arange(summed.shape[0]), np.diff(summed.indptr))
    column = summed.indices
    strength = summed.data / plays[low + row] ** parameters.seed_exponent
    strength = (strength / plays[column] ** parameters.song_exponent).astype(np.float32)
    order = np.lexsort((column, -strength, row))
    rank = np.arange(len(order)) - summed.indptr[row[order]]
    kept = order[rank < parameters.neighbours]
    return (low + row[kept]).astype(np.int32), column[kept].astype(np.int32), strength[kept]
