"""Content entries of sparse vectors: artists and other keyword fields as pseudo-seeds.

A query consists of seeds: the songs of the playlist to continue. The ordinal of a song is its rank
by popularity.

The sparse vector of a song has an entry for each seed that predicts the song, with the ordinal of
the seed as index. It also has an entry for each content key of the song (artist, album, ...), with
an index above all ordinals. The vector of a query contains the content keys of its seeds at the
same indexes, so a search also finds songs that share a key with a seed but never occurred in the
same playlist as a seed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from catalog.model import Song

ARTIST = "artist"
"""Name of the content field of artists. All other content fields are keyword payload fields."""

FIRST_CONTENT_INDEX = 1 << 31
"""Smallest index of a content entry. The ordinals of songs are smaller."""

ENTRY_EXPONENT = 0.5
"""Exponent p in the content entry for a key: scale / (number of songs with the key)^p."""

POPULARITY_STEP = 1e-3
"""Relative difference between the content entries of the most and the least popular song.

If songs have only a key in common with the seeds, this difference orders them by popularity.
Without it, Qdrant would return these songs in an arbitrary order.
"""


def content_index(field: str, key: str) -> int:
    """Return the index of a content key in sparse vectors: 2^31 plus 31 bits of a SHA-256.

    If `field` is `ARTIST`, `key` is a normalised name. Otherwise `field` is a keyword payload
    field, and `key` is a value of the field.
    """
    digest = hashlib.sha256(f"{field}\x1f{key}".encode()).digest()
    return FIRST_CONTENT_INDEX | int.from_bytes(digest[:4])


def find_collisions(keys: Iterable[tuple[str, str]]) -> frozenset[int]:
    """Return the indexes that two or more of the (field, key) pairs share.

    The pairs must be distinct. Songs get no entry at a shared index.
    """
    counts = Counter(content_index(field, key) for field, key in keys)
    return frozenset(index for index, count in counts.items() if count > 1)


def compute_entries(
    scale: float, songs_with_key: NDArray[np.int64], ordinals: NDArray[np.int64], songs: int
) -> NDArray[np.float32]:
    """Return the content entries of n (song, key) pairs, shape (n,).

    - `scale`: `cooccurrence_scale` in the parameters of the release. It gives content entries the
      magnitude of co-occurrence weights.
    - `songs_with_key`, shape (n,): for each pair, the number of songs that have the key.
    - `ordinals`, shape (n,): for each pair, the ordinal of the song.
    - `songs`: number of songs in the release.
    """
    entries = scale / songs_with_key**ENTRY_EXPONENT
    entries *= 1 - POPULARITY_STEP * ordinals / max(1, songs)
    return entries.astype(np.float32)


def list_content_keys(song: Song, field: str) -> tuple[str, ...]:
    """Return the content keys of a song: its artists, or its value of a payload field."""
    if field == ARTIST:
        return song.artist_keys
    value = song.extra.get(field)
    return () if value is None else (str(value),)
