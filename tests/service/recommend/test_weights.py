"""Weights of seeds by recency, and the query vectors made of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.content import ARTIST, content_index
from catalog.model import Point
from catalog.recency import Recency
from service.recommend.seeds import Resolution, ResolvedSeed
from service.recommend.weights import build_dense_query, build_sparse_query, list_entries
from tests.support.fakes import points_of

if TYPE_CHECKING:
    from collections.abc import Sequence


X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def known(vector: Sequence[float], weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.SONG, point(vector), weight)


def unknown(weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.UNKNOWN, None, weight)


def point(vector: Sequence[float]) -> Point:
    (only,) = points_of(("Artist", f"{vector}", 1, vector))
    return only


def negate(vector: Sequence[float]) -> list[float]:
    return [-number for number in vector]


@pytest.mark.parametrize(
    ("seeds", "decay", "direction"),
    [
        ([known(X)], 0.9, X),
        ([known(X), known(Y), known(Z)], 1.0, (1, 1, 1)),
        ([known(X), known(Y), known(Z)], 0.5, (0.25, 0.5, 1)),
        ([known(X), known(Y), known(Z)], 0.0, Z),
        ([known(X, 4.0), known(Y, 2.0), known(Z)], 0.5, (1, 1, 1)),
        ([known(X, 3.0), known(Y)], 1.0, (3, 1, 0)),
        ([known(X), known(Y, 1000.0)], 0.5, (0.5, 1000, 0)),
        ([known(X), known(Y), known(X)], 1.0, (2, 1, 0)),
        ([known(X), known(Y), known(X)], 0.5, (1.25, 0.5, 0)),
        ([known(X), unknown(), known(Y)], 0.5, (0.25, 1, 0)),
        ([known(X), known(Y), unknown()], 0.5, (0.5, 1, 0)),
        ([known(X), known(Y), unknown(), unknown()], 0.0, Y),
    ],
    ids=[
        "one seed",
        "no decay",
        "half",
        "decay 0: only the last",
        "weights against decay",
        "weights",
        "heaviest weight",
        "a seed twice",
        "a seed twice, decayed",
        "unknown seeds age earlier seeds",
        "unknown seeds at the end",
        "decay 0, the last ones unknown",
    ],
)
def test_recent_and_heavy_seeds_have_more_weight(
    seeds: list[ResolvedSeed], decay: float, direction: Sequence[float]
) -> None:
    vector = build_dense_query(seeds, Recency(decay=decay))
    assert vector is not None
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, direction / np.linalg.norm(direction), atol=1e-6)


@pytest.mark.parametrize(
    ("seeds", "decay", "direction"),
    [
        ([known(X), known(negate(X))], 1.0, negate(X)),
        ([known(negate(X), 0.25), known(X, 0.25)], 1.0, X),
        ([known(X, 2.0), known(negate(X))], 0.5, negate(X)),
        ([known(X), known(negate(X)), unknown()], 1.0, negate(X)),
    ],
    ids=["plain", "light", "by weight", "before an unknown seed"],
)
def test_the_most_recent_seed_is_used_if_seeds_cancel_out(
    seeds: list[ResolvedSeed], decay: float, direction: Sequence[float]
) -> None:
    vector = build_dense_query(seeds, Recency(decay=decay))
    assert vector is not None
    np.testing.assert_allclose(vector, direction, atol=1e-6)


def test_opposites_of_unequal_weights_do_not_cancel_out() -> None:
    vector = build_dense_query([known(X), known(negate(X))], Recency(decay=0.5))
    assert vector is not None
    np.testing.assert_allclose(vector, negate(X))


@pytest.mark.parametrize("seeds", [[], [unknown()], [unknown(), unknown(5.0)]])
def test_without_a_known_song_there_is_no_vector(seeds: list[ResolvedSeed]) -> None:
    assert build_dense_query(seeds, Recency()) is None


@pytest.mark.parametrize("decay", [0.9, 0.5, 0.01])
def test_weights_keep_their_ratio_at_any_age(decay: float) -> None:
    vector = build_dense_query([known(X), known(Y), *[unknown()] * 998], Recency(decay=decay))
    expected = np.array([decay, 1.0, 0.0])
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("unit", [1e-45, 1e-30, 1e-6, 1.0, 500.0])
def test_only_the_ratio_of_weights_matters(unit: float) -> None:
    vector = build_dense_query([known(X, 2 * unit), known(Y, unit)], Recency())
    np.testing.assert_allclose(vector, np.array([2.0, 1.0, 0.0]) / np.sqrt(5), atol=1e-6)


vectors = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(
    lambda vector: np.linalg.norm(vector) > 0.1
)
seed_lists = st.lists(
    st.one_of(
        st.builds(known, vectors, st.floats(1e-45, 1000.0)),
        st.builds(unknown, st.just(1.0)),
    ),
    max_size=20,
)


@settings(max_examples=150, derandomize=True)
@given(seed_lists, st.floats(0, 1))
def test_any_playlist_gives_a_unit_vector_or_none(seeds: list[ResolvedSeed], decay: float) -> None:
    vector = build_dense_query(seeds, Recency(decay=decay))
    if any(seed.point for seed in seeds):
        assert vector is not None
        assert vector.shape == (3,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    else:
        assert vector is None


def test_the_weights_of_a_power_depend_on_the_age_alone() -> None:
    seeds = [known(X), unknown(), known(Y), unknown()]
    vector = build_dense_query(seeds, Recency(1.0))
    np.testing.assert_allclose(vector, np.array([1, 2, 0]) / np.sqrt(5), atol=1e-6)
    np.testing.assert_allclose(build_dense_query(seeds, Recency(math.inf)), Y, atol=1e-6)


SONGS = points_of(
    ("Ann", "a", 9, X), ("Ann", "b", 8, X), ("Bob", "c", 7, X), ("Bob & Ann", "d", 6, X)
)
SONGS[3] = Point(
    replace(SONGS[3].song, artist_keys=("bob", "ann"), extra={"album": "Duets"}), SONGS[3].vector
)
ANN, BOB, EVE = (content_index(ARTIST, name) for name in ("ann", "bob", "eve"))
DUETS = content_index("album", "Duets")


def song_at(ordinal: int, weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.SONG, SONGS[ordinal], weight)


def unheard_of(artist_key: str, weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.UNKNOWN, None, weight, artist_key)


def sparse_query(
    seeds: list[ResolvedSeed], recency: Recency, shares: dict[str, float] | None = None
) -> dict[int, float]:
    return build_sparse_query(list_entries(seeds, recency, shares or {}))


def test_songs_are_weighed_by_ordinal() -> None:
    half = Recency(decay=0.5)
    assert sparse_query([song_at(1), song_at(2)], half) == {2: 1.0, 1: 0.5}
    assert sparse_query([song_at(1), song_at(1)], half) == {1: 1.5}
    assert sparse_query([song_at(1, weight=8), song_at(2)], half) == {2: 1.0, 1: 4.0}
    assert sparse_query([song_at(1), unknown()], half) == {1: 1.0}
    assert sparse_query([song_at(1), song_at(2)], Recency(math.inf)) == {2: 1.0}
    assert sparse_query([], half) == {}


def test_artists_are_weighed_by_the_weights_of_their_songs() -> None:
    # The ages are 3, 2, 1 and 0, so the weights are 1/4, 1/3, 1/2 and 1.
    seeds = [song_at(0), unheard_of("eve"), song_at(3), unheard_of("ann")]
    assert sparse_query(seeds, Recency(1.0), {ARTIST: 0.4, "album": 0.0}) == pytest.approx(
        {
            0: 1 / 4,
            3: 1 / 2,
            ANN: 0.4 * (1 / 4 + 1 / 2 + 1),
            EVE: 0.4 / 3,
            BOB: 0.4 / 2,
        }
    )


def test_payload_fields_have_shares_of_their_own() -> None:
    query = sparse_query([song_at(3), song_at(0)], Recency(1.0), {"album": 0.8})
    assert query == pytest.approx({0: 1.0, 3: 0.5, DUETS: 0.4})


def test_negative_seeds_lower_the_weight_of_their_artist() -> None:
    seeds = [song_at(0, -0.5), unheard_of("bob"), unheard_of("eve", -2.0)]
    assert sparse_query(seeds, Recency(1.0), {ARTIST: 1.0}) == pytest.approx(
        {0: -0.5, ANN: -0.5, BOB: 1.0, EVE: -2.0}
    )


def test_without_shares_artists_have_no_weight() -> None:
    assert sparse_query([unheard_of("ann")], Recency(1.0)) == {}
    assert sparse_query([unheard_of("ann")], Recency(1.0), {ARTIST: 0.0}) == {}
