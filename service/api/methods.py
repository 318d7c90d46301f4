"""The API's methods as functions: a request in, a response out, answered from one release.

The gRPC server calls them, and so does the command line where it opens a release directly. They
raise `RequestError`, naming the field, for what is malformed or out of range.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import NoHistoryError, RequestError
from catalog.turns import turn
from nextsong.v1 import recommender_pb2 as pb
from service.api import responses, validation
from service.recommend import engine as ranking
from service.recommend.seeds import Resolution, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from catalog.model import Filter
    from catalog.store import OpenRelease
    from service.history import History
    from service.recommend.engine import Query, Recommendation

UNKNOWN = UUID(int=0)

TOGETHER = 20
"""So many playlists of a batch, at most, are searched for in one go."""

HEAVIEST = 2_000
"""So much may be asked for in one go of several: seeds, and songs that have to be looked at."""


async def recommend(release: OpenRelease, request: pb.RecommendRequest) -> pb.RecommendResponse:
    """Answer `Recommend`."""
    asks = [await validation.ask_of(request, release.manifest.payload)]
    (response,) = await _answer_all(release, asks)
    return response


async def recommend_user(
    release: OpenRelease, request: pb.RecommendRequest, history: History | None
) -> pb.RecommendResponse:
    """Answer `Recommend`: where it names a user, from what that user has heard."""
    if not request.user_id:
        return await recommend(release, request)
    if request.seeds:
        raise RequestError("user_id", "must not be given beside seeds")
    kept = _required(history)
    heard = await kept.recent(validation.user_of(request.user_id))
    asked = pb.RecommendRequest()
    asked.CopyFrom(request)
    asked.seeds.extend(pb.Seed(song_id=str(song_id)) for song_id in heard or [UNKNOWN])
    response = await recommend(release, asked)
    if not heard:
        del response.seeds[:]
    return response


async def record_plays(
    release: OpenRelease, request: pb.RecordPlaysRequest, history: History | None
) -> pb.RecordPlaysResponse:
    """Answer `RecordPlays`."""
    kept = _required(history)
    user, plays = validation.user_of(request.user_id), await validation.plays_of(request)
    resolved = await resolve(release, [seed for seed, _ in plays])
    known = [
        (seed.points[0].song.song_id, at_ms)
        for seed, (_, at_ms) in zip(resolved, plays, strict=True)
        if seed.resolution is Resolution.SONG
    ]
    if known:
        await kept.record(user, known)
    return pb.RecordPlaysResponse(recorded=len(known))


async def forget_user(
    request: pb.ForgetUserRequest, history: History | None
) -> pb.ForgetUserResponse:
    """Answer `ForgetUser`."""
    known = await _required(history).forget(validation.user_of(request.user_id))
    return pb.ForgetUserResponse(known=known)


def _required(history: History | None) -> History:
    if history is None:
        raise NoHistoryError(
            "this service keeps no listening history: start it with --history and --qdrant-url"
        )
    return history


async def batch_recommend(
    release: OpenRelease, request: pb.BatchRecommendRequest
) -> pb.BatchRecommendResponse:
    """Answer `BatchRecommend`."""
    asks = [ask async for ask in validation.asks_of(request, release.manifest.payload)]
    response = pb.BatchRecommendResponse()
    for some in _in_goes(asks):
        response.responses.extend(await _answer_all(release, some))
        await turn()
    return response


def _in_goes(asks: Sequence[Query]) -> Iterator[Sequence[Query]]:
    """Playlists that follow each other, as many as are searched for in one go."""
    start, weight = 0, 0
    for place, ask in enumerate(asks):
        varied = bool(ask.diversity or ask.max_per_artist)
        own = validation.work_of_query(len(ask.seeds), ask.limit, varied=varied)
        if place > start and (place - start == TOGETHER or weight + own > HEAVIEST):
            yield asks[start:place]
            start, weight = place, 0
        weight += own
    yield asks[start:]


async def similar_songs(
    release: OpenRelease, request: pb.SimilarSongsRequest
) -> pb.SimilarSongsResponse:
    """Answer `SimilarSongs`. Raises `UnknownSongError` too."""
    if not request.HasField("song"):
        raise RequestError("song", "must be given")
    seed = validation.song_of("song", request.song)
    limit = validation.limit_of(request.limit)
    where = await validation.filter_of(request.filter, release.manifest.payload)
    song, hits = await ranking.similar(release, seed, limit, where)
    reason = pb.EMPTY_REASON_UNSPECIFIED
    if not hits:
        own = frozenset([song.song_id])
        reason = await _why_empty(release, replace(where, exclude_songs=where.exclude_songs | own))
    return pb.SimilarSongsResponse(
        songs=[responses.scored_song(hit) for hit in hits],
        song=responses.song(song),
        release=release.manifest.release,
        empty_reason=reason,
    )


async def search_songs(
    release: OpenRelease, request: pb.SearchSongsRequest
) -> pb.SearchSongsResponse:
    """Answer `SearchSongs`."""
    query = validation.query_of(request.query)
    songs = await release.search(query, validation.limit_of(request.limit))
    return pb.SearchSongsResponse(
        songs=[responses.song(song) for song in songs], release=release.manifest.release
    )


async def get_release(
    release: OpenRelease, _request: pb.GetReleaseRequest
) -> pb.GetReleaseResponse:
    """Answer `GetRelease`."""
    return pb.GetReleaseResponse(release=responses.release_of(release.manifest))


async def _answer_all(
    release: OpenRelease, asks: Sequence[Query]
) -> Iterable[pb.RecommendResponse]:
    answers = await ranking.recommend_many(release, asks)
    found = []
    for ask, answer in zip(asks, answers, strict=True):
        reason = pb.EMPTY_REASON_UNSPECIFIED
        if not answer.songs:
            reason = await _why_answer_empty(release, ask, answer)
        found.append(responses.recommendation(answer, release.manifest.release, reason))
        await turn()
    return found


async def _why_answer_empty(
    release: OpenRelease, ask: Query, answer: Recommendation
) -> pb.EmptyReason:
    known = [seed for seed in answer.seeds if seed.resolution is Resolution.SONG]
    own = {seed.points[0].song.song_id for seed in known}
    return await _why_empty(
        release, replace(ask.where, exclude_songs=ask.where.exclude_songs | own)
    )


async def _why_empty(release: OpenRelease, where: Filter) -> pb.EmptyReason:
    if await release.popular(1, where):
        return pb.EMPTY_REASON_SEEDS
    return pb.EMPTY_REASON_FILTER
