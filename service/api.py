"""The API's methods as functions: a request in, a response out, answered from one release.

The gRPC server calls them, and so does the command line where it opens a release directly. They
raise `RequestError`, naming the field, for what is malformed or out of range.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import RequestError
from catalog.release import Filter
from catalog.songs import normalise
from nextsong.v1 import recommender_pb2 as pb
from service import recommend as ranking
from service.seeds import Resolution, Seed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from catalog.release import Hit, OpenRelease, Song
    from service.seeds import ResolvedSeed

DEFAULT_LIMIT = 10
MOST_SONGS = 500
MOST_SEEDS = 1_000
MOST_ARTISTS = 1_000
MOST_EXCLUDED = 10_000
LONGEST_QUERY = 200
HEAVIEST_SEED = 1_000.0

_UUID = re.compile("[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_STRATEGIES = {
    ranking.Strategy.SEEDS: pb.STRATEGY_SEEDS,
    ranking.Strategy.ARTISTS: pb.STRATEGY_ARTISTS,
    ranking.Strategy.POPULAR: pb.STRATEGY_POPULAR,
}
_MODES = {
    ranking.Mode.DENSE: pb.MODE_DENSE,
    ranking.Mode.COOCCURRENCE: pb.MODE_COOCCURRENCE,
    ranking.Mode.HYBRID: pb.MODE_HYBRID,
}
_REQUESTED_MODES = {value: mode for mode, value in _MODES.items()} | {
    pb.MODE_UNSPECIFIED: ranking.Mode.HYBRID
}
_RESOLUTIONS = {
    Resolution.SONG: pb.RESOLUTION_SONG,
    Resolution.ARTIST: pb.RESOLUTION_ARTIST,
    Resolution.UNKNOWN: pb.RESOLUTION_UNKNOWN,
}


async def recommend(release: OpenRelease, request: pb.RecommendRequest) -> pb.RecommendResponse:
    """Answer `Recommend`."""
    if not request.seeds:
        raise RequestError("seeds", "must hold at least one song")
    _at_most("seeds", request.seeds, MOST_SEEDS)
    seeds = [_seed(f"seeds[{place}]", seed) for place, seed in enumerate(request.seeds)]
    limit = _limit(request.limit)
    if request.mode not in _REQUESTED_MODES:
        raise RequestError("mode", f"{request.mode} is none of the modes there are")
    mode, where = _REQUESTED_MODES[request.mode], _filter(request.filter)
    answer = await ranking.recommend(release, seeds, limit, where, mode)
    return pb.RecommendResponse(
        songs=_scored(answer.songs),
        strategy=_STRATEGIES[answer.strategy],
        seeds=[_resolved(seed) for seed in answer.seeds],
        release=release.manifest.release,
        mode=_MODES[answer.mode] if answer.mode else pb.MODE_UNSPECIFIED,
    )


async def similar_songs(
    release: OpenRelease, request: pb.SimilarSongsRequest
) -> pb.SimilarSongsResponse:
    """Answer `SimilarSongs`. Raises `UnknownSongError` too."""
    if not request.HasField("song"):
        raise RequestError("song", "must be given")
    seed = _seed("song", request.song)
    limit = _limit(request.limit)
    song, hits = await ranking.similar(release, seed, limit, _filter(request.filter))
    return pb.SimilarSongsResponse(
        songs=_scored(hits), song=_song(song), release=release.manifest.release
    )


async def search_songs(
    release: OpenRelease, request: pb.SearchSongsRequest
) -> pb.SearchSongsResponse:
    """Answer `SearchSongs`."""
    if len(request.query) > LONGEST_QUERY:
        raise RequestError("query", f"must have at most {LONGEST_QUERY} characters")
    if not normalise(request.query):
        raise RequestError("query", "must hold at least one word")
    songs = await release.search(request.query, _limit(request.limit))
    return pb.SearchSongsResponse(
        songs=[_song(song) for song in songs], release=release.manifest.release
    )


async def get_release(
    release: OpenRelease, _request: pb.GetReleaseRequest
) -> pb.GetReleaseResponse:
    """Answer `GetRelease`."""
    manifest = release.manifest
    return pb.GetReleaseResponse(
        release=pb.Release(
            id=manifest.release,
            created=manifest.created,
            songs=manifest.counts.songs,
            artists=manifest.counts.artists,
            training_playlists=manifest.counts.training_playlists,
            dimensions=manifest.dimensions,
            data_fingerprint=manifest.origin.data_fingerprint,
            code_version=manifest.origin.code_version,
            parameters_json=json.dumps(manifest.origin.parameters, sort_keys=True),
        )
    )


def _seed(field: str, seed: pb.Seed) -> Seed:
    song_id = _uuid(f"{field}.song_id", seed.song_id) if seed.song_id else None
    if song_id is None:
        for name, value in (("artist", seed.artist), ("title", seed.title)):
            if not normalise(value):
                raise RequestError(f"{field}.{name}", "must be given where there is no song_id")
    weight = seed.weight if seed.HasField("weight") else 1.0
    if not (math.isfinite(weight) and 0 < weight <= HEAVIEST_SEED):
        raise RequestError(f"{field}.weight", f"must be above 0 and at most {HEAVIEST_SEED:g}")
    return Seed(song_id, seed.artist, seed.title, weight)


def _filter(given: pb.Filter) -> Filter:
    _at_most("filter.exclude_song_ids", given.exclude_song_ids, MOST_EXCLUDED)
    if given.max_playlists and given.min_playlists > given.max_playlists:
        raise RequestError("filter.min_playlists", "must not be above filter.max_playlists")
    return Filter(
        include_artists=_artists("filter.include_artists", given.include_artists),
        exclude_artists=_artists("filter.exclude_artists", given.exclude_artists),
        exclude_songs=frozenset(
            _uuid(f"filter.exclude_song_ids[{place}]", value)
            for place, value in enumerate(given.exclude_song_ids)
        ),
        min_playlists=given.min_playlists,
        max_playlists=given.max_playlists,
    )


def _artists(field: str, names: Sequence[str]) -> frozenset[str]:
    _at_most(field, names, MOST_ARTISTS)
    keys = [normalise(name) for name in names]
    if "" in keys:
        raise RequestError(f"{field}[{keys.index('')}]", "must not be empty")
    return frozenset(keys)


def _limit(limit: int) -> int:
    if not 0 <= limit <= MOST_SONGS:
        raise RequestError("limit", f"must be from 1 to {MOST_SONGS}, or 0 for {DEFAULT_LIMIT}")
    return limit or DEFAULT_LIMIT


def _at_most(field: str, values: Sequence[object], most: int) -> None:
    if len(values) > most:
        raise RequestError(field, f"must hold at most {most:,}, and holds {len(values):,}")


def _uuid(field: str, text: str) -> UUID:
    if not _UUID.fullmatch(text):  # UUID() alone takes signs, blanks and digits of any script
        raise RequestError(field, f"'{text[:40]}' is not a UUID")
    return UUID(text)


def _song(song: Song) -> pb.Song:
    return pb.Song(
        song_id=str(song.song_id),
        artist=song.artist,
        title=song.title,
        playlists=song.playlists,
    )


def _scored(hits: Iterable[Hit]) -> list[pb.ScoredSong]:
    return [pb.ScoredSong(song=_song(hit.song), score=hit.score) for hit in hits]


def _resolved(seed: ResolvedSeed) -> pb.ResolvedSeed:
    song = seed.points[0].song if seed.resolution is Resolution.SONG else None
    return pb.ResolvedSeed(
        resolution=_RESOLUTIONS[seed.resolution], song=_song(song) if song else None
    )
