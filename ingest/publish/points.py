"""The results of the stages -> the songs of a release, as they go into Qdrant."""

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
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

    from ingest.stages import Stage

SONGS_PER_BATCH = 20_000

# A song too rare for a vector is there too: as a seed it predicts others. The ordinal is the place
# by popularity; the id settles ties.
_CATALOG = """
SELECT song, song_id, artist, title, artist_key,
       (row_number() OVER (ORDER BY playlists DESC, song_id) - 1)::UINTEGER AS ordinal,
       playlists, artist_key || ' ' || title_key AS search_text {extras}
FROM read_parquet({songs}) JOIN (
    SELECT song, count(*)::INTEGER AS playlists
    FROM (SELECT unnest(songs) AS song FROM read_parquet({train})) GROUP BY song
    HAVING count(*) >= {least}
) USING (song)
ORDER BY ordinal
"""


@contextmanager
def assembled(
    stages: Mapping[str, Stage], work: Path, least: int = 1, fields: Iterable[str] = ()
) -> Iterator[tuple[Path, Counts]]:
    """A Parquet file as `catalog.draft.Draft` wants it, and its counts; gone at the end.

    Songs of fewer than `least` training playlists stay out. `fields` are the extra payload fields,
    columns of the songs. Memory holds the strengths twice, 20 bytes each, and the vectors.
    """
    path = work / ".points.parquet"
    try:
        with connect(work) as sql, storage_errors(path):
            counts = _write(sql, stages, path, least, list(fields))
        yield path, counts
    finally:
        path.unlink(missing_ok=True)


def _write(
    sql: duckdb.DuckDBPyConnection,
    stages: Mapping[str, Stage],
    path: Path,
    least: int,
    fields: list[str],
) -> Counts:
    query = _CATALOG.format(
        songs=literal(stages["prepare"].folder / "songs.parquet"),
        train=literal(stages["split"].folder / "train.parquet"),
        least=least,
        extras="".join(f', "{name}"' for name in fields),
    )
    catalog = sql.sql(query).to_arrow_table()
    ordinal_of = _ordinals(catalog["song"].to_numpy())
    lists = _Predicted(stages["count"].folder / "cooccurrence.parquet", ordinal_of, len(catalog))
    vectors = _Vectors(stages["train"].folder / "vectors.parquet", ordinal_of, len(catalog))
    with_vector = with_list = 0
    writer: pq.ParquetWriter | None = None
    try:
        for start in range(0, len(catalog), SONGS_PER_BATCH):
            batch = catalog.slice(start, SONGS_PER_BATCH).drop_columns(["song"])
            stop = start + len(batch)
            seeds, strengths = lists.of(start, stop)
            for name, column in (
                ("vector", vectors.of(start, stop)),
                ("seeds", seeds),
                ("strengths", strengths),
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
        artists=len(catalog["artist_key"].unique()),
        training_playlists=stages["split"].summary["train"],
        training_plays=int(catalog["playlists"].to_numpy().sum()),
    )


def _ordinals(songs: NDArray[np.int32]) -> NDArray[np.int32]:
    """The ordinal of each song by its number, -1 for those that the catalog lacks."""
    ordinal_of = np.full(int(songs.max(initial=-1)) + 1, -1, np.int32)
    ordinal_of[songs] = np.arange(len(songs), dtype=np.int32)
    return ordinal_of


def _known(ordinal_of: NDArray[np.int32], songs: NDArray[np.int32]) -> NDArray[np.int32]:
    found = ordinal_of[np.minimum(songs, len(ordinal_of) - 1)]
    return np.where(songs < len(ordinal_of), found, np.int32(-1))


class _Predicted:
    """For each song, by ordinal, the ordinals and strengths of the seeds that predict it."""

    def __init__(self, pairs: Path, ordinal_of: NDArray[np.int32], songs: int) -> None:
        of_seed = np.zeros(len(ordinal_of), np.int64)
        predicted: list[NDArray[np.int32]] = []
        strengths: list[NDArray[np.float32]] = []
        with pq.ParquetFile(pairs) as file:
            for group in range(file.num_row_groups):
                part = file.read_row_group(group)
                seed, song = part["seed"].to_numpy(), _known(ordinal_of, part["song"].to_numpy())
                both = (song >= 0) & (_known(ordinal_of, seed) >= 0)
                of_seed += np.bincount(seed[both], minlength=len(of_seed))
                predicted.append(song[both])
                strengths.append(part["strength"].to_numpy()[both])
        by_number = csr_array(
            (_joined(strengths, np.float32), _joined(predicted, np.int32), _starts(of_seed)),
            shape=(len(of_seed), songs),
        )
        number_of = np.flatnonzero(ordinal_of >= 0)
        by_ordinal = by_number[number_of[np.argsort(ordinal_of[number_of])]]
        del by_number
        by_song = by_ordinal.tocsc()  # with the seeds of each song in ascending order
        self._starts, self._seeds, self._strengths = by_song.indptr, by_song.indices, by_song.data

    def of(self, start: int, stop: int) -> tuple[pa.Array, pa.Array]:
        """Lists for the songs from `start` to before `stop`, null for those that nothing predicts.

        One of seeds (uint32), one of strengths (float32).
        """
        low, high = self._starts[start], self._starts[stop]
        offsets = (self._starts[start : stop + 1] - low).astype(np.int32)
        empty = pa.array(np.append(np.diff(offsets) == 0, False))
        places = pa.array(offsets, mask=np.asarray(empty))
        return (
            pa.ListArray.from_arrays(places, self._seeds[low:high].astype(np.uint32)),
            pa.ListArray.from_arrays(places, self._strengths[low:high]),
        )


def _starts(counts: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    # SciPy copies the larger arrays too, unless all have the same integer type.
    starts = np.append(0, np.cumsum(counts))
    return starts.astype(np.int32) if starts[-1] < 1 << 31 else starts


def _joined(parts: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    joined: NDArray[Any] = np.concatenate([*parts, np.zeros(0, kind)])
    parts.clear()
    return joined


class _Vectors:
    """The vector of each song, by ordinal."""

    def __init__(self, path: Path, ordinal_of: NDArray[np.int32], songs: int) -> None:
        table = pq.read_table(path, columns=["song", "vector"])
        self._vectors = table["vector"].combine_chunks()
        self._row = np.full(songs, -1, np.int64)
        ordinal = _known(ordinal_of, table["song"].to_numpy())
        self._row[ordinal[ordinal >= 0]] = np.flatnonzero(ordinal >= 0)

    def of(self, start: int, stop: int) -> pa.Array:
        """Those of the songs from `start` to before `stop`, null where there is none."""
        rows = self._row[start:stop]
        return self._vectors.take(pa.array(rows, mask=rows < 0))
