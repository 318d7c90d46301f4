"""Dense vectors of new songs: songs of catalog files in too few training playlists, or in none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from ingest.learn.arrays import EncodedKeys, encode_keys

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

ALBUM = "album"
"""Keyword payload field of the album. A release need not have this field."""

MIN_LENGTH = 1e-6
"""Minimum length of a sum of unit vectors. In a shorter sum, the vectors cancel each other out."""


def average_vectors(
    catalog: pa.Table,
    is_new: NDArray[np.bool_],
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows of the new songs that get a dense vector, shape (m,), and the vectors.

    `catalog` is a table of songs with the column `artist_key` (lists) and perhaps the column
    `ALBUM`. `is_new` is a mask of the new songs among the rows. `vectors`, shape (n, dimensions),
    are the unit vectors of the songs in the rows `rows`, shape (n,).

    The vector of a new song is the mean of the vectors of the song's album, scaled to unit length.
    The album consists of the songs with the same value in the column `ALBUM` that share an artist
    with the song. If no song of the album has a vector, the mean of the vectors of the song's
    artists is used. A song with several artists gets the mean over the artists, weighted by their
    numbers of vectors.
    """
    artists = encode_keys(catalog["artist_key"].combine_chunks())
    groups = [artists]
    if ALBUM in catalog.column_names:
        groups.insert(0, _combine(artists, encode_keys(catalog[ALBUM].combine_chunks())))
    new_rows, means = [], []
    is_missing = is_new.copy()
    for keys in groups:
        with_mean, of_group = _average(keys, is_missing, rows, vectors)
        new_rows.append(with_mean)
        means.append(of_group)
        is_missing[with_mean] = False
    return np.concatenate(new_rows), np.concatenate(means)


def _combine(artists: EncodedKeys, albums: EncodedKeys) -> EncodedKeys:
    """Return, for each song with an album, a key for each pair of its artists and its album.

    `names` of the result is empty.
    """
    album_of = np.full(int(max(artists.rows.max(initial=-1), albums.rows.max(initial=-1))) + 1, -1)
    album_of[albums.rows] = albums.codes
    album = album_of[artists.rows]
    has_album = album >= 0
    pairs = artists.codes[has_album] * max(1, len(albums.names)) + album[has_album]
    return EncodedKeys(artists.rows[has_album], np.unique(pairs, return_inverse=True)[1], [])


def _average(
    keys: EncodedKeys,
    is_wanted: NDArray[np.bool_],
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the wanted rows that share a key with a row that has a vector, and their mean vectors.

    The mean is over the vectors of all rows that share a key, and is scaled to unit length.
    """
    shape = (len(is_wanted), int(keys.codes.max(initial=-1)) + 1)
    keys_of = csr_array((np.ones(len(keys.codes)), (keys.rows, keys.codes)), shape=shape)
    wanted = np.flatnonzero(is_wanted)
    used = np.unique(keys_of[wanted].indices)
    # Sum the vectors of each key first: one key may have many new songs and many vectors.
    sums_of_keys = keys_of[rows][:, used].T @ vectors.astype(np.float64)
    sums = keys_of[wanted][:, used] @ sums_of_keys
    lengths = np.linalg.norm(sums, axis=1)
    has_mean = lengths > MIN_LENGTH
    means = (sums[has_mean] / lengths[has_mean, None]).astype(np.float32)
    return wanted[has_mean], means
