"""Explanations and negative seeds, on `FakeRelease` and on Qdrant Edge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.embedded.store import EmbeddedStore
from service.recommend.engine import recommend
from service.recommend.query import Mode, Query, Strategy
from service.recommend.seeds import Resolution, ResolvedSeed, Seed
from service.recommend.weights import build_query_vector, weigh_songs
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease
    from service.recommend.query import Recommendation

A, B, C, D, E = range(5)
POINTS = points_of(
    ("Ann", "a", 50, (1, 0)),
    ("Bob", "b", 40, (0, 1)),
    ("Cat", "c", 30, (0.6, 0.8)),
    ("Dan", "d", 20, (-0.8, 0.6)),
    ("Cat", "e", 10, (0.8, 0.6)),
)
WEIGHTS = {A: {C: 3.0, D: 1.0}, B: {C: 0.5, E: 2.0}, D: {C: 4.0}}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    store = EmbeddedStore(tmp_path_factory.mktemp("explain"))
    publish(store, POINTS, strengths=WEIGHTS)
    release = store.open()
    yield release
    release.close()


@pytest.fixture(params=["fake", "edge"])
def release(request: pytest.FixtureRequest, real: OpenRelease) -> OpenRelease:
    return FakeRelease(POINTS, strengths=WEIGHTS) if request.param == "fake" else real


def seed(ordinal: int, weight: float = 1.0) -> Seed:
    return Seed(song_id=POINTS[ordinal].song.song_id, weight=weight)


def recommend_for(release: OpenRelease, *seeds: Seed, mode: Mode | None = None) -> Recommendation:
    return asyncio.run(recommend(release, Query(seeds, mode=mode, explain=True)))


def shares(recommendation: Recommendation) -> dict[int, dict[int, float]]:
    assert len(recommendation.songs) == len(recommendation.reasons)
    return {
        hit.song.ordinal: {reason.seed: reason.share for reason in reasons}
        for hit, reasons in zip(recommendation.songs, recommendation.reasons, strict=True)
    }


def test_shares_of_cooccurrence_are_parts_of_the_score(release: OpenRelease) -> None:
    # With a decay of 0.5, a has the weight 0.5 and b 1. For c, the parts are 1.5 and 0.5.
    recommendation = recommend_for(release, seed(A), seed(B), mode=Mode.COOCCURRENCE)
    by_song = shares(recommendation)
    assert by_song[C] == pytest.approx({0: 0.75, 1: 0.25})
    assert by_song[D] == pytest.approx({0: 1.0})
    assert by_song[E] == pytest.approx({1: 1.0})


def test_reasons_contain_the_index_of_the_seed(release: OpenRelease) -> None:
    nobody = Seed(artist="Nobody", title="?")
    by_song = shares(recommend_for(release, nobody, seed(A), nobody, mode=Mode.COOCCURRENCE))
    assert by_song == {C: {1: 1.0}, D: {1: 1.0}}


def test_shares_of_word2vec_are_parts_of_the_cosine(release: OpenRelease) -> None:
    # For c, the parts are 0.5 * 0.6 and 1 * 0.8. The part of a in d is negative.
    by_song = shares(recommend_for(release, seed(A), seed(B), mode=Mode.DENSE))
    assert by_song[C] == pytest.approx({0: 0.3 / 1.1, 1: 0.8 / 1.1})
    assert by_song[D] == pytest.approx({1: 1.0})


def test_shares_of_a_hybrid_search_are_added(release: OpenRelease) -> None:
    recommendation = recommend_for(release, seed(A), seed(B), mode=Mode.HYBRID)
    # c has the highest co-occurrence score, so its score is 1 + dense weight * cosine.
    cosine = 1.1 / 1.25**0.5
    score = next(hit.score for hit in recommendation.songs if hit.song.ordinal == C)
    assert score == pytest.approx(1 + 0.5 * cosine)
    assert shares(recommendation)[C] == pytest.approx(
        {
            0: (0.75 + 0.5 * 0.3 / 1.25**0.5) / score,
            1: (0.25 + 0.5 * 0.8 / 1.25**0.5) / score,
        }
    )
    for reasons in recommendation.reasons:
        assert sum(reason.share for reason in reasons) == pytest.approx(1.0)
        assert [r.share for r in reasons] == sorted((r.share for r in reasons), reverse=True)


def test_seeds_replaced_by_songs_of_their_artist_are_reasons(release: OpenRelease) -> None:
    unheard = [Seed(artist="Ann", title="?"), Seed(artist="Bob", title="?")]
    recommendation = recommend_for(release, *unheard, mode=Mode.COOCCURRENCE)
    assert recommendation.strategy is Strategy.ARTISTS
    assert shares(recommendation)[C] == pytest.approx({0: 0.75, 1: 0.25})


def test_popular_songs_have_no_reasons(release: OpenRelease) -> None:
    recommendation = recommend_for(release, Seed(artist="Nobody", title="?"))
    assert recommendation.reasons == [[]] * 5


def test_songs_have_no_reasons_unless_the_query_asks_for_them(release: OpenRelease) -> None:
    recommendation = asyncio.run(recommend(release, Query([seed(A)])))
    assert recommendation.songs
    assert recommendation.reasons == [[] for _ in recommendation.songs]


# Negative seeds.


def test_a_negative_seed_lowers_scores_and_is_not_recommended(release: OpenRelease) -> None:
    plain = recommend_for(release, seed(A), mode=Mode.COOCCURRENCE)
    assert [hit.song.ordinal for hit in plain.songs] == [C, D]
    pushed = recommend_for(release, seed(A), seed(D, -0.5), mode=Mode.COOCCURRENCE)
    assert [hit.song.ordinal for hit in pushed.songs] == [C]
    assert pushed.songs[0].score == pytest.approx(3.0 - 0.5 * 4.0)
    assert shares(pushed)[C] == {0: 1.0}
    away = recommend_for(release, seed(A), seed(D, -1.0), mode=Mode.COOCCURRENCE)
    assert away.songs == []


def test_a_negative_seed_lowers_cosines(release: OpenRelease) -> None:
    recommendation = recommend_for(release, seed(A), seed(B, -0.5), mode=Mode.DENSE)
    # The query vector is (1, -.5), scaled to unit length.
    assert {hit.song.ordinal: hit.score for hit in recommendation.songs} == pytest.approx(
        {C: 0.2 / 1.25**0.5, E: 0.5 / 1.25**0.5, D: -1.1 / 1.25**0.5}, abs=1e-6
    )
    assert shares(recommendation)[E] == {0: 1.0}
    assert shares(recommendation)[D] == {}


def test_a_negative_seed_lowers_both_scores_of_a_hybrid_search(release: OpenRelease) -> None:
    songs = [hit.song.ordinal for hit in recommend_for(release, seed(A), seed(B, -6.0)).songs]
    # The co-occurrence score of c is 3 from a minus 6 * 0.5 from b, so only d is retrieved by
    # co-occurrence.
    assert set(songs) == {C, D, E}
    assert songs[0] == D


def test_popular_songs_are_recommended_if_all_seeds_are_negative(release: OpenRelease) -> None:
    recommendation = recommend_for(release, seed(A, -1.0))
    assert recommendation.strategy is Strategy.POPULAR
    assert [hit.song.ordinal for hit in recommendation.songs] == [B, C, D, E]


def test_a_negative_seed_with_an_unknown_song_of_a_known_artist(release: OpenRelease) -> None:
    unheard = Seed(artist="Ann", title="?")
    recommendation = recommend_for(release, unheard, seed(D, -0.5), mode=Mode.COOCCURRENCE)
    assert recommendation.strategy is Strategy.ARTISTS
    assert {hit.song.ordinal: hit.score for hit in recommendation.songs} == pytest.approx({C: 1.0})


def known(ordinal: int, weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.SONG, (POINTS[ordinal],), weight)


def test_negative_seeds_keep_their_weight() -> None:
    seeds = [known(A), known(D, -0.25), known(B)]
    # The age of a is 1, because the negative seed was not played.
    assert weigh_songs(seeds, 0.5) == {A: 0.5, B: 1.0, D: -0.25}
    expected = np.array([0.5 + 0.25 * 0.8, 1.0 - 0.25 * 0.6])
    np.testing.assert_allclose(
        build_query_vector(seeds, 0.5), expected / np.linalg.norm(expected), atol=1e-6
    )
    assert weigh_songs([known(A), known(A, -1.0)], 0.5) == {}
    assert weigh_songs([known(A, -1.0)], 0.5) == {}
    assert build_query_vector([known(A, -1.0)], 0.5) is None
    np.testing.assert_allclose(
        build_query_vector([known(A), known(A, -1.0)], 0.5), POINTS[A].vector
    )


def test_the_decays_of_both_kinds_of_vector_are_separate() -> None:
    fake = FakeRelease(POINTS, strengths=WEIGHTS)
    fake.manifest.origin.parameters.update(query_decay=0.0, cooccurrence_decay=1.0)
    cooccurrence = recommend_for(fake, seed(A), seed(B), mode=Mode.COOCCURRENCE)
    assert {hit.song.ordinal: hit.score for hit in cooccurrence.songs} == {C: 3.5, E: 2.0, D: 1.0}
    dense = recommend_for(fake, seed(A), seed(B), mode=Mode.DENSE)
    assert dense.songs[0].song.ordinal == C
    assert dense.songs[0].score == pytest.approx(0.8)
