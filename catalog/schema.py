"""The schema of a collection: vectors, payload and indexes, the same for both stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from catalog.model import Song

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalog.model import Vector

DENSE = "song"
"""Name of the dense vector, which Word2Vec learns. Dense vectors are compared by cosine."""

SPARSE = "cooccurrence"
"""Name of the sparse vector: the co-occurrence weight of each seed that predicts the song.

The index of a weight is the ordinal of the seed, which is its popularity rank. Content entries (see
`catalog.content`) have higher indexes."""

FUSED_PREDICTED, FUSED_NEAREST = 200, 100
"""Minimum number of songs that a hybrid search takes from the sparse and from the dense ranking."""

SPELLING = "spelling"
"""Name of the sparse vector of trigrams, by which searches find misspelt names.

Stores compute the vector from the payload field `search_text` (see `catalog.spelling`). Therefore
it is not part of a draft (see `catalog.draft`)."""

MIN_SCORE = 1e-9
"""Minimum co-occurrence score of a hit if the query has a negative seed weight."""

Kind = Literal["keyword", "integer", "float", "text"]
"""Index type of a payload field, which determines the filters that the field supports.

A boolean is stored as a keyword, "true" or "false", because Qdrant Edge cannot match booleans."""

PAYLOAD_INDEXES: Mapping[str, Kind] = {
    "artist_key": "keyword",
    "ordinal": "integer",
    "playlists": "integer",
    "search_text": "text",
}
"""Index types of the payload fields that all releases have, for filters and sorting."""

ACORN_MAX_SELECTIVITY = 0.9
"""A vector search uses ACORN if at most this share of the songs passes the filter.

ACORN (Patel et al., "ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and
Structured Data", 2024) also follows the neighbours of songs that the filter excludes. Without
ACORN, the HNSW graph would need extra links for each payload field, which take most of the time of
building the graph.
"""

SONG_FIELDS = ["song_id", "artist", "title", "artist_key", "ordinal", "playlists"]
"""Payload fields from which `parse_song` builds a `Song`, without extra fields."""

RESERVED_FIELDS = frozenset([*SONG_FIELDS, "search_text"])
"""Names that are not allowed for extra payload fields."""

VECTOR_COLUMNS = frozenset(["vector", "seeds", "strengths"])
"""Columns of a draft that contain the dense and the sparse vector, and not the payload."""

HNSW_M = 16
HNSW_EF_CONSTRUCT = 100
"""Parameters m and ef_construct of the HNSW graph: the number of links of each song, and the number
of neighbours considered while the graph is built."""

INDEXING_THRESHOLD_KB = 1
"""Size of vectors, in KB, above which Qdrant Edge indexes a segment.

The value is small because Qdrant Edge can change the files of a segment that has no index."""

FULL_SCAN_THRESHOLD_KB = 1000
"""Size of the vectors to search, in KB, below which a search compares all of them.

For so few vectors, this is faster than a search in the HNSW graph."""

MAX_PREFIX_LENGTH = 20
"""Maximum length, in characters, of a word prefix in the text index."""


def fusion_depths(limit: int) -> tuple[int, int]:
    """Return how many sparse and how many dense hits a hybrid search fuses into `limit` hits."""
    return max(FUSED_PREDICTED, 2 * limit), max(FUSED_NEAREST, limit)


def find_min_score(weights: Mapping[int, float]) -> float | None:
    """Return the minimum co-occurrence score of a hit, or None if no minimum is needed.

    `weights` maps the indexes of the sparse query vector to the weights of the seeds. A minimum is
    needed only if a seed weight is negative. Scores can then be 0 or less, and songs with such
    scores are not returned.
    """
    return MIN_SCORE if min(weights.values(), default=0.0) < 0 else None


def clip_cosine(score: float) -> float:
    """Return a cosine, limited to -1 to 1. Rounding in Qdrant can exceed these limits slightly."""
    return min(1.0, max(-1.0, score))


def default_search_ef(songs: int) -> int:
    """Return the HNSW search width (ef) for a release whose manifest does not define the width.

    `songs` is the size of the release. A large graph needs a wider search for the same recall.
    """
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
    # In releases of format 2, each song has exactly one artist, and the value is a string.
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
    """Return the draft row of a song (see `catalog.draft.Draft`).

    `vector` is the dense vector, and `weights` maps the indexes of the sparse vector to its values.
    """
    return {
        **payload,
        "vector": None if vector is None else vector.tolist(),
        "seeds": list(weights) or None,
        "strengths": list(weights.values()) or None,
    }
