"""Weights of seeds by recency, and the query vectors made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.recommend.seeds import Resolution, ResolvedSeed
from service.recommend.weights import build_query_vector, weigh_songs
from tests.support.fakes import points_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.model import Point

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def known(vector: Sequence[float], weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.SONG, (point(vector),), weight)


def of_artist(*vectors: Sequence[float], weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.ARTIST, tuple(point(vector) for vector in vectors), weight)


def unknown(weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.UNKNOWN, (), weight)


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
        ([of_artist(X, Y), known(Z)], 1.0, (0.5, 0.5, 1)),
        ([of_artist(X, X, X, Y), known(Z)], 0.5, (0.375, 0.125, 1)),
        ([of_artist(X, Y, weight=4.0), of_artist(Z)], 1.0, (2, 2, 1)),
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
        "songs of an artist share a weight",
        "songs of an artist share a weight, decayed",
        "songs of an artist share a given weight",
    ],
)
def test_recent_and_heavy_seeds_have_more_weight(
    seeds: list[ResolvedSeed], decay: float, direction: Sequence[float]
) -> None:
    vector = build_query_vector(seeds, decay)
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
        ([of_artist(Y, negate(Y))], 0.9, Y),
        ([known(X), of_artist(negate(X))], 1.0, negate(X)),
    ],
    ids=["plain", "light", "by weight", "before an unknown seed", "one artist", "an artist last"],
)
def test_the_most_recent_seed_is_used_if_seeds_cancel_out(
    seeds: list[ResolvedSeed], decay: float, direction: Sequence[float]
) -> None:
    vector = build_query_vector(seeds, decay)
    assert vector is not None
    np.testing.assert_allclose(vector, direction, atol=1e-6)


def test_opposites_of_unequal_weights_do_not_cancel_out() -> None:
    vector = build_query_vector([known(X), known(negate(X))], 0.5)
    assert vector is not None
    np.testing.assert_allclose(vector, negate(X))


@pytest.mark.parametrize("seeds", [[], [unknown()], [unknown(), unknown(5.0)]])
def test_without_a_known_song_there_is_no_vector(seeds: list[ResolvedSeed]) -> None:
    assert build_query_vector(seeds, 0.9) is None


@pytest.mark.parametrize("decay", [0.9, 0.5, 0.01])
def test_weights_keep_their_ratio_at_any_age(decay: float) -> None:
    vector = build_query_vector([known(X), known(Y), *[unknown()] * 998], decay)
    expected = np.array([decay, 1.0, 0.0])
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("unit", [1e-45, 1e-30, 1e-6, 1.0, 500.0])
def test_only_the_ratio_of_weights_matters(unit: float) -> None:
    vector = build_query_vector([known(X, 2 * unit), known(Y, unit)], 1.0)
    np.testing.assert_allclose(vector, np.array([2.0, 1.0, 0.0]) / np.sqrt(5), atol=1e-6)


vectors = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(
    lambda vector: np.linalg.norm(vector) > 0.1
)
seed_lists = st.lists(
    st.one_of(
        st.builds(known, vectors, st.floats(1e-45, 1000.0)),
        st.lists(vectors, min_size=1, max_size=4).map(lambda songs: of_artist(*songs)),
        st.builds(unknown, st.just(1.0)),
    ),
    max_size=20,
)


@settings(max_examples=150, derandomize=True)
@given(seed_lists, st.floats(0, 1))
def test_any_playlist_gives_a_unit_vector_or_none(seeds: list[ResolvedSeed], decay: float) -> None:
    vector = build_query_vector(seeds, decay)
    if any(seed.points for seed in seeds):
        assert vector is not None
        assert vector.shape == (3,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    else:
        assert vector is None


def build_seed_of(*ordinals: int, weight: float = 1.0) -> ResolvedSeed:
    songs = points_of(*[("Artist", f"Song {number}", 9 - number, X) for number in range(4)])
    return ResolvedSeed(Resolution.SONG, tuple(songs[ordinal] for ordinal in ordinals), weight)


def test_songs_are_weighed_by_ordinal() -> None:
    assert weigh_songs([build_seed_of(1), build_seed_of(2)], 0.5) == {2: 1.0, 1: 0.5}
    assert weigh_songs([build_seed_of(1), build_seed_of(1)], 0.5) == {1: 1.5}
    assert weigh_songs([build_seed_of(1, weight=8), build_seed_of(2)], 0.5) == {2: 1.0, 1: 4.0}
    assert weigh_songs([build_seed_of(1, 3), build_seed_of()], 0.5) == {1: 0.5, 3: 0.5}
    assert weigh_songs([build_seed_of(1), build_seed_of(2)], 0.0) == {2: 1.0}
    assert weigh_songs([], 0.5) == {}
