"""Assembly of the points of a release from the results of the stages."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from catalog.content import ARTIST, compute_entries, content_index, find_collisions
from catalog.files import storage_errors
from catalog.manifest import Counts
from ingest.learn.arrays import encode_keys, song_factors
from ingest.publish.new_songs import average_vectors
from ingest.sql import connect, literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

    from ingest.learn.arrays import StageFiles

SONGS_PER_BATCH = 20_000

# Songs that are too rare for a dense vector are included, because they predict other songs as
# seeds. The ordinal is the popularity rank; ties are broken by id. Songs of catalog files that are
# in no training playlist therefore come last.
_CATALOG = """
SELECT song, song_id, artist, title, artist_keys AS artist_key,
       (row_number() OVER (ORDER BY playlists DESC, song_id) - 1)::UINTEGER AS ordinal,
       playlists, trim(artist_key || ' ' || title_key) AS search_text {extras}
FROM (
    SELECT songs.*, coalesce(counts.playlists, 0)::INTEGER AS playlists
    FROM read_parquet({songs}) songs LEFT JOIN (
        SELECT song, count(*) AS playlists
        FROM (SELECT unnest(songs) AS song FROM read_parquet({train})) GROUP BY song
    ) counts USING (song)
)
WHERE playlists >= {catalog_min} OR {is_listed}
ORDER BY ordinal
"""


@dataclass(frozen=True)
class PointOptions:
    """Options for assembling points.

    - `catalog_min`: minimum number of training playlists of a song in the catalog.
    - `payload`: names of the columns of songs that become extra payload fields, including content
      fields.
    - `song_exponent`: the weights for a song are divided by the song's plays ** song_exponent.
    - `scale`: the factor of all content entries, which is the release's `cooccurrence_scale`.
    - `with_new_songs`: whether to include songs in fewer playlists if catalog files list them. The
      column `listed` of the songs says which songs are listed.
    """

    catalog_min: int = 1
    payload: Collection[str] = ()
    song_exponent: float = 0.0
    scale: float = 1.0
    with_new_songs: bool = False


@dataclass(frozen=True)
class Points:
    """The file of songs for a `catalog.draft.Draft`, with counts.

    `collided_keys` is the number of content keys that have no entries, because another key has the
    same index. `new_songs` is the number of songs that are included only because catalog files list
    them.
    """

    path: Path
    counts: Counts
    collided_keys: int
    new_songs: int


@contextmanager
def assemble_points(files: StageFiles, work: Path, options: PointOptions) -> Iterator[Points]:
    """Write the points of a release to a file in `work`. The file is removed when the context ends.

    Memory use: about 20 bytes for each co-occurrence weight, which includes a temporary copy, plus
    the dense vectors.
    """
    path = work / ".points.parquet"
    try:
        with connect(work) as sql, storage_errors(path):
            points = _write(sql, files, path, options)
        yield points
    finally:
        path.unlink(missing_ok=True)


def _write(
    sql: duckdb.DuckDBPyConnection,
    files: StageFiles,
    path: Path,
    options: PointOptions,
) -> Points:
    query = _CATALOG.format(
        songs=literal(files.songs),
        train=literal(files.train),
        catalog_min=options.catalog_min,
        is_listed="listed" if options.with_new_songs else "false",
        extras="".join(f', "{name}"' for name in options.payload),
    )
    catalog = sql.sql(query).to_arrow_table()
    ordinal_of = _ordinals(catalog["song"].to_numpy())
    lists = _SparseVectors(files.cooccurrence, ordinal_of, len(catalog))
    lists.scale_songs(song_factors(catalog["playlists"].to_numpy(), options.song_exponent))
    content = _ContentEntries(catalog, files.fields, options.scale)
    vectors = _DenseVectors(files.vectors, ordinal_of, len(catalog))
    is_new = catalog["playlists"].to_numpy() < options.catalog_min
    if is_new.any():
        vectors.add_means(catalog, is_new)
    with_vector = with_list = 0
    writer: pq.ParquetWriter | None = None
    try:
        for start in range(0, len(catalog), SONGS_PER_BATCH):
            batch = catalog.slice(start, SONGS_PER_BATCH).drop_columns(["song"])
            stop = start + len(batch)
            weighted = lists.rows(start, stop)
            seeds, weights = _join(weighted, content.rows(start, stop))
            for name, column in (
                ("vector", vectors.rows(start, stop)),
                ("seeds", seeds),
                ("strengths", weights),
            ):
                batch = batch.append_column(name, column)
            with_vector += stop - start - batch["vector"].null_count
            with_list += int(np.count_nonzero(weighted.lengths))
            writer = writer or pq.ParquetWriter(path, batch.schema)
            writer.write_table(batch)
    finally:
        if writer:
            writer.close()
    artists = encode_keys(catalog["artist_key"].combine_chunks())
    counts = Counts(
        songs=len(catalog),
        vectors=with_vector,
        predicted=with_list,
        artists=len(artists.names),
        training_playlists=pq.read_metadata(files.train).num_rows,
        training_plays=int(catalog["playlists"].to_numpy().sum()),
    )
    return Points(path, counts, content.collided, int(np.count_nonzero(is_new)))


def _ordinals(songs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the ordinals of songs, by song number, or -1 for songs that are not in the catalog."""
    ordinal_of = np.full(int(songs.max(initial=-1)) + 1, -1, np.int32)
    ordinal_of[songs] = np.arange(len(songs), dtype=np.int32)
    return ordinal_of


def _look_up(ordinal_of: NDArray[np.int32], songs: NDArray[np.int32]) -> NDArray[np.int32]:
    ordinals = ordinal_of[np.minimum(songs, len(ordinal_of) - 1)]
    return np.where(songs < len(ordinal_of), ordinals, np.int32(-1))


class _SparseVectors:
    """The co-occurrence weights of all songs, by ordinal: seeds and weights for each song."""

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
        by_song = by_ordinal.tocsc()  # sorted by song, then by seed
        self._starts, self._seeds, self._weights = by_song.indptr, by_song.indices, by_song.data

    def scale_songs(self, factors: NDArray[np.float32]) -> None:
        """Multiply the weights for each song by the song's factor. `factors` has shape (songs,)."""
        self._weights *= np.repeat(factors, np.diff(self._starts))

    def rows(self, start: int, stop: int) -> _Lists:
        """Return the entries of the songs from `start` to `stop - 1`, sorted by seed."""
        low, high = self._starts[start], self._starts[stop]
        return _Lists(
            np.diff(self._starts[start : stop + 1]).astype(np.int64),
            self._seeds[low:high].astype(np.uint32),
            self._weights[low:high],
        )


class _ContentEntries:
    """The content entries of all songs, by ordinal (see `catalog.content`).

    `catalog` has one row for each song, in the order of ordinals. `collided` is the number of
    content keys that have no entries, because another key has the same index.
    """

    def __init__(self, catalog: pa.Table, fields: Iterable[str], scale: float) -> None:
        columns = {ARTIST: "artist_key"} | {name: name for name in fields}
        keys = {
            field: encode_keys(catalog[name].combine_chunks()) for field, name in columns.items()
        }
        collisions = find_collisions(
            (field, key) for field, own in keys.items() for key in own.names
        )
        rows, indexes, values = [], [], []
        self.collided = 0
        for field, own in keys.items():
            index = np.array([content_index(field, key) for key in own.names], np.uint32)
            has_entry = ~np.isin(index, np.array([*collisions], np.uint32))
            self.collided += int(np.count_nonzero(~has_entry))
            sizes = np.bincount(own.codes, minlength=len(own.names))
            used = has_entry[own.codes]
            row, code = own.rows[used], own.codes[used]
            rows.append(row)
            indexes.append(index[code])
            values.append(compute_entries(scale, sizes[code], row, len(catalog)))
        row, index = np.concatenate(rows), np.concatenate(indexes)
        order = np.lexsort((index, row))
        self._indexes, self._values = index[order], np.concatenate(values)[order]
        self._starts = np.searchsorted(row[order], np.arange(len(catalog) + 1))

    def rows(self, start: int, stop: int) -> _Lists:
        """Return the content entries of the songs from `start` to `stop - 1`.

        The entries of a song are sorted by their index in the sparse vector.
        """
        low, high = self._starts[start], self._starts[stop]
        lengths = np.diff(self._starts[start : stop + 1])
        return _Lists(lengths, self._indexes[low:high], self._values[low:high])


@dataclass(frozen=True)
class _Lists:
    """The sparse vectors of n songs, concatenated.

    - `lengths`, shape (n,): number of entries of each song.
    - `indexes`, `values`: index and value of each entry.
    """

    lengths: NDArray[np.int64]
    indexes: NDArray[np.uint32]
    values: NDArray[np.float32]


def _join(first: _Lists, second: _Lists) -> tuple[pa.Array, pa.Array]:
    """Join two sparse vectors per song; return lists of indexes (uint32) and values (float32).

    Both lists are null for songs without entries.
    """
    lengths = first.lengths + second.lengths
    ends = np.cumsum(lengths)
    indexes, values = np.empty(lengths.sum(), np.uint32), np.empty(lengths.sum(), np.float32)
    for lists, starts in (
        (first, ends - lengths),
        (second, ends - second.lengths),
    ):
        shift = starts - (np.cumsum(lists.lengths) - lists.lengths)
        at = np.arange(len(lists.indexes)) + np.repeat(shift, lists.lengths)
        indexes[at], values[at] = lists.indexes, lists.values
    offsets = np.append(0, ends).astype(np.int32)
    starts = pa.array(offsets, mask=np.append(lengths == 0, False))
    return pa.ListArray.from_arrays(starts, indexes), pa.ListArray.from_arrays(starts, values)


def _starts(counts: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    # The column indices are int32. SciPy copies the index arrays if their types differ, so the
    # starts are int32, too, unless they are too large.
    starts = np.append(0, np.cumsum(counts))
    return starts.astype(np.int32) if starts[-1] < 1 << 31 else starts


def _concatenate(parts: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    """Concatenate arrays, and clear the list to free the memory of the parts."""
    whole: NDArray[Any] = np.concatenate([*parts, np.zeros(0, kind)])
    parts.clear()
    return whole


class _DenseVectors:
    """The dense vectors of all songs, by ordinal."""

    def __init__(self, path: Path, ordinal_of: NDArray[np.int32], songs: int) -> None:
        table = pq.read_table(path, columns=["song", "vector"])
        self._vectors = table["vector"].combine_chunks()
        self._row = np.full(songs, -1, np.int64)
        ordinal = _look_up(ordinal_of, table["song"].to_numpy())
        self._row[ordinal[ordinal >= 0]] = np.flatnonzero(ordinal >= 0)

    def add_means(self, catalog: pa.Table, is_new: NDArray[np.bool_]) -> None:
        """Give new songs without a vector a mean vector (see `ingest.publish.new_songs`).

        `is_new` is a mask of the new songs among the rows of `catalog`.
        """
        size = self._vectors.type.list_size
        rows = np.flatnonzero(self._row >= 0)
        vectors = self._vectors.take(pa.array(self._row[rows])).flatten().to_numpy()
        new_rows, means = average_vectors(
            catalog, is_new & (self._row < 0), rows, vectors.reshape(-1, size)
        )
        self._row[new_rows] = len(self._vectors) + np.arange(len(new_rows))
        new = pa.FixedSizeListArray.from_arrays(pa.array(means.ravel()), size)
        self._vectors = pa.concat_arrays([self._vectors, new.cast(self._vectors.type)])

    def rows(self, start: int, stop: int) -> pa.Array:
        """Return the vectors of the songs from `start` to `stop - 1`.

        The vector is null for songs without a dense vector.
        """
        rows = self._row[start:stop]
        return self._vectors.take(pa.array(rows, mask=rows < 0))
