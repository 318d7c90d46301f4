"""The vectors of a release as arrays, read from the Parquet files that ingest stages write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from catalog.content import ARTIST, compute_entries, content_index, find_collisions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ingest.parameters import Parameters

Songs = NDArray[np.int32]
"""Song numbers, which are the indexes of the rows in `songs.parquet`."""


@dataclass(frozen=True)
class StageFiles:
    """Paths of Parquet files that model selection, training of the re-ranker and publishing read.

    - `songs`: all songs, one row per song.
    - `train`, `validation`: the playlists of each split, as lists of song numbers.
    - `cooccurrence`: the co-occurrence weights.
    - `vectors`: the dense vectors.
    - `fields`: names of the keyword payload fields, which are columns of `songs` and are used as
      content fields (see `ContentField`).
    """

    songs: Path
    train: Path
    validation: Path
    cooccurrence: Path
    vectors: Path
    fields: Sequence[str] = ()


@dataclass(frozen=True)
class ContentField:
    """A content field, such as the artist. Songs with the same value (key) count as related.

    - `keys`, shape (songs, keys): 1 if the song has the key, else 0.
    - `entries`, shape (keys, songs): the content entry of the song for the key (see
      `catalog.content`); 0 if the song lacks the key or is not in the catalog.
    """

    name: str
    keys: csr_array
    entries: csr_array


@dataclass(frozen=True)
class ReleaseArrays:
    """The vectors of a release. Songs are given by their numbers.

    - `weights`, shape (songs, songs): the co-occurrence weight of the seed in the row for the song
      in the column.
    - `vector_songs`, shape (vectors,): the songs that have a dense vector, ascending.
    - `vectors`, shape (vectors, dimensions): the dense vectors of `vector_songs`, unit length.
    - `playlists`, shape (songs,): number of training playlists of each song. Songs with 0 playlists
      are not in the catalog: they are ignored as seeds and never returned.
    - `scale`: scale of the co-occurrence weights (see `ingest.learn.cooccurrence.WeightScale`).
    - `content`: the content fields.
    """

    weights: csr_array
    vector_songs: NDArray[np.int32]
    vectors: NDArray[np.float32]
    playlists: NDArray[np.int64]
    scale: float = 1.0
    content: tuple[ContentField, ...] = ()

    @cached_property
    def index(self) -> csr_array:
        """The sparse vectors of all songs, shape (songs + content keys, songs).

        Each column is the vector of a song. The rows are seeds, and then the keys of each content
        field.
        """
        if not self.content:
            return self.weights
        entries = [part.entries for part in self.content]
        return with_small_indices(csr_array(vstack([self.weights, *entries], "csr")))

    @cached_property
    def ordinals(self) -> NDArray[np.int64]:
        """The popularity rank of each song, counted from 0, shape (songs,)."""
        return popularity_ranks(self.playlists)

    def with_song_exponent(self, exponent: float) -> ReleaseArrays:
        """Return the arrays with scaled co-occurrence weights.

        The weights for a song are divided by the number of its training playlists ** `exponent`.
        """
        if not exponent:
            return self
        factors = song_factors(self.playlists, exponent)
        weights = self.weights.copy()
        weights.data = weights.data * factors[weights.indices]
        return replace(self, weights=weights)


def with_small_indices(matrix: csr_array) -> csr_array:
    """Convert the indices of a matrix to 32 bits if they fit, which makes products faster."""
    if max(matrix.nnz, *matrix.shape) < 1 << 31:
        matrix.indices = matrix.indices.astype(np.int32, copy=False)
        matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    return matrix


def popularity_ranks(playlists: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the popularity rank of each song, counted from 0, shape (songs,)."""
    ranks = np.empty(len(playlists), np.int64)
    ranks[np.argsort(-playlists, kind="stable")] = np.arange(len(playlists))
    return ranks


def song_factors(playlists: NDArray[Any], exponent: float) -> NDArray[np.float32]:
    """Return the factor for the weights of each song: playlists ** -exponent, shape (songs,).

    `playlists`, shape (songs,), contains the number of training playlists of each song. A song in
    no playlist has the factor 1.
    """
    factors: NDArray[np.float32] = (np.maximum(playlists, 1.0) ** -exponent).astype(np.float32)
    return factors


def weight_matrix(columns: Sequence[Any], total: int) -> csr_array:
    """Return co-occurrence weights as a matrix of shape (total, total), with one row per seed.

    `columns` contains three arrays of equal length: the numbers of the seeds, the numbers of the
    songs, and the weights.
    """
    seeds, songs, weights = columns
    return csr_array((weights, (seeds, songs)), shape=(total, total), dtype=np.float32)


def measure_scale(weights: csr_array, plays: NDArray[np.int64]) -> float:
    """Return the scale of co-occurrence weights (see `ingest.learn.cooccurrence.WeightScale`).

    `weights` has shape (songs, songs). `plays`, shape (songs,), contains the number of training
    playlists of each song.
    """
    largest = np.asarray(weights.max(axis=1).todense()).ravel() if weights.nnz else 0 * plays
    return float(plays @ largest) / max(1, int(plays.sum()))


def read_weights(path: Path, seeds: NDArray[np.bool_]) -> csr_array:
    """Read the co-occurrence weights of selected seeds from a file `cooccurrence.parquet`.

    `seeds` is a mask of the selected seeds, shape (songs,). Only one row group of the file is in
    memory at a time. The file is sorted by seed, so row groups without a selected seed are skipped.
    """
    parts: list[tuple[NDArray[Any], ...]] = [
        (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    ]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(0).statistics
            if statistics and statistics.has_min_max:
                span = slice(int(statistics.min), int(statistics.max) + 1)
                if not seeds[span].any():
                    continue
            table = file.read_row_group(group, columns=["seed", "song", "strength"])
            columns = [table[name].to_numpy() for name in ("seed", "song", "strength")]
            selected = seeds[columns[0]]
            parts.append(tuple(column[selected] for column in columns))
    return weight_matrix(
        [np.concatenate(column) for column in zip(*parts, strict=True)], len(seeds)
    )


def seed_mask(queries: Iterable[Songs], total: int) -> NDArray[np.bool_]:
    """Return a mask of the songs that are in any of the queries, shape (total,)."""
    mask = np.zeros(total, bool)
    mask[np.concatenate([np.zeros(0, np.int32), *queries])] = True
    return mask


def read_vectors(path: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Read a file `vectors.parquet`.

    Returns song numbers, shape (n,), and their dense vectors, shape (n, dimensions).
    """
    table = pq.read_table(path, columns=["song", "vector"]).combine_chunks()
    vectors = table["vector"].combine_chunks()
    size = vectors.type.list_size
    return table["song"].to_numpy(), vectors.flatten().to_numpy().reshape(-1, size)


def read_playlists(path: Path) -> list[Songs]:
    """Return the songs of each playlist in the Parquet file of a split, in play order."""
    lists = pq.read_table(path, columns=["songs"])["songs"].combine_chunks()
    offsets, songs = lists.offsets.to_numpy(), lists.flatten().to_numpy().astype(np.int32)
    return [songs[low:high] for low, high in pairwise(offsets)]


def count_playlists(
    playlists: Sequence[Songs], total: int, parameters: Parameters
) -> NDArray[np.int64]:
    """Return the number of playlists that contain each song, shape (total,).

    `total` is the number of songs. The result is 0 for songs that are in too few playlists for the
    catalog (see `Parameters.catalog_min_for`).
    """
    counts = np.bincount(np.concatenate(playlists), minlength=total)
    counts[counts < parameters.catalog_min_for(int(np.count_nonzero(counts)))] = 0
    return counts


@dataclass(frozen=True)
class EncodedKeys:
    """The content keys in a column of `songs.parquet`, as m pairs of a row and a key.

    - `rows`, `codes`, shape (m,): the row of each pair, ascending, and the key's index in `names`.
    - `names`: the distinct keys.
    """

    rows: NDArray[np.int64]
    codes: NDArray[np.int64]
    names: list[str]


def encode_keys(column: pa.Array) -> EncodedKeys:
    """Return the keys in a column of strings or of lists of strings.

    Nulls, empty strings, and repetitions of a key in the same list are ignored.
    """
    if pa.types.is_list(column.type):
        rows, keys = pc.list_parent_indices(column), pc.list_flatten(column)
    else:
        rows, keys = pa.array(np.arange(len(column))), column
    is_key = pc.fill_null(pc.not_equal(keys, ""), False)
    encoded = keys.filter(is_key).dictionary_encode()
    pairs = np.asarray(rows.filter(is_key)).astype(np.int64) * max(1, len(encoded.dictionary))
    pairs += np.asarray(encoded.indices).astype(np.int64)
    _, first = np.unique(pairs, return_index=True)
    pairs = pairs[np.sort(first)]
    return EncodedKeys(
        *np.divmod(pairs, max(1, len(encoded.dictionary))), encoded.dictionary.to_pylist()
    )


def read_content(
    path: Path, fields: Sequence[str], playlists: NDArray[np.int64], scale: float
) -> tuple[ContentField, ...]:
    """Read the content fields from a file `songs.parquet`: the artist, and then `fields`.

    For `playlists` and `scale`, see `ReleaseArrays`.
    """
    columns = {ARTIST: "artist_keys"} | {name: name for name in fields}
    table = pq.read_table(path, columns=["song", *columns.values()])
    songs = table["song"].to_numpy()
    keys = {field: encode_keys(table[name].combine_chunks()) for field, name in columns.items()}
    collisions = find_collisions((field, key) for field, own in keys.items() for key in own.names)
    ordinals = popularity_ranks(playlists)
    in_catalog = int(np.count_nonzero(playlists))
    content = []
    for field, own in keys.items():
        of_song, shape = songs[own.rows], (len(playlists), len(own.names))
        matrix = csr_array((np.ones(len(of_song), np.float32), (of_song, own.codes)), shape=shape)
        is_known = playlists[of_song] > 0
        sizes = np.bincount(own.codes[is_known], minlength=len(own.names))
        is_entry = is_known & ~_mask_collisions(field, own, collisions)
        at, of_key = of_song[is_entry], own.codes[is_entry]
        values = compute_entries(scale, sizes[of_key], ordinals[at], in_catalog)
        entries = csr_array((values, (of_key, at)), shape=shape[::-1])
        content.append(ContentField(field, matrix, entries))
    return tuple(content)


def _mask_collisions(
    field: str, keys: EncodedKeys, collisions: frozenset[int]
) -> NDArray[np.bool_]:
    """Return a mask of the pairs in `keys` whose key has a colliding index, shape (m,).

    `collisions` contains the sparse vector indexes that several keys share.
    """
    if not collisions:
        return np.zeros(len(keys.codes), bool)
    collided = np.array([content_index(field, key) in collisions for key in keys.names], bool)
    return collided[keys.codes]


def read_arrays(
    files: StageFiles, queries: Iterable[Songs], scale: float, catalog_min: int
) -> ReleaseArrays:
    """Read the arrays of a release. Weights are read only for seeds that occur in `queries`.

    Songs in fewer than `catalog_min` training playlists are not in the catalog. `scale` is the
    scale of the co-occurrence weights (see `ReleaseArrays`).
    """
    total = pq.read_metadata(files.songs).num_rows
    lists = pq.read_table(files.train, columns=["songs"])["songs"].combine_chunks()
    counts = np.bincount(lists.flatten().to_numpy(), minlength=total)
    counts[counts < catalog_min] = 0
    return ReleaseArrays(
        read_weights(files.cooccurrence, seed_mask(queries, total)),
        *read_vectors(files.vectors),
        counts,
        scale,
        read_content(files.songs, files.fields, counts, scale),
    )
