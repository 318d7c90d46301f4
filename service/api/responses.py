"""Build messages of the API from recommendations, songs and manifests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nextsong.v1 import recommender_pb2 as pb
from service.recommend.query import Mode, Strategy
from service.recommend.seeds import Resolution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.manifest import Manifest
    from catalog.model import Hit, Song, Value
    from service.recommend.query import Reason, Recommendation
    from service.recommend.seeds import ResolvedSeed
    from service.recommend.spelling import SimilarSong

_STRATEGIES = {
    Strategy.SEEDS: pb.STRATEGY_SEEDS,
    Strategy.ARTISTS: pb.STRATEGY_ARTISTS,
    Strategy.POPULAR: pb.STRATEGY_POPULAR,
}
_MODES = {
    None: pb.MODE_UNSPECIFIED,
    Mode.DENSE: pb.MODE_DENSE,
    Mode.COOCCURRENCE: pb.MODE_COOCCURRENCE,
    Mode.HYBRID: pb.MODE_HYBRID,
    Mode.RANKED: pb.MODE_RANKED,
}
_RESOLUTIONS = {
    Resolution.SONG: pb.RESOLUTION_SONG,
    Resolution.ARTIST: pb.RESOLUTION_ARTIST,
    Resolution.UNKNOWN: pb.RESOLUTION_UNKNOWN,
}
_KINDS = {
    "keyword": pb.FIELD_KIND_KEYWORD,
    "integer": pb.FIELD_KIND_INTEGER,
    "float": pb.FIELD_KIND_FLOAT,
    "text": pb.FIELD_KIND_TEXT,
}


def build_recommend_response(
    recommendation: Recommendation, release: str, empty_reason: pb.EmptyReason
) -> pb.RecommendResponse:
    """Return the response for `recommendation`, made from the release with the id `release`."""
    return pb.RecommendResponse(
        songs=[
            build_scored_song(hit, reasons)
            for hit, reasons in zip(recommendation.songs, recommendation.reasons, strict=True)
        ],
        strategy=_STRATEGIES[recommendation.strategy],
        seeds=[_build_resolved_seed(seed) for seed in recommendation.seeds],
        release=release,
        mode=_MODES[recommendation.mode],
        empty_reason=empty_reason,
    )


def build_song(song: Song) -> pb.Song:
    """Return the message for a song of the catalog."""
    return pb.Song(
        song_id=str(song.song_id),
        artist=song.artist,
        title=song.title,
        playlists=song.playlists,
        extra={name: _build_value(value) for name, value in song.extra.items()}
        if song.extra
        else None,
    )


def build_suggestion(similar: SimilarSong) -> pb.Suggestion:
    """Return the message for a song with a similar name."""
    return pb.Suggestion(song=build_song(similar.song), similarity=similar.similarity)


def build_scored_song(hit: Hit, reasons: Sequence[Reason] = ()) -> pb.ScoredSong:
    """Return the message for a recommended song."""
    return pb.ScoredSong(
        song=build_song(hit.song),
        score=hit.score,
        reasons=[
            pb.Reason(seed=reason.seed, share=reason.share, content=reason.content)
            for reason in reasons
        ],
    )


def build_release(manifest: Manifest) -> pb.Release:
    """Return the message that describes a release."""
    return pb.Release(
        id=manifest.release,
        created=manifest.created,
        songs=manifest.counts.songs,
        artists=manifest.counts.artists,
        training_playlists=manifest.counts.training_playlists,
        dimensions=manifest.dimensions,
        data_fingerprint=manifest.origin.data_fingerprint,
        code_version=manifest.origin.code_version,
        parameters_json=json.dumps(manifest.origin.parameters, sort_keys=True),
        payload_fields=[
            pb.PayloadField(name=name, kind=_KINDS[kind])
            for name, kind in sorted(manifest.payload.items())
        ],
        has_spelling=manifest.has_spelling,
    )


def _build_value(value: Value) -> pb.Value:
    if isinstance(value, str):
        return pb.Value(text=value)
    return pb.Value(integer=value) if isinstance(value, int) else pb.Value(number=value)


def _build_resolved_seed(seed: ResolvedSeed) -> pb.ResolvedSeed:
    return pb.ResolvedSeed(
        resolution=_RESOLUTIONS[seed.resolution],
        song=build_song(seed.point.song) if seed.point else None,
    )
