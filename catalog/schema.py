"""The schema of a collection: vectors, payload and indexes, the same for both stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from catalog.model import Song

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalog.model import Vector

DENSE = "song"
"""Name of the dense vector: Word2Vec, cosine distance."""

SPARSE = "cooccurrence"
"""Name of the sparse vector: each index is the ordinal of a seed, and its value the co-occurrence
weight of this seed for the song."""

FUSED_PREDICTED, FUSED_NEAREST = 200, 100
"""Minimum number of songs taken from the co-occurrence and from the dense ranking for fusion."""

SPELLING = "spelling"
"""Name of the sparse vector of trigrams (see `catalog.spelling`). It is made from `search_text`, so
drafts do not contain it."""

MIN_SCORE = 1e-9
"""Minimum co-occurrence score of a hit if a seed weight is negative."""

Kind = Literal["keyword", "integer", "float", "text"]
"""Index type of a payload field, which determines the filters that the field supports.

A boolean is stored as a keyword, "true" or "false", because Qdrant Edge cannot match booleans."""

PAYLOAD_INDEXES: Mapping[str, Kind] = {
    "artist_key": "keyword",
    "ordinal": "integer",
    "playlists": "integer",
    "search_text": "text",
}
"""Payload fields for filtering and sorting, with their index types."""

ACORN_MAX_SELECTIVITY = 0.9
"""Share of the songs that pass a filter up to which a vector search uses ACORN.

ACORN (Patel et al., "ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and
Structured Data", 2024) also follows the neighbours of songs that a filter excludes. The HNSW graph
needs no extra links for each filter then, which would take most of the time of building it.
"""

SONG_FIELDS = ["song_id", "artist", "title", "artist_key", "ordinal", "playlists"]
"""Payload fields of a `Song`, without the extra ones."""

RESERVED_FIELDS = frozenset([*SONG_FIELDS, "search_text"])
"""Names that an extra payload field must not have."""

VECTOR_COLUMNS = frozenset(["vector", "seeds", "strengths"])
"""Columns of a draft that are not part of the payload: the dense and the sparse vector."""

HNSW_M = 16
HNSW_EF_CONSTRUCT = 100
INDEXING_THRESHOLD_KB = 1
"""Size in KB above which a segment is indexed. Files of a segment without an index can change."""

FULL_SCAN_THRESHOLD_KB = 1000
"""Size in KB below which a search is exact, because comparing all vectors is then faster."""

MAX_PREFIX_LENGTH = 20
"""Maximum length, in characters, of a word prefix in the text index."""


def fusion_depths(limit: int) -> tuple[int, int]:
    """Return the numbers of sparse and of dense hits that are fused into `limit` hits."""
    return max(FUSED_PREDICTED, 2 * limit), max(FUSED_NEAREST, limit)


def find_min_score(weights: Mapping[int, float]) -> float | None:
    """Return the minimum co-occurrence score of a hit, or None if no minimum is needed.

    A minimum is needed only if a seed weight is negative. Scores can then be 0 or less, and songs
    with such scores are not returned.
    """
    return MIN_SCORE if min(weights.values(), default=0.0) < 0 else None


def clip_cosine(score: float) -> float:
    """Clip a cosine from Qdrant to -1 to 1. Rounding can move it slightly out of this range."""
    return min(1.0, max(-1.0, score))


def default_search_ef(songs: int) -> int:
    """Return the HNSW search width (ef) for a release whose manifest does not define it."""
    return 128 if songs < 500_000 else 256


def parse_song(payload: Mapping[str, Any]) -> Song:
    """Return the song that a point's payload describes."""
    return Song(
        song_id=UUID(payload["song_id"]),
        artist=payload["artist"],
        title=payload["title"],
        artist_keys=_parse_artist_keys(payload["artist_key"]),
        ordinal=payload["ordinal"],
        playlists=payload["playlists"],
        extra={
            name: value
            for name, value in payload.items()
            if name not in RESERVED_FIELDS and value is not None
        },
    )


def _parse_artist_keys(value: str | Sequence[str]) -> tuple[str, ...]:
    # In format 2, the value is a text, because each song has exactly one artist.
    return (value,) if isinstance(value, str) else tuple(value)


def build_payload(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a song, given its row in a draft (see `catalog.draft.Draft`)."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and name not in VECTOR_COLUMNS
    }


def build_row(
    payload: Mapping[str, Any], vector: Vector | None, weights: Mapping[int, float]
) -> dict[str, Any]:
    """Return the draft row of a song with this payload, dense vector and sparse vector."""
    return {
        **payload,
        "vector": None if vector is None else vector.tolist(),
        "seeds": list(weights) or None,
        "strengths": list(weights.values()) or None,
    }
