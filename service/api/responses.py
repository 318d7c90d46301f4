"""What the rooms below answer -> messages of the API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nextsong.v1 import recommender_pb2 as pb
from service.recommend.engine import Mode, Strategy
from service.recommend.seeds import Resolution

if TYPE_CHECKING:
    from catalog.manifest import Manifest
    from catalog.model import Hit, Song, Value
    from service.recommend.engine import Recommendation
    from service.recommend.explain import Reason
    from service.recommend.seeds import ResolvedSeed

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


def recommendation(
    answer: Recommendation, release: str, empty_reason: pb.EmptyReason
) -> pb.RecommendResponse:
    """A playlist's answer, from the release of this id."""
    return pb.RecommendResponse(
        songs=[
            scored_song(hit, why) for hit, why in zip(answer.songs, answer.reasons, strict=True)
        ],
        strategy=_STRATEGIES[answer.strategy],
        seeds=[_resolved(seed) for seed in answer.seeds],
        release=release,
        mode=_MODES[answer.mode],
        empty_reason=empty_reason,
    )


def song(found: Song) -> pb.Song:
    """A song of the catalog."""
    return pb.Song(
        song_id=str(found.song_id),
        artist=found.artist,
        title=found.title,
        playlists=found.playlists,
        extra={name: _value(value) for name, value in found.extra.items()} if found.extra else None,
    )


def scored_song(hit: Hit, why: list[Reason] | None = None) -> pb.ScoredSong:
    """A song that was found."""
    reasons = [pb.Reason(seed=reason.seed, share=reason.share) for reason in why or ()]
    return pb.ScoredSong(song=song(hit.song), score=hit.score, reasons=reasons)


def release_of(manifest: Manifest) -> pb.Release:
    """The account of a release."""
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
    )


def _value(value: Value) -> pb.Value:
    if isinstance(value, str):
        return pb.Value(text=value)
    return pb.Value(integer=value) if isinstance(value, int) else pb.Value(number=value)


def _resolved(seed: ResolvedSeed) -> pb.ResolvedSeed:
    known = seed.resolution is Resolution.SONG
    return pb.ResolvedSeed(
        resolution=_RESOLUTIONS[seed.resolution],
        song=song(seed.points[0].song) if known else None,
    )
