"""Why songs are recommended, and what negative seeds do: by hand, and on the real engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.embedded.store import EmbeddedStore
from service.recommend.engine import Mode, Strategy, recommend
from service.recommend.seeds import Resolution, ResolvedSeed, Seed, embed, weigh
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease
    from service.recommend.engine import Recommendation

A, B, C, D, E = range(5)
POINTS = points_of(
    ("Ann", "a", 50, (1, 0)),
    ("Bob", "b", 40, (0, 1)),
    ("Cat", "c", 30, (0.6, 0.8)),
    ("Dan", "d", 20, (-0.8, 0.6)),
    ("Cat", "e", 10, (0.8, 0.6)),
)
STRENGTHS = {A: {C: 3.0, D: 1.0}, B: {C: 0.5, E: 2.0}, D: {C: 4.0}}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    home = EmbeddedStore(tmp_path_factory.mktemp("explain"))
    publish(home, POINTS, strengths=STRENGTHS)
    release = home.open()
    yield release
    release.close()


@pytest.fixture(params=["memory", "engine"])
def release(request: pytest.FixtureRequest, real: OpenRelease) -> OpenRelease:
    return FakeRelease(POINTS, strengths=STRENGTHS) if request.param == "memory" else real


def seed(place: int, weight: float = 1.0) -> Seed:
    return Seed(song_id=POINTS[place].song.song_id, weight=weight)


def ask(release: OpenRelease, *seeds: Seed, mode: Mode | None = None) -> Recommendation:
    return asyncio.run(recommend(release, seeds, mode=mode, explain=True))


def shares(answer: Recommendation) -> dict[int, dict[int, float]]:
    assert len(answer.songs) == len(answer.reasons)
    return {
        hit.song.ordinal: {reason.seed: reason.share for reason in reasons}
        for hit, reasons in zip(answer.songs, answer.reasons, strict=True)
    }


def test_shares_of_cooccurrence_are_parts_of_the_score(release: OpenRelease) -> None:
    # Decay .5: a counts .5 and b 1. For c that is 1.5 and .5.
    answer = ask(release, seed(A), seed(B), mode=Mode.COOCCURRENCE)
    found = shares(answer)
    assert found[C] == pytest.approx({0: 0.75, 1: 0.25})
    assert found[D] == pytest.approx({0: 1.0})
    assert found[E] == pytest.approx({1: 1.0})


def test_reasons_name_the_seeds_by_their_place(release: OpenRelease) -> None:
    nobody = Seed(artist="Nobody", title="?")
    found = shares(ask(release, nobody, seed(A), nobody, mode=Mode.COOCCURRENCE))
    assert found == {C: {1: 1.0}, D: {1: 1.0}}


def test_shares_of_word2vec_are_parts_of_the_cosine(release: OpenRelease) -> None:
    # a counts .5 and b 1: for c, .5 * .6 and 1 * .8; against d speaks a.
    found = shares(ask(release, seed(A), seed(B), mode=Mode.DENSE))
    assert found[C] == pytest.approx({0: 0.3 / 1.1, 1: 0.8 / 1.1})
    assert found[D] == pytest.approx({1: 1.0})


def test_shares_of_both_are_mixed(release: OpenRelease) -> None:
    answer = ask(release, seed(A), seed(B), mode=Mode.HYBRID)
    # No song is predicted better than c, and its score is 1 plus the weight times the cosine.
    cosine = 1.1 / 1.25**0.5
    score = next(hit.score for hit in answer.songs if hit.song.ordinal == C)
    assert score == pytest.approx(1 + 0.5 * cosine)
    assert shares(answer)[C] == pytest.approx(
        {
            0: (0.75 + 0.5 * 0.3 / 1.25**0.5) / score,
            1: (0.25 + 0.5 * 0.8 / 1.25**0.5) / score,
        }
    )
    for reasons in answer.reasons:
        assert sum(reason.share for reason in reasons) == pytest.approx(1.0)
        assert [r.share for r in reasons] == sorted((r.share for r in reasons), reverse=True)


def test_artists_that_stand_in_are_reasons(release: OpenRelease) -> None:
    lost = [Seed(artist="Ann", title="?"), Seed(artist="Bob", title="?")]
    answer = ask(release, *lost, mode=Mode.COOCCURRENCE)
    assert answer.strategy is Strategy.ARTISTS
    assert shares(answer)[C] == pytest.approx({0: 0.75, 1: 0.25})


def test_popularity_has_no_reasons(release: OpenRelease) -> None:
    answer = ask(release, Seed(artist="Nobody", title="?"))
    assert answer.reasons == [[]] * 5


def test_nothing_is_explained_unasked(release: OpenRelease) -> None:
    answer = asyncio.run(recommend(release, [seed(A)]))
    assert answer.songs
    assert answer.reasons == [[] for _ in answer.songs]


# Negative seeds.


def test_a_negative_seed_pushes_away_and_never_comes_back(release: OpenRelease) -> None:
    plain = ask(release, seed(A), mode=Mode.COOCCURRENCE)
    assert [hit.song.ordinal for hit in plain.songs] == [C, D]
    pushed = ask(release, seed(A), seed(D, -0.5), mode=Mode.COOCCURRENCE)
    assert [hit.song.ordinal for hit in pushed.songs] == [C]
    assert pushed.songs[0].score == pytest.approx(3.0 - 0.5 * 4.0)
    assert shares(pushed)[C] == {0: 1.0}
    away = ask(release, seed(A), seed(D, -1.0), mode=Mode.COOCCURRENCE)
    assert away.songs == []


def test_it_pushes_away_by_word2vec_too(release: OpenRelease) -> None:
    answer = ask(release, seed(A), seed(B, -0.5), mode=Mode.DENSE)
    # The query is (1, -.5), scaled.
    assert {hit.song.ordinal: hit.score for hit in answer.songs} == pytest.approx(
        {C: 0.2 / 1.25**0.5, E: 0.5 / 1.25**0.5, D: -1.1 / 1.25**0.5}, abs=1e-6
    )
    assert shares(answer)[E] == {0: 1.0}
    assert shares(answer)[D] == {}


def test_it_pushes_away_from_both_lists_of_a_fused_ranking(release: OpenRelease) -> None:
    songs = [hit.song.ordinal for hit in ask(release, seed(A), seed(B, -6.0)).songs]
    # c, which a predicts with 3 and b with .5, is predicted no more, and e the nearest of the rest.
    assert set(songs) == {C, D, E}
    assert songs[0] == D


def test_negative_seeds_alone_ask_for_nothing(release: OpenRelease) -> None:
    answer = ask(release, seed(A, -1.0))
    assert answer.strategy is Strategy.POPULAR
    assert [hit.song.ordinal for hit in answer.songs] == [B, C, D, E]


def test_negative_seeds_beside_unknown_songs_of_known_artists(release: OpenRelease) -> None:
    lost = Seed(artist="Ann", title="?")
    answer = ask(release, lost, seed(D, -0.5), mode=Mode.COOCCURRENCE)
    assert answer.strategy is Strategy.ARTISTS
    assert {hit.song.ordinal: hit.score for hit in answer.songs} == pytest.approx({C: 1.0})


def known(place: int, weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.SONG, (POINTS[place],), weight)


def test_negative_seeds_count_by_hand() -> None:
    seeds = [known(A), known(D, -0.25), known(B)]
    # a is one song before b: what is pushed away was not played between them.
    assert weigh(seeds, 0.5) == {A: 0.5, B: 1.0, D: -0.25}
    expected = np.array([0.5 + 0.25 * 0.8, 1.0 - 0.25 * 0.6])
    np.testing.assert_allclose(embed(seeds, 0.5), expected / np.linalg.norm(expected), atol=1e-6)
    assert weigh([known(A), known(A, -1.0)], 0.5) == {}
    assert weigh([known(A, -1.0)], 0.5) == {}
    assert embed([known(A, -1.0)], 0.5) is None
    np.testing.assert_allclose(embed([known(A), known(A, -1.0)], 0.5), POINTS[A].vector)


def test_the_decays_are_separate() -> None:
    fake = FakeRelease(POINTS, strengths=STRENGTHS)
    fake.manifest.origin.parameters.update(query_decay=0.0, cooccurrence_decay=1.0)
    company = ask(fake, seed(A), seed(B), mode=Mode.COOCCURRENCE)
    assert {hit.song.ordinal: hit.score for hit in company.songs} == {C: 3.5, E: 2.0, D: 1.0}
    dense = ask(fake, seed(A), seed(B), mode=Mode.DENSE)
    assert dense.songs[0].song.ordinal == C
    assert dense.songs[0].score == pytest.approx(0.8)
