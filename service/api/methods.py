"""The methods of the API, as functions that answer a request from one release.

The gRPC server calls these functions, and so does the command line when it opens a release itself.
If a field of a request is malformed or out of range, the functions raise `RequestError` with the
name of the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.errors import NoHistoryError, RequestError
from catalog.pauses import pause_between
from nextsong.v1 import recommender_pb2 as pb
from service.api import responses, validation
from service.recommend.engine import find_similar, recommend_many
from service.recommend.seeds import Seed, resolve_seeds
from service.recommend.spelling import search_by_name, suggest_songs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.store import OpenRelease
    from service.history import History
    from service.operate.timing import Timings
    from service.recommend.query import Query, Recommendation

MAX_QUERIES_AT_ONCE = 20
"""Maximum number of queries of a batch whose searches share one request to Qdrant."""

MAX_WORK_AT_ONCE = 2_000
"""Maximum work (see `validation.estimate_work`) of queries that share one request to Qdrant."""


async def recommend(
    release: OpenRelease,
    request: pb.RecommendRequest,
    history: History | None = None,
    timings: Timings | None = None,
) -> pb.RecommendResponse:
    """Answer `Recommend`, from the seeds or from the recorded plays of a user.

    Raises `NoHistoryError` if the request names a user and `history` is None.
    """
    if not request.user_id:
        seeds = await validation.parse_seeds(request.seeds)
    elif request.seeds:
        raise RequestError("user_id", "must not be given together with seeds")
    else:
        history = _require_history(history)
        song_ids = await history.recent(validation.parse_user_id(request.user_id))
        seeds = [Seed(song_id) for song_id in song_ids]
    query = await validation.parse_query(request, seeds, release.manifest.payload)
    suggestions = validation.parse_suggestions(request.suggestions)
    (response,) = await _answer(release, [query], timings)
    if suggestions:
        await _add_suggestions(release, seeds, response, suggestions)
    return response


async def batch_recommend(
    release: OpenRelease, request: pb.BatchRecommendRequest, timings: Timings | None = None
) -> pb.BatchRecommendResponse:
    """Answer `BatchRecommend`, with several queries in each request to Qdrant."""
    queries = await validation.parse_batch(request, release.manifest.payload)
    response = pb.BatchRecommendResponse()
    async for group in pause_between(_split_by_work(queries)):
        response.responses.extend(await _answer(release, group, timings))
    return response


async def similar_songs(
    release: OpenRelease, request: pb.SimilarSongsRequest, timings: Timings | None = None
) -> pb.SimilarSongsResponse:
    """Answer `SimilarSongs`. Raises `UnknownSongError` if the catalog does not have the song."""
    if not request.HasField("song"):
        raise RequestError("song", "must be given")
    seed = validation.parse_song("song", request.song)
    limit = validation.parse_limit(request.limit)
    where = await validation.parse_filter(request.filter, release.manifest.payload)
    song, recommendation = await find_similar(
        release, seed, limit, where, timings, allow_versions=request.allow_versions
    )
    return pb.SimilarSongsResponse(
        songs=[responses.build_scored_song(hit) for hit in recommendation.songs],
        song=responses.build_song(song),
        release=release.manifest.release,
        empty_reason=await _find_empty_reason(release, recommendation),
    )


async def search_songs(
    release: OpenRelease, request: pb.SearchSongsRequest
) -> pb.SearchSongsResponse:
    """Answer `SearchSongs`."""
    text = validation.parse_search_text(request.query)
    limit = validation.parse_limit(request.limit)
    if request.fuzzy:
        similar = await search_by_name(release, text, limit)
        songs = [song.song for song in similar]
    else:
        similar = []
        songs = await release.search(text, limit)
    return pb.SearchSongsResponse(
        songs=[responses.build_song(song) for song in songs],
        release=release.manifest.release,
        similarities=[song.similarity for song in similar],
    )


async def get_release(
    release: OpenRelease, _request: pb.GetReleaseRequest
) -> pb.GetReleaseResponse:
    """Answer `GetRelease`."""
    return pb.GetReleaseResponse(release=responses.build_release(release.manifest))


async def record_plays(
    release: OpenRelease, request: pb.RecordPlaysRequest, history: History | None
) -> pb.RecordPlaysResponse:
    """Answer `RecordPlays`. Raises `NoHistoryError` if `history` is None."""
    history = _require_history(history)
    user_id = validation.parse_user_id(request.user_id)
    plays = await validation.parse_plays(request)
    resolved = await resolve_seeds(release, [seed for seed, _ in plays])
    known = [
        (seed.point.song.song_id, at_ms)
        for seed, (_, at_ms) in zip(resolved, plays, strict=True)
        if seed.point is not None
    ]
    if known:
        await history.record(user_id, known)
    return pb.RecordPlaysResponse(recorded=len(known))


async def forget_user(
    request: pb.ForgetUserRequest, history: History | None
) -> pb.ForgetUserResponse:
    """Answer `ForgetUser`. Raises `NoHistoryError` if `history` is None."""
    history = _require_history(history)
    known = await history.forget(validation.parse_user_id(request.user_id))
    return pb.ForgetUserResponse(known=known)


def _require_history(history: History | None) -> History:
    if history is None:
        raise NoHistoryError(
            "this service keeps no listening history: start it with --history and --qdrant-url"
        )
    return history


def _split_by_work(queries: Sequence[Query]) -> Iterator[Sequence[Query]]:
    """Yield groups of consecutive queries, each small enough for one request to Qdrant."""
    start, work = 0, 0
    for index, query in enumerate(queries):
        query_work = validation.estimate_query_work(
            len(query.seeds), query.limit, is_varied=query.may_reject
        )
        is_full = index - start == MAX_QUERIES_AT_ONCE or work + query_work > MAX_WORK_AT_ONCE
        if index > start and is_full:
            yield queries[start:index]
            start, work = index, 0
        work += query_work
    yield queries[start:]


async def _answer(
    release: OpenRelease, queries: Sequence[Query], timings: Timings | None
) -> list[pb.RecommendResponse]:
    answers = []
    async for recommendation in pause_between(await recommend_many(release, queries, timings)):
        reason = await _find_empty_reason(release, recommendation)
        answers.append(
            responses.build_recommend_response(recommendation, release.manifest.release, reason)
        )
    return answers


async def _add_suggestions(
    release: OpenRelease, seeds: Sequence[Seed], response: pb.RecommendResponse, limit: int
) -> None:
    """Add to each unknown seed of a response at most `limit` songs with similar names.

    Only the first `MAX_SUGGESTED_SEEDS` unknown seeds get suggestions.
    """
    unknown = [
        (seed, resolved)
        for seed, resolved in zip(seeds, response.seeds, strict=True)
        if resolved.resolution != pb.RESOLUTION_SONG
    ]
    async for seed, resolved in pause_between(unknown[: validation.MAX_SUGGESTED_SEEDS]):
        similar = await suggest_songs(release, seed, limit)
        resolved.suggestions.extend(map(responses.build_suggestion, similar))


async def _find_empty_reason(
    release: OpenRelease, recommendation: Recommendation
) -> pb.EmptyReason:
    """Return the reason why a recommendation is empty, or UNSPECIFIED if it has songs.

    The reason is the filter if no song of the catalog passes it, else the seeds.
    """
    if recommendation.songs:
        return pb.EMPTY_REASON_UNSPECIFIED
    passes_any = bool(await release.popular(1, recommendation.where))
    return pb.EMPTY_REASON_SEEDS if passes_any else pb.EMPTY_REASON_FILTER
