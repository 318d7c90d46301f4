"""The collection's schema: names, payload, indexes and search settings, the same for both homes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from catalog.model import Song

if TYPE_CHECKING:
    from collections.abc import Mapping

DENSE = "song"
"""The name of the dense vector: Word2Vec, cosine."""

SPARSE = "cooccurrence"
"""The name of the sparse vector: an index is a seed's ordinal, its value how strongly that seed
predicts this song."""

FUSED_PREDICTED, FUSED_NEAREST = 200, 100
"""So many songs are fused of those that co-occur, and of the most similar, at least."""

SMALLEST_SCORE = 1e-9
"""What a song must score by co-occurrence to be found, where weights may be negative."""

Kind = Literal["keyword", "integer", "float", "text"]
"""How a payload field is indexed, and so how it can be filtered on.

A boolean is a keyword, "true" or "false": Qdrant Edge cannot match booleans."""

PAYLOAD_INDEXES: Mapping[str, Kind] = {
    "artist_key": "keyword",
    "ordinal": "integer",
    "playlists": "integer",
    "search_text": "text",
}
"""The payload fields that can be filtered or sorted on, and how each is indexed."""

UNLINKED = frozenset(["ordinal", "search_text"])
"""Those that no search by vectors is filtered on: they need no links in its graph, which for all
beginnings of words take many times as long to build as the graph itself."""

SONG_FIELDS = ["song_id", "artist", "title", "artist_key", "ordinal", "playlists"]
"""The payload fields that make a `Song`, beside the extra ones."""

RESERVED_FIELDS = frozenset([*SONG_FIELDS, "search_text"])
"""Names that no extra payload field may take."""

HNSW_M = 16
HNSW_EF_CONSTRUCT = 100
INDEXING_THRESHOLD_KB = 1
"""Every segment but the tiniest is optimised: one that is not goes on changing on disk."""

FULL_SCAN_THRESHOLD_KB = 1000
"""Below this size a search is exact, which is then faster than by the graph."""

LONGEST_PREFIX = 20
"""Words are found by their beginnings, up to this many characters."""


def fused_depths(limit: int) -> tuple[int, int]:
    """How many of the songs that co-occur, and of the most similar, are fused into so many."""
    return max(FUSED_PREDICTED, 2 * limit), max(FUSED_NEAREST, limit)


def floor_of(weights: Mapping[int, float]) -> float | None:
    """What a song must score to be predicted by seeds that count so, or None where all do.

    Negative weights can bring a song below 0, which then is not predicted at all.
    """
    return SMALLEST_SCORE if min(weights.values(), default=0.0) < 0 else None


def cosine_of(score: float) -> float:
    """A cosine that the engine worked out: its rounding can pass 1."""
    return min(1.0, max(-1.0, score))


def search_ef(songs: int) -> int:
    """How widely the index of a release is searched whose manifest does not say."""
    return 128 if songs < 500_000 else 256


def song_of(payload: Mapping[str, Any]) -> Song:
    """The song that a point's payload describes."""
    return Song(
        song_id=UUID(payload["song_id"]),
        artist=payload["artist"],
        title=payload["title"],
        artist_key=payload["artist_key"],
        ordinal=payload["ordinal"],
        playlists=payload["playlists"],
        extra={
            name: value
            for name, value in payload.items()
            if name not in RESERVED_FIELDS and value is not None
        },
    )
