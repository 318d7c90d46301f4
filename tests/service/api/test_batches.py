"""Many playlists in one call: each answered as it would be alone, or all refused with the place."""

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


def best(answer: pb.RecommendResponse) -> tuple[list[float], set[str]]:
    """All scores, and the songs that score above the last."""
    scores = [scored.score for scored in answer.songs]
    return scores, {s.song.song_id for s in answer.songs if s.score > scores[-1]}


def test_each_is_answered_as_it_would_be_alone(real: OpenRelease) -> None:
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
    for fields, answer in zip(many, together, strict=True):
        alone = recommend(real, **fields)
        assert best(answer) == best(alone)  # the engine may turn round what scores alike
        for each in (answer, alone):
            del each.songs[:]
        assert answer == alone
    assert {answer.release for answer in together} == {real.manifest.release}
    assert together[-1].empty_reason == pb.EMPTY_REASON_FILTER


def test_the_engine_is_asked_together() -> None:
    points = points_of(*[("A", f"Song {place}", 40 - place, (1, place)) for place in range(40)])
    fake = FakeRelease(points)
    requests = [
        pb.RecommendRequest(seeds=[named(str(point.song.song_id))]) for point in points[:20]
    ]
    batch(fake, *requests)
    assert fake.asked == {"points": 1, "find": 1}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RecommendRequest(), "requests[1].seeds"),
        (pb.RecommendRequest(seeds=[SEED, named("x")]), "requests[1].seeds[1].song_id"),
        (pb.RecommendRequest(seeds=[SEED], limit=501), "requests[1].limit"),
        (pb.RecommendRequest(seeds=[SEED], diversity=1.5), "requests[1].diversity"),
        (pb.RecommendRequest(seeds=[SEED], max_per_artist=501), "requests[1].max_per_artist"),
        (
            pb.RecommendRequest(seeds=[SEED], filter=pb.Filter(exclude_song_ids=["x"])),
            "requests[1].filter.exclude_song_ids[0]",
        ),
    ],
    ids=str,
)
def test_one_bad_playlist_is_named_and_none_is_answered(
    request_: pb.RecommendRequest, field: str
) -> None:
    fake = FakeRelease(points_of(("ABBA", "Waterloo", 40, (1, 0))))
    with pytest.raises(RequestError) as caught:
        batch(fake, pb.RecommendRequest(seeds=[SEED]), request_)
    assert caught.value.field == field
    assert fake.asked == {}


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ([], "at least one playlist"),
        ([pb.RecommendRequest(seeds=[SEED])] * 101, "at most 100, and holds 101"),
        ([pb.RecommendRequest(seeds=[SEED] * 1000)] * 11, "10,000 seeds in all, and have 11,000"),
        (
            [pb.RecommendRequest(seeds=[SEED], limit=500)] * 21,
            "10,000 songs to answer with in all, and have 10,500",
        ),
    ],
    ids=["none", "many playlists", "many seeds", "many songs"],
)
def test_the_size_of_a_batch_is_bounded(requests: list[pb.RecommendRequest], said: str) -> None:
    fake = FakeRelease(points_of(("ABBA", "Waterloo", 40, (1, 0))))
    with pytest.raises(RequestError, match=said) as caught:
        batch(fake, *requests)
    assert caught.value.field == "requests"
    assert fake.asked == {}


def test_what_is_asked_for_reaches_the_ranking(real: OpenRelease) -> None:
    points = asyncio.run(real.popular(10))
    seeds = [named(str(point.song.song_id)) for point in points[:6]]
    plain = recommend(real, seeds=seeds, limit=20)
    bounded = recommend(real, seeds=seeds, limit=20, max_per_artist=1)
    artists = [scored.song.artist for scored in bounded.songs]
    assert len(set(artists)) == len(artists)
    assert len({scored.song.artist for scored in plain.songs}) < 20
    assert ids(recommend(real, seeds=seeds, limit=20, diversity=0.9)) != ids(plain)
    explained = recommend(real, seeds=seeds, limit=20, explain=True)
    assert ids(explained) == ids(plain)
    for scored in explained.songs:
        shares = [reason.share for reason in scored.reasons]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert shares == sorted(shares, reverse=True)
        assert {reason.seed for reason in scored.reasons} <= set(range(6))
    assert not any(scored.reasons for scored in plain.songs)


def test_a_negative_seed_is_neither_followed_nor_recommended(real: OpenRelease) -> None:
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
