"""The points of a release, assembled from the results of the stages."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from catalog.files import storage_errors
from catalog.manifest import Counts
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

    from ingest.learn.reranker import StageFiles

SONGS_PER_BATCH = 20_000

# Songs that are too rare for a vector are included: as seeds they predict other songs. The ordinal
# is the rank by popularity; ties are broken by the id.
_CATALOG = """
SELECT song, song_id, artist, title, [artist_key] AS artist_key,
       (row_number() OVER (ORDER BY playlists DESC, song_id) - 1)::UINTEGER AS ordinal,
       playlists, artist_key || ' ' || title_key AS search_text {extras}
FROM read_parquet({songs}) JOIN (
    SELECT song, count(*)::INTEGER AS playlists
    FROM (SELECT unnest(songs) AS song FROM read_parquet({train})) GROUP BY song
    HAVING count(*) >= {catalog_min}
) USING (song)
ORDER BY ordinal
"""


@contextmanager
def assemble_points(
    files: StageFiles, work: Path, catalog_min: int = 1, fields: Iterable[str] = ()
) -> Iterator[tuple[Path, Counts]]:
    """Write the Parquet file of a `catalog.draft.Draft`; yield its path and counts.

    The file is removed when the context ends. Songs in fewer than `catalog_min` training playlists
    are left out. `fields` are the extra payload fields, columns of the songs. Memory holds the
    co-occurrence weights twice, 20 bytes each, and the vectors.
    """
    path = work / ".points.parquet"
    try:
        with connect(work) as sql, storage_errors(path):
            counts = _write(sql, files, path, catalog_min, list(fields))
        yield path, counts
    finally:
        path.unlink(missing_ok=True)


def _write(
    sql: duckdb.DuckDBPyConnection,
    files: StageFiles,
    path: Path,
    catalog_min: int,
    fields: list[str],
) -> Counts:
    query = _CATALOG.format(
        songs=literal(files.songs),
        train=literal(files.train),
        catalog_min=catalog_min,
        extras="".join(f', "{name}"' for name in fields),
    )
    catalog = sql.sql(query).to_arrow_table()
    ordinal_of = _ordinals(catalog["song"].to_numpy())
    lists = _SparseVectors(files.cooccurrence, ordinal_of, len(catalog))
    vectors = _DenseVectors(files.vectors, ordinal_of, len(catalog))
    with_vector = with_list = 0
    writer: pq.ParquetWriter | None = None
    try:
        for start in range(0, len(catalog), SONGS_PER_BATCH):
            batch = catalog.slice(start, SONGS_PER_BATCH).drop_columns(["song"])
            stop = start + len(batch)
            seeds, weights = lists.rows(start, stop)
            for name, column in (
                ("vector", vectors.rows(start, stop)),
                ("seeds", seeds),
                ("strengths", weights),
            ):
                batch = batch.append_column(name, column)
            with_vector += stop - start - batch["vector"].null_count
            with_list += stop - start - batch["seeds"].null_count
            writer = writer or pq.ParquetWriter(path, batch.schema)
            writer.write_table(batch)
    finally:
        if writer:
            writer.close()
    return Counts(
        songs=len(catalog),
        vectors=with_vector,
        predicted=with_list,
        artists=len(catalog["artist_key"].combine_chunks().flatten().unique()),
        training_playlists=pq.read_metadata(files.train).num_rows,
        training_plays=int(catalog["playlists"].to_numpy().sum()),
    )


def _ordinals(songs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the ordinal of each song by its number, -1 for songs not in the catalog."""
    ordinal_of = np.full(int(songs.max(initial=-1)) + 1, -1, np.int32)
    ordinal_of[songs] = np.arange(len(songs), dtype=np.int32)
    return ordinal_of


def _look_up(ordinal_of: NDArray[np.int32], songs: NDArray[np.int32]) -> NDArray[np.int32]:
    ordinals = ordinal_of[np.minimum(songs, len(ordinal_of) - 1)]
    return np.where(songs < len(ordinal_of), ordinals, np.int32(-1))


class _SparseVectors:
    """The sparse vector of each song by ordinal: seed ordinals and co-occurrence weights."""

    def __init__(self, pairs: Path, ordinal_of: NDArray[np.int32], songs: int) -> None:
        of_seed = np.zeros(len(ordinal_of), np.int64)
        predicted: list[NDArray[np.int32]] = []
        weights: list[NDArray[np.float32]] = []
        with pq.ParquetFile(pairs) as file:
            for group in range(file.num_row_groups):
                part = file.read_row_group(group)
                seed, song = part["seed"].to_numpy(), _look_up(ordinal_of, part["song"].to_numpy())
                both = (song >= 0) & (_look_up(ordinal_of, seed) >= 0)
                of_seed += np.bincount(seed[both], minlength=len(of_seed))
                predicted.append(song[both])
                weights.append(part["strength"].to_numpy()[both])
        by_number = csr_array(
            (
                _concatenate(weights, np.float32),
                _concatenate(predicted, np.int32),
                _starts(of_seed),
            ),
            shape=(len(of_seed), songs),
        )
        number_of = np.flatnonzero(ordinal_of >= 0)
        by_ordinal = by_number[number_of[np.argsort(ordinal_of[number_of])]]
        del by_number
        by_song = by_ordinal.tocsc()  # the seeds of each song ascend
        self._starts, self._seeds, self._weights = by_song.indptr, by_song.indices, by_song.data

    def rows(self, start: int, stop: int) -> tuple[pa.Array, pa.Array]:
        """Return the seeds (uint32) and the weights (float32) of songs, as list arrays.

        The songs are those from `start` up to but not including `stop`. Both lists are null for a
        song without any weight.
        """
        low, high = self._starts[start], self._starts[stop]
        offsets = (self._starts[start : stop + 1] - low).astype(np.int32)
        empty = pa.array(np.append(np.diff(offsets) == 0, False))
        starts = pa.array(offsets, mask=np.asarray(empty))
        return (
            pa.ListArray.from_arrays(starts, self._seeds[low:high].astype(np.uint32)),
            pa.ListArray.from_arrays(starts, self._weights[low:high]),
        )


def _starts(counts: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    # SciPy copies the index arrays unless all have the same integer type.
    starts = np.append(0, np.cumsum(counts))
    return starts.astype(np.int32) if starts[-1] < 1 << 31 else starts


def _concatenate(parts: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    """Concatenate arrays, and clear the list so that their memory is freed."""
    whole: NDArray[Any] = np.concatenate([*parts, np.zeros(0, kind)])
    parts.clear()
    return whole


class _DenseVectors:
    """The dense vector of each song by ordinal."""

    def __init__(self, path: Path, ordinal_of: NDArray[np.int32], songs: int) -> None:
        table = pq.read_table(path, columns=["song", "vector"])
        self._vectors = table["vector"].combine_chunks()
        self._row = np.full(songs, -1, np.int64)
        ordinal = _look_up(ordinal_of, table["song"].to_numpy())
        self._row[ordinal[ordinal >= 0]] = np.flatnonzero(ordinal >= 0)

    def rows(self, start: int, stop: int) -> pa.Array:
        """Return the vectors of songs `start` to before `stop`, null for a song without one."""
        rows = self._row[start:stop]
        return self._vectors.take(pa.array(rows, mask=rows < 0))
