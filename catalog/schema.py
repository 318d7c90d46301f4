"""The schema of a collection: vectors, payload and indexes, the same for both stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from catalog.model import Song

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog.model import Vector

DENSE = "song"
"""Name of the dense vector: Word2Vec, cosine distance."""

SPARSE = "cooccurrence"
"""Name of the sparse vector: an index is a seed's ordinal, the value the co-occurrence weight of
that seed for this song."""

FUSED_PREDICTED, FUSED_NEAREST = 200, 100
"""Minimum number of songs taken from the co-occurrence and from the dense ranking for fusion."""

SMALLEST_SCORE = 1e-9
"""Lowest co-occurrence score of a result if seed weights can be negative."""

Kind = Literal["keyword", "integer", "float", "text"]
"""Index type of a payload field, which decides how it can be filtered on.

A boolean is a keyword, "true" or "false": Qdrant Edge cannot match booleans."""

PAYLOAD_INDEXES: Mapping[str, Kind] = {
    "artist_key": "keyword",
    "ordinal": "integer",
    "playlists": "integer",
    "search_text": "text",
}
"""Payload fields that can be filtered or sorted on, with their index types."""

UNLINKED = frozenset(["ordinal", "search_text"])
"""Indexed fields that no vector search filters on, so HNSW builds no extra links for them.

For the word prefixes of `search_text`, such links take many times as long as the graph itself."""

SONG_FIELDS = ["song_id", "artist", "title", "artist_key", "ordinal", "playlists"]
"""Payload fields of a `Song`, without the extra ones."""

RESERVED_FIELDS = frozenset([*SONG_FIELDS, "search_text"])
"""Names that an extra payload field must not have."""

VECTOR_COLUMNS = frozenset(["vector", "seeds", "strengths"])
"""Columns of a draft that are not part of the payload: the dense and the sparse vector."""

HNSW_M = 16
HNSW_EF_CONSTRUCT = 100
INDEXING_THRESHOLD_KB = 1
"""Size above which a segment is indexed, in KB. A segment that is not keeps changing on disk."""

FULL_SCAN_THRESHOLD_KB = 1000
"""Size below which a search is exact, in KB: it is then faster than the graph."""

LONGEST_PREFIX = 20
"""Longest word prefix in the text index, in characters."""


def fusion_depths(limit: int) -> tuple[int, int]:
    """Return how many songs of the sparse and the dense ranking are fused for `limit` hits."""
    return max(FUSED_PREDICTED, 2 * limit), max(FUSED_NEAREST, limit)


def floor_of(weights: Mapping[int, float]) -> float | None:
    """Return the lowest co-occurrence score of a result for these seed weights, or None for any.

    With negative weights a score can be 0 or less; such songs are not returned.
    """
    return SMALLEST_SCORE if min(weights.values(), default=0.0) < 0 else None


def cosine_of(score: float) -> float:
    """Clip a cosine from the engine to -1 to 1, which its rounding can exceed."""
    return min(1.0, max(-1.0, score))


def search_ef(songs: int) -> int:
    """Return the HNSW search width (ef) for a release whose manifest has none."""
    return 128 if songs < 500_000 else 256


def song_of(payload: Mapping[str, Any]) -> Song:
    """Return the song that the payload of a point describes."""
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


def payload_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a song from its row in a draft (see `catalog.draft.Draft`)."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and name not in VECTOR_COLUMNS
    }


def row_of(
    payload: Mapping[str, Any], vector: Vector | None, weights: Mapping[int, float]
) -> dict[str, Any]:
    """Return the row of a draft from a payload, a dense vector and co-occurrence weights."""
    return {
        **payload,
        "vector": None if vector is None else vector.tolist(),
        "seeds": list(weights) or None,
        "strengths": list(weights.values()) or None,
    }
