"""Any request gets a response with the documented properties, or a `NextsongError`."""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from catalog.errors import NextsongError, RequestError, UnknownSongError
from catalog.song import normalise
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods
from tests.support.api_calls import ids, named, search, similar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from catalog.store import OpenRelease
    from tests.support.road import Road

T = TypeVar("T")


@pytest.fixture(scope="module")
def real(road: Road) -> Iterator[OpenRelease]:
    release = road.home.open()
    yield release
    release.close()


UNUSUAL_TEXTS = [
    "\0",
    "a\0b",
    "\u202eevil\u202c",
    "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\ufeff",
    "\ufffe\uffff",
    "\ufdfa" * 500,
    "a" * 10_000,
    "a\u0301" * 5_000,
    "\U0001d518" * 10_000,
    "' OR 1=1 --",
    '{"$ne": null}',
    "%s%n{0}",
    "\r\n\r\n",
    "\u0130\u0131\u00df\ufb01",
    "NaN",
    "-" * 36,
]
unusual = st.integers(0, len(UNUSUAL_TEXTS) - 1).map(lambda index: UNUSUAL_TEXTS[index])
texts = st.one_of(unusual, st.text(max_size=30), st.just(""))
names = st.one_of(unusual, st.text(min_size=1, max_size=30)).filter(normalise)
song_ids = st.one_of(st.uuids().map(str), texts)
limits = st.one_of(st.integers(0, 500), st.integers(0, 500), st.integers(-(2**31), 2**31 - 1))
counts = st.one_of(st.just(0), st.integers(0, 100), st.integers(0, 2**32 - 1))
plain_seeds = st.builds(pb.Seed, artist=names, title=names)


any_seeds = st.builds(
    pb.Seed,
    song_id=st.one_of(st.just(""), song_ids),
    artist=texts,
    title=texts,
    weight=st.one_of(st.none(), st.floats(0, 1000, width=32), st.floats(width=32)),
)


filters = st.builds(
    pb.Filter,
    include_artists=st.one_of(st.just([]), st.lists(texts, max_size=2)),
    exclude_artists=st.one_of(st.lists(names), st.lists(texts, max_size=2)),
    exclude_song_ids=st.one_of(st.lists(st.uuids().map(str)), st.lists(song_ids, max_size=2)),
    min_playlists=counts,
    max_playlists=st.one_of(st.just(0), counts),
)


many_examples = settings(
    max_examples=300,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def good_seeds(release: OpenRelease) -> st.SearchStrategy[pb.Seed]:
    known = [named(str(point.song.song_id)) for point in asyncio.run(release.popular(5))]
    return st.one_of(plain_seeds, st.sampled_from(known))


def outcome(call: Callable[[], T]) -> T | NextsongError:
    try:
        response = call()
    except NextsongError as error:
        event(type(error).__name__)
        return error
    event("answered")
    return response


@many_examples
@given(data=st.data(), limit=limits, where=st.one_of(st.none(), filters))
def test_any_request_is_answered_or_refused(
    real: OpenRelease, data: st.DataObject, limit: int, where: pb.Filter | None
) -> None:
    seeds = st.one_of(st.lists(good_seeds(real), min_size=1), st.lists(any_seeds, max_size=4))
    request = pb.RecommendRequest(seeds=data.draw(seeds), limit=limit, filter=where)
    response = outcome(lambda: asyncio.run(methods.recommend(real, request)))
    if isinstance(response, pb.RecommendResponse):
        check_properties(request, response)
        assert response.release == real.manifest.release
    else:
        assert isinstance(response, RequestError)
        assert re.match(r"(seeds|limit|filter)\b", response.field)


def check_properties(request: pb.RecommendRequest, response: pb.RecommendResponse) -> None:
    where = request.filter
    recommended = ids(response)
    assert len(response.seeds) == len(request.seeds)
    assert len(recommended) <= (request.limit or 10)
    assert len(set(recommended)) == len(recommended)
    assert not {seed.song.song_id for seed in response.seeds} & set(recommended)
    assert not set(where.exclude_song_ids) & set(recommended)
    excluded = {normalise(name) for name in where.exclude_artists}
    included = {normalise(name) for name in where.include_artists}
    is_bounded = response.mode in {pb.MODE_DENSE, pb.MODE_UNSPECIFIED}
    for scored in response.songs:
        assert math.isfinite(scored.score)
        assert not is_bounded or -1 <= scored.score <= 1
        assert normalise(scored.song.artist) not in excluded
        assert not included or normalise(scored.song.artist) in included
        assert scored.song.playlists >= where.min_playlists
        assert not where.max_playlists or scored.song.playlists <= where.max_playlists
    scores = [scored.score for scored in response.songs]
    assert scores == sorted(scores, reverse=True)


@many_examples
@given(data=st.data(), limit=limits, where=filters)
def test_any_song_is_answered_or_refused(
    real: OpenRelease, data: st.DataObject, limit: int, where: pb.Filter
) -> None:
    song = data.draw(st.one_of(good_seeds(real), any_seeds))
    response = outcome(lambda: similar(real, song=song, limit=limit, filter=where))
    assert isinstance(response, pb.SimilarSongsResponse | RequestError | UnknownSongError)
    if isinstance(response, NextsongError):
        assert len(str(response)) < 200


@many_examples
@given(query=names, limit=limits)
def test_any_search_is_answered_or_refused(real: OpenRelease, query: str, limit: int) -> None:
    response = outcome(lambda: search(real, query=query, limit=limit))
    if isinstance(response, pb.SearchSongsResponse):
        playlists = [song.playlists for song in response.songs]
        assert playlists == sorted(playlists, reverse=True)
    else:
        assert isinstance(response, RequestError)
        assert response.field in {"query", "limit"}


@pytest.mark.parametrize("query", UNUSUAL_TEXTS)
def test_unusual_searches_return_only_songs_that_match(real: OpenRelease, query: str) -> None:
    if len(query) > 200 or not normalise(query):
        with pytest.raises(RequestError):
            search(real, query=query)
        return
    response = search(real, query=query, limit=500)
    for song in response.songs:
        words = normalise(f"{song.artist} {song.title}").split()
        for prefix in re.findall(r"\w+", normalise(query)):
            assert any(word.startswith(prefix) for word in words)


def test_a_request_cannot_contain_a_lone_surrogate() -> None:
    with pytest.raises(UnicodeEncodeError):
        pb.Seed(artist="\ud800")
