"""Explanations and negative seeds, on `FakeRelease` and on Qdrant Edge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.content import ARTIST, POPULARITY_STEP
from catalog.embedded.store import EmbeddedStore
from catalog.model import Hit
from catalog.recency import Recency
from service.recommend.engine import recommend
from service.recommend.explain import Explainer
from service.recommend.plan import plan_query
from service.recommend.query import Mode, Query, Reason, Strategy
from service.recommend.seeds import Resolution, ResolvedSeed, Seed
from service.recommend.weights import build_dense_query, build_sparse_query, list_entries
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


@pytest.fixture(scope="module")
def real_content(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    store = EmbeddedStore(tmp_path_factory.mktemp("content"))
    publish(store, POINTS, strengths=WEIGHTS, shares={ARTIST: 0.4})
    release = store.open()
    yield release
    release.close()


@pytest.fixture(params=["fake", "edge"])
def content(request: pytest.FixtureRequest, real_content: OpenRelease) -> OpenRelease:
    """A release with content entries. The last two seeds of a query have the weights 1/2 and 1."""
    if request.param == "fake":
        return FakeRelease(POINTS, strengths=WEIGHTS, shares={ARTIST: 0.4})
    return real_content


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
    # With a decay of 0.5, seed a has the weight 0.5, and seed b has the weight 1. Their parts in
    # the score of c are 1.5 and 0.5.
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
    # For c, the parts of a and b are 0.5 * 0.6 and 1 * 0.8. For d, the part of a is negative.
    by_song = shares(recommend_for(release, seed(A), seed(B), mode=Mode.DENSE))
    assert by_song[C] == pytest.approx({0: 0.3 / 1.1, 1: 0.8 / 1.1})
    assert by_song[D] == pytest.approx({1: 1.0})


def test_shares_of_a_hybrid_search_are_added(release: OpenRelease) -> None:
    recommendation = recommend_for(release, seed(A), seed(B), mode=Mode.HYBRID)
    # The co-occurrence score of c is 2. The cosine is multiplied by 0.5 * (0.5 + 1).
    cosine = 1.1 / 1.25**0.5
    score = next(hit.score for hit in recommendation.songs if hit.song.ordinal == C)
    assert score == pytest.approx(2 + 0.75 * cosine)
    assert shares(recommendation)[C] == pytest.approx(
        {
            0: (1.5 + 0.75 * 0.3 / 1.25**0.5) / score,
            1: (0.5 + 0.75 * 0.8 / 1.25**0.5) / score,
        }
    )
    for reasons in recommendation.reasons:
        assert sum(reason.share for reason in reasons) == pytest.approx(1.0)
        assert [r.share for r in reasons] == sorted((r.share for r in reasons), reverse=True)


def test_shares_contain_what_content_contributes(content: OpenRelease) -> None:
    # Seed b contributes to the score of e by co-occurrence, with a weight of 2. Seed c contributes
    # by the artist Cat, who has both songs. The artist entry is 2 / sqrt(2), because Cat has two
    # songs, and is reduced a little because e is the least popular song.
    recommendation = recommend_for(content, seed(B), seed(C), mode=Mode.COOCCURRENCE)
    of_artist = 0.4 * 2 / 2**0.5 * (1 - POPULARITY_STEP * 4 / 5)
    score = 0.5 * 2.0 + of_artist
    reasons = reasons_of(recommendation, E)
    assert [hit.score for hit in recommendation.songs if hit.song.ordinal == E] == [
        pytest.approx(score)
    ]
    assert {reason.seed: reason.share for reason in reasons} == pytest.approx(
        {0: 1.0 / score, 1: of_artist / score}
    )
    assert reasons[0].content == {}
    assert reasons[1].content == pytest.approx({ARTIST: reasons[1].share})


def test_unknown_songs_have_shares_beside_known_ones(content: OpenRelease) -> None:
    # The unknown song of Cat has the weight 1/2, and song d has the weight 1.
    unheard = Seed(artist="CAT", title="?")
    recommendation = recommend_for(content, unheard, seed(D), mode=Mode.COOCCURRENCE)
    of_artist = 0.5 * 0.4 * 2 / 2**0.5 * (1 - POPULARITY_STEP * 2 / 5)
    assert {reason.seed: reason.share for reason in reasons_of(recommendation, C)} == pytest.approx(
        {1: 4.0 / (4 + of_artist), 0: of_artist / (4 + of_artist)}
    )


def test_a_share_can_come_from_the_song_and_from_its_artist() -> None:
    release = FakeRelease(POINTS, strengths={C: {E: 1.0}}, shares={ARTIST: 0.4})
    of_artist = 0.4 * 2 / 2**0.5 * (1 - POPULARITY_STEP * 4 / 5)
    (reason,) = reasons_of(recommend_for(release, seed(C), mode=Mode.COOCCURRENCE), E)
    assert (reason.seed, reason.share) == (0, pytest.approx(1.0))
    assert reason.content == pytest.approx({ARTIST: of_artist / (1 + of_artist)})


def test_unknown_songs_contribute_by_their_artist(content: OpenRelease) -> None:
    recommendation = recommend_for(content, Seed(artist="Ann", title="?"))
    assert recommendation.strategy is Strategy.ARTISTS
    (reasons,) = recommendation.reasons
    assert reasons == [Reason(0, 1.0, {ARTIST: 1.0})]


def test_a_song_missing_in_a_ranking_has_no_shares_of_it() -> None:
    # The score of song d shows which ranking contains the song: the sparse one, both, or the dense
    # one. The cosine similarity of d and seed a is -0.8.
    plan = plan_query(
        FakeRelease(POINTS, strengths=WEIGHTS).manifest,
        Query([seed(A)], mode=Mode.HYBRID, explain=True),
        [known(A), known(B)],
    )
    d = POINTS[D]
    explainer = Explainer(plan)
    sparse, cosine = 0.5 * 1.0, 0.75 * (0.5 * -0.8 + 0.6) / 1.25**0.5
    for score, expected in [
        (sparse, {0: 1.0}),
        (sparse + cosine, {0: (0.5 - 0.75 * 0.4 / 1.25**0.5), 1: 0.75 * 0.6 / 1.25**0.5}),
        (cosine, {1: 1.0}),
    ]:
        (reasons,) = explainer.explain([Hit(d.song, score, d.vector)], [{A: 1.0}])
        total = sum(expected.values())
        assert {reason.seed: reason.share for reason in reasons} == pytest.approx(
            {index: part / total for index, part in expected.items()}
        )


def reasons_of(recommendation: Recommendation, ordinal: int) -> list[Reason]:
    ordinals = [hit.song.ordinal for hit in recommendation.songs]
    return recommendation.reasons[ordinals.index(ordinal)]


def test_popular_songs_have_no_reasons(release: OpenRelease) -> None:
    recommendation = recommend_for(release, Seed(artist="Nobody", title="?"))
    assert recommendation.reasons == [[]] * 5


def test_songs_have_no_reasons_unless_the_query_asks_for_them(release: OpenRelease) -> None:
    recommendation = asyncio.run(recommend(release, Query([seed(A)])))
    assert recommendation.songs
    assert recommendation.reasons == [[] for _ in recommendation.songs]


# Negative seeds


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
    # The co-occurrence score of c is 0: 3 from seed a, minus 6 * 0.5 from seed b. Therefore, only d
    # is retrieved by co-occurrence.
    assert set(songs) == {C, D, E}
    assert songs[0] == D


def test_popular_songs_are_recommended_if_all_seeds_are_negative(release: OpenRelease) -> None:
    recommendation = recommend_for(release, seed(A, -1.0))
    assert recommendation.strategy is Strategy.POPULAR
    assert [hit.song.ordinal for hit in recommendation.songs] == [B, C, D, E]


def test_a_negative_seed_with_an_unknown_song_of_a_known_artist(content: OpenRelease) -> None:
    unheard = Seed(artist="Cat", title="?")
    recommendation = recommend_for(content, unheard, seed(D, -0.1), mode=Mode.COOCCURRENCE)
    assert recommendation.strategy is Strategy.ARTISTS
    # Content entries of songs c and e have the share 0.4. Seed d lowers the score of song c by 0.4,
    # which is 0.1 times 4.
    scores = {hit.song.ordinal: hit.score for hit in recommendation.songs}
    assert scores == pytest.approx({C: 0.4 * 2 / 2**0.5 - 0.4, E: 0.4 * 2 / 2**0.5}, rel=5e-3)


def known(ordinal: int, weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.SONG, POINTS[ordinal], weight)


def test_negative_seeds_keep_their_weight() -> None:
    half = Recency(decay=0.5)
    seeds = [known(A), known(D, -0.25), known(B)]
    # The age of seed a is 1, because negative seeds do not count.
    assert sparse_query(seeds, half) == {A: 0.5, B: 1.0, D: -0.25}
    expected = np.array([0.5 + 0.25 * 0.8, 1.0 - 0.25 * 0.6])
    np.testing.assert_allclose(
        build_dense_query(seeds, half), expected / np.linalg.norm(expected), atol=1e-6
    )
    assert sparse_query([known(A), known(A, -1.0)], half) == {}
    assert sparse_query([known(A, -1.0)], half) == {}
    assert build_dense_query([known(A, -1.0)], half) is None
    np.testing.assert_allclose(
        build_dense_query([known(A), known(A, -1.0)], half), POINTS[A].vector
    )


def sparse_query(seeds: list[ResolvedSeed], recency: Recency) -> dict[int, float]:
    return build_sparse_query(list_entries(seeds, recency, {}))


def test_the_decays_of_both_kinds_of_vector_are_separate() -> None:
    fake = FakeRelease(POINTS, strengths=WEIGHTS)
    fake.manifest.origin.parameters.update(query_decay=0.0, cooccurrence_decay=1.0)
    cooccurrence = recommend_for(fake, seed(A), seed(B), mode=Mode.COOCCURRENCE)
    assert {hit.song.ordinal: hit.score for hit in cooccurrence.songs} == {C: 3.5, E: 2.0, D: 1.0}
    dense = recommend_for(fake, seed(A), seed(B), mode=Mode.DENSE)
    assert dense.songs[0].song.ordinal == C
    assert dense.songs[0].score == pytest.approx(0.8)
