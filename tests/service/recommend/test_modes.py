"""Ranking by vectors, by co-occurrence and by both: by hand, and the engine against memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.errors import RequestError
from catalog.model import Filter, Point
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods
from service.recommend.engine import Mode, Strategy, recommend, similar
from service.recommend.seeds import Resolution, ResolvedSeed, Seed, weigh
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from catalog.store import OpenRelease
    from service.recommend.engine import Recommendation

ROWS = (
    ("Abba", "Waterloo", 50, (1, 0)),
    ("Abba", "Fernando", 40, (1, 0.1)),
    ("Cher", "Believe", 30, (0.2, 1)),
    ("Cher", "Strong Enough", 20, (0, 1)),
    ("Dido", "Thank You", 10, (-1, 0)),
    ("Enya", "Caribbean Blue", 1, (1, 1)),
)
WATERLOO, FERNANDO, BELIEVE, STRONG, THANKS, RARE = range(6)
STRENGTHS = {
    WATERLOO: {BELIEVE: 0.5, THANKS: 0.25, RARE: 0.125},
    FERNANDO: {BELIEVE: 0.25, STRONG: 1.0},
    RARE: {WATERLOO: 2.0},
}
POINTS = points_of(*ROWS)
POINTS[RARE] = Point(POINTS[RARE].song, None)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> OpenRelease:
    home = EmbeddedStore(tmp_path_factory.mktemp("modes"))
    publish(home, POINTS, strengths=STRENGTHS)
    return home.open()


@pytest.fixture(params=["memory", "engine"])
def release(request: pytest.FixtureRequest, real: OpenRelease) -> OpenRelease:
    return FakeRelease(POINTS, strengths=STRENGTHS) if request.param == "memory" else real


def ask(
    release: OpenRelease, *places: int, mode: Mode, where: Filter | None = None
) -> Recommendation:
    seeds = [Seed(song_id=POINTS[place].song.song_id) for place in places]
    return asyncio.run(recommend(release, seeds, 10, where or Filter(), mode))


def places_of(answer: Recommendation) -> list[int]:
    return [hit.song.ordinal for hit in answer.songs]


def scores_of(answer: Recommendation) -> dict[int, float]:
    return {hit.song.ordinal: hit.score for hit in answer.songs}


def test_cooccurrence_adds_up_what_recent_seeds_predict(release: OpenRelease) -> None:
    answer = ask(release, WATERLOO, FERNANDO, mode=Mode.COOCCURRENCE)
    assert places_of(answer) == [STRONG, BELIEVE, THANKS, RARE]
    scores = [hit.score for hit in answer.songs]
    # Decay .5: Fernando, the last, counts 1 and Waterloo .5.
    assert scores == pytest.approx([1.0, 0.25 + 0.5 * 0.5, 0.5 * 0.25, 0.5 * 0.125])
    assert (answer.mode, answer.strategy) == (Mode.COOCCURRENCE, Strategy.SEEDS)


def test_the_order_of_the_seeds_matters(release: OpenRelease) -> None:
    answer = ask(release, FERNANDO, WATERLOO, mode=Mode.COOCCURRENCE)
    assert [hit.score for hit in answer.songs] == pytest.approx([0.5 + 0.125, 0.5, 0.25, 0.125])
    assert places_of(answer) == [BELIEVE, STRONG, THANKS, RARE]


def test_dense_ranks_by_cosine(release: OpenRelease) -> None:
    answer = ask(release, WATERLOO, mode=Mode.DENSE)
    assert places_of(answer) == [FERNANDO, BELIEVE, STRONG, THANKS]
    assert answer.songs[-1].score == pytest.approx(-1)
    assert answer.mode is Mode.DENSE


def test_hybrid_adds_the_scores(release: OpenRelease) -> None:
    by_company = scores_of(ask(release, WATERLOO, mode=Mode.COOCCURRENCE))
    by_likeness = scores_of(ask(release, WATERLOO, mode=Mode.DENSE))
    answer = ask(release, WATERLOO, mode=Mode.HYBRID)
    best = max(by_company.values())
    assert by_company.keys() == {BELIEVE, THANKS, RARE}
    expected = {
        place: by_company.get(place, 0.0) / best + 0.5 * by_likeness.get(place, 0.0)
        for place in {*by_company, *by_likeness}
    }
    assert scores_of(answer) == pytest.approx(expected)
    assert answer.mode is Mode.HYBRID
    assert places_of(answer)[0] == BELIEVE


def test_a_seed_without_a_vector_still_predicts(release: OpenRelease) -> None:
    for mode in Mode:
        answer = ask(release, RARE, mode=mode)
        assert places_of(answer) == [WATERLOO]
        assert (answer.mode, answer.strategy) == (Mode.COOCCURRENCE, Strategy.SEEDS)


def test_seeds_are_never_recommended_back(release: OpenRelease) -> None:
    for mode in Mode:
        assert not {WATERLOO, FERNANDO} & set(
            places_of(ask(release, WATERLOO, FERNANDO, mode=mode))
        )


@pytest.mark.parametrize("mode", Mode)
def test_filters_hold_in_every_mode(release: OpenRelease, mode: Mode) -> None:
    only = Filter(include_artists=frozenset(["cher"]))
    assert set(places_of(ask(release, WATERLOO, mode=mode, where=only))) <= {BELIEVE, STRONG}
    without = Filter(exclude_artists=frozenset(["cher"]), min_playlists=5)
    found = set(places_of(ask(release, WATERLOO, mode=mode, where=without)))
    assert found <= {FERNANDO, THANKS}
    assert found
    nothing = Filter(include_artists=frozenset(["nobody"]))
    assert places_of(ask(release, WATERLOO, mode=mode, where=nothing)) == []


def test_the_artists_songs_stand_in(release: OpenRelease) -> None:
    answer = asyncio.run(
        recommend(release, [Seed(artist="ABBA", title="Unheard")], 10, mode=Mode.COOCCURRENCE)
    )
    assert answer.strategy is Strategy.ARTISTS
    # Waterloo and Fernando share one seed's count.
    scores = {hit.song.ordinal: hit.score for hit in answer.songs}
    assert scores == pytest.approx({STRONG: 0.5, BELIEVE: 0.375, THANKS: 0.125, RARE: 0.0625})


def test_popularity_has_no_mode(release: OpenRelease) -> None:
    answer = asyncio.run(recommend(release, [Seed(artist="Nobody", title="Nothing")]))
    assert (answer.strategy, answer.mode) == (Strategy.POPULAR, None)


def test_similar_songs_of_a_song_without_a_vector(release: OpenRelease) -> None:
    _, hits = asyncio.run(similar(release, Seed(song_id=POINTS[RARE].song.song_id)))
    assert [hit.song.ordinal for hit in hits] == [WATERLOO]


@pytest.mark.parametrize("mode", Mode)
def test_the_engine_ranks_as_memory_does(real: OpenRelease, mode: Mode) -> None:
    memory = FakeRelease(POINTS, strengths=STRENGTHS)
    random = np.random.default_rng(5)
    for _ in range(30):
        seeds = random.choice(len(ROWS), random.integers(1, 5))
        expected, found = (ask(one, *seeds, mode=mode) for one in (memory, real))
        assert found.mode is expected.mode
        assert [hit.score for hit in found.songs] == pytest.approx(
            [hit.score for hit in expected.songs], abs=1e-5
        )


def resolved(*places: int, weight: float = 1.0) -> ResolvedSeed:
    points = tuple(POINTS[place] for place in places)
    return ResolvedSeed(Resolution.SONG, points, weight)


def test_weights_by_hand() -> None:
    assert weigh([resolved(1), resolved(2)], 0.5) == {2: 1.0, 1: 0.5}
    assert weigh([resolved(1), resolved(1)], 0.5) == {1: 1.5}
    assert weigh([resolved(1, weight=8), resolved(2)], 0.5) == {2: 1.0, 1: 4.0}
    assert weigh([resolved(1, 3), resolved()], 0.5) == {1: 0.5, 3: 0.5}
    assert weigh([resolved(1), resolved(2)], 0.0) == {2: 1.0}
    assert weigh([], 0.5) == {}


def test_the_mode_travels_in_request_and_answer(release: OpenRelease) -> None:
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
    unknown.MergeFromString(b"\x20\x63")  # field 4, value 99
    with pytest.raises(RequestError, match="mode"):
        asyncio.run(methods.recommend(release, unknown))
