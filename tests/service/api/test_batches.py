"""Batches: each query is answered as it would be alone, or the batch is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from catalog.errors import RequestError
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods
from tests.support.api_calls import NOBODY, SEED, ids, named, recommend
from tests.support.fakes import FakeRelease, points_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease
    from tests.support.road import Road


@pytest.fixture(scope="module")
def real(road: Road) -> Iterator[OpenRelease]:
    release = road.home.open()
    yield release
    release.close()


def batch(release: OpenRelease, *requests: pb.RecommendRequest) -> list[pb.RecommendResponse]:
    request = pb.BatchRecommendRequest(requests=requests)
    return list(asyncio.run(methods.batch_recommend(release, request)).responses)


def best(response: pb.RecommendResponse) -> tuple[list[float], set[str]]:
    """Return all scores, and the songs with a score above the lowest one."""
    scores = [scored.score for scored in response.songs]
    return scores, {s.song.song_id for s in response.songs if s.score > scores[-1]}


def test_a_query_gets_the_same_response_in_a_batch_as_alone(real: OpenRelease) -> None:
    points = asyncio.run(real.popular(45))
    seeds = [named(str(point.song.song_id)) for point in points]
    artist = pb.Seed(artist=points[0].song.artist, title="no such song")
    many: list[dict[str, Any]] = [{"seeds": seeds[start : start + 3]} for start in range(43)]
    many += [
        {"seeds": [artist], "limit": 3},
        {"seeds": [pb.Seed(artist="nobody", title="nothing")]},
        {"seeds": seeds[:5], "max_per_artist": 1, "diversity": 0.5, "explain": True},
        {"seeds": seeds[:5], "mode": pb.MODE_DENSE},
        {"seeds": seeds[:2], "filter": pb.Filter(include_artists=["nobody"])},
    ]
    together = batch(real, *[pb.RecommendRequest(**fields) for fields in many])
    for fields, response in zip(many, together, strict=True):
        alone = recommend(real, **fields)
        assert best(response) == best(alone)  # songs with equal scores may be in any order
        for each in (response, alone):
            del each.songs[:]
        assert response == alone
    assert {response.release for response in together} == {real.manifest.release}
    assert together[-1].empty_reason == pb.EMPTY_REASON_FILTER


def test_a_batch_is_one_request_to_the_engine() -> None:
    points = points_of(*[("A", f"Song {rank}", 40 - rank, (1, rank)) for rank in range(40)])
    fake = FakeRelease(points)
    requests = [
        pb.RecommendRequest(seeds=[named(str(point.song.song_id))]) for point in points[:20]
    ]
    batch(fake, *requests)
    assert fake.call_counts == {"points": 1, "find": 1}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RecommendRequest(), "requests[1].seeds"),
        (pb.RecommendRequest(seeds=[SEED, named("x")]), "requests[1].seeds[1].song_id"),
        (pb.RecommendRequest(seeds=[SEED], limit=501), "requests[1].limit"),
        (pb.RecommendRequest(seeds=[SEED], diversity=1.5), "requests[1].diversity"),
        (pb.RecommendRequest(seeds=[SEED], max_per_artist=501), "requests[1].max_per_artist"),
        (pb.RecommendRequest(seeds=[SEED], min_artist_gap=501), "requests[1].min_artist_gap"),
        (
            pb.RecommendRequest(seeds=[SEED], filter=pb.Filter(exclude_song_ids=["x"])),
            "requests[1].filter.exclude_song_ids[0]",
        ),
    ],
    ids=str,
)
def test_a_batch_with_a_bad_query_is_refused(request_: pb.RecommendRequest, field: str) -> None:
    fake = FakeRelease(points_of(("ABBA", "Waterloo", 40, (1, 0))))
    with pytest.raises(RequestError) as caught:
        batch(fake, pb.RecommendRequest(seeds=[SEED]), request_)
    assert caught.value.field == field
    assert fake.call_counts == {}


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "at least one playlist"),
        ([pb.RecommendRequest(seeds=[SEED])] * 101, "at most 100, and holds 101"),
        ([pb.RecommendRequest(seeds=[SEED] * 1000)] * 11, "10,000 seeds in all, and have 11,000"),
        (
            [pb.RecommendRequest(seeds=[SEED], limit=500)] * 21,
            "10,000 songs to return in all, and have 10,500",
        ),
    ],
    ids=["none", "many playlists", "many seeds", "many songs"],
)
def test_a_batch_that_is_too_large_is_refused(
    requests: list[pb.RecommendRequest], message: str
) -> None:
    fake = FakeRelease(points_of(("ABBA", "Waterloo", 40, (1, 0))))
    with pytest.raises(RequestError, match=message) as caught:
        batch(fake, *requests)
    assert caught.value.field == "requests"
    assert fake.call_counts == {}


def test_all_options_of_a_query_change_the_recommendation(real: OpenRelease) -> None:
    points = asyncio.run(real.popular(10))
    seeds = [named(str(point.song.song_id)) for point in points[:6]]
    plain = recommend(real, seeds=seeds, limit=20)
    bounded = recommend(real, seeds=seeds, limit=20, max_per_artist=1)
    artists = [scored.song.artist for scored in bounded.songs]
    assert len(set(artists)) == len(artists)
    assert len({scored.song.artist for scored in plain.songs}) < 20
    spaced = recommend(real, seeds=seeds, limit=20, min_artist_gap=2)
    artists = [scored.song.artist for scored in spaced.songs]
    assert len(artists) == 20
    assert all(len({*artists[start : start + 3]}) == 3 for start in range(18))
    assert ids(recommend(real, seeds=seeds, limit=20, diversity=0.9)) != ids(plain)
    explained = recommend(real, seeds=seeds, limit=20, explain=True)
    assert ids(explained) == ids(plain)
    for scored in explained.songs:
        shares = [reason.share for reason in scored.reasons]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert shares == sorted(shares, reverse=True)
        assert {reason.seed for reason in scored.reasons} <= set(range(6))
    assert not any(scored.reasons for scored in plain.songs)


def test_a_negative_seed_changes_scores_and_is_not_recommended(real: OpenRelease) -> None:
    points = asyncio.run(real.popular(8))
    seeds = [named(str(point.song.song_id)) for point in points[:4]]
    away = pb.Seed(song_id=str(points[7].song.song_id), weight=-5)
    plain = recommend(real, seeds=seeds, limit=50)
    pushed = recommend(real, seeds=[*seeds, away], limit=50)
    assert away.song_id not in ids(pushed)
    assert ids(pushed) != ids(plain)
    alone = recommend(real, seeds=[away, named(NOBODY)])
    assert alone.strategy == pb.STRATEGY_POPULAR
    assert away.song_id not in ids(alone)
