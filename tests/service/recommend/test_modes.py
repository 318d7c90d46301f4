"""Modes: expected results computed by hand, and Qdrant Edge compared with `FakeRelease`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.content import ARTIST, POPULARITY_STEP
from catalog.embedded.store import EmbeddedStore
from catalog.errors import RequestError
from catalog.model import Filter, Point
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods
from service.recommend.engine import find_similar, recommend
from service.recommend.plan import FORMAT_2_SCALE
from service.recommend.query import Mode, Query, Strategy
from service.recommend.seeds import Seed
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from catalog.store import OpenRelease
    from service.recommend.query import Recommendation

ROWS = (
    ("Abba", "Waterloo", 50, (1, 0)),
    ("Abba", "Fernando", 40, (1, 0.1)),
    ("Cher", "Believe", 30, (0.2, 1)),
    ("Cher", "Strong Enough", 20, (0, 1)),
    ("Dido", "Thank You", 10, (-1, 0)),
    ("Enya", "Caribbean Blue", 1, (1, 1)),
)
WATERLOO, FERNANDO, BELIEVE, STRONG, THANKS, RARE = range(6)
WEIGHTS = {
    WATERLOO: {BELIEVE: 0.5, THANKS: 0.25, RARE: 0.125},
    FERNANDO: {BELIEVE: 0.25, STRONG: 1.0},
    RARE: {WATERLOO: 2.0},
}
POINTS = points_of(*ROWS)
POINTS[RARE] = Point(POINTS[RARE].song, None)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> OpenRelease:
    store = EmbeddedStore(tmp_path_factory.mktemp("modes"))
    publish(store, POINTS, strengths=WEIGHTS)
    return store.open()


@pytest.fixture(params=["fake", "edge"])
def release(request: pytest.FixtureRequest, real: OpenRelease) -> OpenRelease:
    return FakeRelease(POINTS, strengths=WEIGHTS) if request.param == "fake" else real


@pytest.fixture(scope="module")
def real_content(tmp_path_factory: pytest.TempPathFactory) -> OpenRelease:
    store = EmbeddedStore(tmp_path_factory.mktemp("content"))
    publish(store, POINTS, strengths=WEIGHTS, shares={ARTIST: 0.4})
    return store.open()


@pytest.fixture(params=["fake", "edge"])
def content(request: pytest.FixtureRequest, real_content: OpenRelease) -> OpenRelease:
    """A release with content entries."""
    if request.param == "fake":
        return FakeRelease(POINTS, strengths=WEIGHTS, shares={ARTIST: 0.4})
    return real_content


def recommend_for(
    release: OpenRelease, *ordinals: int, mode: Mode, where: Filter | None = None
) -> Recommendation:
    seeds = [Seed(song_id=POINTS[ordinal].song.song_id) for ordinal in ordinals]
    return asyncio.run(recommend(release, Query(seeds, 10, where or Filter(), mode)))


def ordinals_of(recommendation: Recommendation) -> list[int]:
    return [hit.song.ordinal for hit in recommendation.songs]


def scores_of(recommendation: Recommendation) -> dict[int, float]:
    return {hit.song.ordinal: hit.score for hit in recommendation.songs}


def test_cooccurrence_adds_up_the_weights_of_the_seeds(release: OpenRelease) -> None:
    recommendation = recommend_for(release, WATERLOO, FERNANDO, mode=Mode.COOCCURRENCE)
    assert ordinals_of(recommendation) == [STRONG, BELIEVE, THANKS, RARE]
    scores = [hit.score for hit in recommendation.songs]
    # With a decay of 0.5, the last seed, Fernando, has the weight 1, and Waterloo has 0.5.
    assert scores == pytest.approx([1.0, 0.25 + 0.5 * 0.5, 0.5 * 0.25, 0.5 * 0.125])
    assert (recommendation.mode, recommendation.strategy) == (Mode.COOCCURRENCE, Strategy.SEEDS)


def test_the_order_of_the_seeds_matters(release: OpenRelease) -> None:
    recommendation = recommend_for(release, FERNANDO, WATERLOO, mode=Mode.COOCCURRENCE)
    assert [hit.score for hit in recommendation.songs] == pytest.approx(
        [0.5 + 0.125, 0.5, 0.25, 0.125]
    )
    assert ordinals_of(recommendation) == [BELIEVE, STRONG, THANKS, RARE]


def test_dense_ranks_by_cosine(release: OpenRelease) -> None:
    recommendation = recommend_for(release, WATERLOO, mode=Mode.DENSE)
    assert ordinals_of(recommendation) == [FERNANDO, BELIEVE, STRONG, THANKS]
    assert recommendation.songs[-1].score == pytest.approx(-1)
    assert recommendation.mode is Mode.DENSE


def test_hybrid_adds_the_scores(release: OpenRelease) -> None:
    cooccurrence = scores_of(recommend_for(release, WATERLOO, mode=Mode.COOCCURRENCE))
    cosine = scores_of(recommend_for(release, WATERLOO, mode=Mode.DENSE))
    recommendation = recommend_for(release, WATERLOO, mode=Mode.HYBRID)
    assert cooccurrence.keys() == {BELIEVE, THANKS, RARE}
    expected = {
        ordinal: cooccurrence.get(ordinal, 0.0) + 0.5 * cosine.get(ordinal, 0.0)
        for ordinal in {*cooccurrence, *cosine}
    }
    assert scores_of(recommendation) == pytest.approx(expected)
    assert recommendation.mode is Mode.HYBRID
    assert ordinals_of(recommendation)[0] == BELIEVE


def test_a_seed_without_a_vector_is_searched_with_by_cooccurrence(release: OpenRelease) -> None:
    for mode in Mode:
        recommendation = recommend_for(release, RARE, mode=mode)
        assert ordinals_of(recommendation) == [WATERLOO]
        assert (recommendation.mode, recommendation.strategy) == (Mode.COOCCURRENCE, Strategy.SEEDS)


def test_seeds_are_never_recommended_in_any_mode(release: OpenRelease) -> None:
    for mode in Mode:
        assert not {WATERLOO, FERNANDO} & set(
            ordinals_of(recommend_for(release, WATERLOO, FERNANDO, mode=mode))
        )


@pytest.mark.parametrize("mode", Mode)
def test_filters_apply_in_every_mode(release: OpenRelease, mode: Mode) -> None:
    only = Filter(include_artists=frozenset(["cher"]))
    assert set(ordinals_of(recommend_for(release, WATERLOO, mode=mode, where=only))) <= {
        BELIEVE,
        STRONG,
    }
    without = Filter(exclude_artists=frozenset(["cher"]), min_playlists=5)
    ordinals = set(ordinals_of(recommend_for(release, WATERLOO, mode=mode, where=without)))
    assert ordinals
    assert ordinals <= {FERNANDO, THANKS}
    nothing = Filter(include_artists=frozenset(["nobody"]))
    assert ordinals_of(recommend_for(release, WATERLOO, mode=mode, where=nothing)) == []


def test_the_cosine_is_in_the_unit_of_the_cooccurrence_score(content: OpenRelease) -> None:
    seeds = [Seed(song_id=POINTS[ordinal].song.song_id) for ordinal in (FERNANDO, WATERLOO)]

    def scores(mode: Mode, weight: float) -> dict[int, float]:
        weighted = [replace(seed, weight=weight) for seed in seeds]
        return scores_of(asyncio.run(recommend(content, Query(weighted, mode=mode))))

    cooccurrence, cosines = scores(Mode.COOCCURRENCE, 1.0), scores(Mode.DENSE, 1.0)
    # The dense weight is 0.5, the scale is 2, and the weights of the seeds are 1/2 and 1.
    expected = {
        ordinal: cooccurrence.get(ordinal, 0.0) + 0.5 * 2 * 1.5 * cosines.get(ordinal, 0.0)
        for ordinal in {*cooccurrence, *cosines}
    }
    assert scores(Mode.HYBRID, 1.0) == pytest.approx(expected)
    # The weights of the seeds do not change the balance of the two scores.
    thrice = {ordinal: 3 * score for ordinal, score in expected.items()}
    assert scores(Mode.HYBRID, 3.0) == pytest.approx(thrice)


def test_content_adds_to_the_cooccurrence_score(content: OpenRelease) -> None:
    recommendation = recommend_for(content, WATERLOO, mode=Mode.COOCCURRENCE)
    # Abba has two songs. The entry of Fernando, the less popular song, is below the largest entry
    # by 1/6 of the popularity step.
    entry = 0.4 * 2 / 2**0.5 * (1 - POPULARITY_STEP / 6)
    assert scores_of(recommendation) == pytest.approx(
        {FERNANDO: entry, BELIEVE: 0.5, THANKS: 0.25, RARE: 0.125}
    )


def test_popularity_has_no_mode(release: OpenRelease) -> None:
    recommendation = asyncio.run(
        recommend(release, Query([Seed(artist="Nobody", title="Nothing")]))
    )
    assert (recommendation.strategy, recommendation.mode) == (Strategy.POPULAR, None)


def test_similar_songs_of_a_song_without_a_vector(release: OpenRelease) -> None:
    _, nearest = asyncio.run(find_similar(release, Seed(song_id=POINTS[RARE].song.song_id)))
    assert [hit.song.ordinal for hit in nearest.songs] == [WATERLOO]


@pytest.mark.parametrize("mode", Mode)
def test_edge_ranks_like_the_fake_release(real: OpenRelease, mode: Mode) -> None:
    fake = FakeRelease(POINTS, strengths=WEIGHTS)
    random = np.random.default_rng(5)
    for _ in range(30):
        seeds = random.choice(len(ROWS), random.integers(1, 5))
        expected, recommendation = (
            recommend_for(release, *seeds, mode=mode) for release in (fake, real)
        )
        assert recommendation.mode is expected.mode
        assert [hit.score for hit in recommendation.songs] == pytest.approx(
            [hit.score for hit in expected.songs], abs=1e-5
        )


def test_the_mode_of_the_request_is_in_the_response(release: OpenRelease) -> None:
    seeds = [pb.Seed(artist="Abba", title="Waterloo")]
    for mode, used in [
        (pb.MODE_UNSPECIFIED, pb.MODE_HYBRID),
        (pb.MODE_DENSE, pb.MODE_DENSE),
        (pb.MODE_COOCCURRENCE, pb.MODE_COOCCURRENCE),
        (pb.MODE_HYBRID, pb.MODE_HYBRID),
    ]:
        request = pb.RecommendRequest(seeds=seeds, mode=mode)
        assert asyncio.run(methods.recommend(release, request)).mode == used
    unknown = pb.RecommendRequest(seeds=seeds)
    unknown.MergeFromString(b"\x20\x63")  # the field 4, `mode`, with the undefined value 99
    with pytest.raises(RequestError, match="mode"):
        asyncio.run(methods.recommend(release, unknown))


def test_the_unit_of_a_release_of_format_2_is_a_constant() -> None:
    release = FakeRelease(POINTS, strengths=WEIGHTS)
    del release.manifest.origin.parameters["cooccurrence_scale"]
    cosine = scores_of(recommend_for(release, WATERLOO, mode=Mode.DENSE))[FERNANDO]
    hybrid = scores_of(recommend_for(release, WATERLOO, mode=Mode.HYBRID))[FERNANDO]
    assert hybrid == pytest.approx(0.5 * FORMAT_2_SCALE * cosine)
