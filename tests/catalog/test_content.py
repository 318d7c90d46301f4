"""Content entries: their indexes, collisions and values."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from catalog.content import (
    ARTIST,
    FIRST_CONTENT_INDEX,
    compute_entries,
    content_index,
    find_collisions,
    list_content_keys,
)
from catalog.model import Song


def test_indexes_are_pinned() -> None:
    # These indexes must never change, because published releases contain them.
    assert content_index(ARTIST, "abba") == 3590664238
    assert content_index("album", "arrival") == 2713219276


@given(st.text(), st.text())
def test_indexes_are_above_all_ordinals_and_fit_32_bits(field: str, key: str) -> None:
    assert FIRST_CONTENT_INDEX <= content_index(field, key) < 1 << 32


def test_the_field_is_part_of_the_index() -> None:
    assert content_index(ARTIST, "air") != content_index("album", "air")
    assert content_index("a", "bc") != content_index("ab", "c")


def test_keys_that_share_an_index_are_found() -> None:
    # The SHA-256 hashes of these two keys are equal in the 31 bits from which indexes are made.
    first, second = "artist 48274", "artist 58182"
    assert content_index(ARTIST, first) == content_index(ARTIST, second)
    index = content_index(ARTIST, first)
    assert find_collisions([(ARTIST, first), (ARTIST, "abba"), (ARTIST, second)]) == {index}
    assert find_collisions([(ARTIST, first), (ARTIST, "abba")]) == frozenset()


def test_entries_fall_with_the_number_of_songs_and_slightly_with_popularity() -> None:
    entries = compute_entries(2.0, np.array([1, 4, 4, 100]), np.array([0, 0, 500, 1_000]), 1_000)
    assert entries.dtype == np.float32
    np.testing.assert_allclose(entries, [2.0, 1.0, 0.9995, 0.1998], rtol=1e-6)


def test_the_keys_of_a_song() -> None:
    song = Song(UUID(int=1), "A & B", "t", ("a", "b"), 0, 1, {"album": "LP", "year": 1999})
    assert list_content_keys(song, ARTIST) == ("a", "b")
    assert list_content_keys(song, "album") == ("LP",)
    assert list_content_keys(song, "genre") == ()
