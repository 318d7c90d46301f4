"""Recall of the vector index against exact search, with and without filters.

The queries are the vectors of songs of the release, evenly spread over the catalog by popularity.
The code is the same for Qdrant Edge and for a Qdrant server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from catalog.errors import EngineError
from catalog.model import ANY, Condition, Filter, Search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from catalog.manifest import Manifest
    from catalog.model import Point
    from catalog.store import OpenRelease

K = 10  # number of hits per query that are compared
SAMPLE = 200  # number of queries

MIN_RECALL = 0.97
"""Minimum recall@10, without a filter, that a release must have to be published."""

GOOD_RECALL = 0.99
"""Recall@10 at which no larger search width is tried, because wider searches take longer."""

WIDTHS = (100, 200, 400, 800)
"""HNSW search widths (`ef`) to try, smallest first."""

_SHARES = (0.5, 0.1, 0.01)  # shares of the songs that pass a filter by popularity
_DRAWN_PER_SONG = 4  # songs to draw per song to sample, because many songs have no vector
_MAX_SONGS_OF_ARTIST = 10_000


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@10 under one filter.

    - `name`: description of the filter.
    - `selectivity`: share of the songs with a vector that pass the filter, from 0 to 1.
    - `recall`: mean recall of all queries. The recall of a query is the share of the ten hits of an
      exact search that are also among the ten hits of the index.
    - `lowest`: lowest recall of a query.
    """

    name: str
    selectivity: float
    queries: int
    recall: float
    lowest: float


async def measure_recall(
    release: OpenRelease,
    songs: Sequence[Point],
    where: Filter = ANY,
    name: str = "no filter",
    selectivity: float = 1.0,
) -> Recall:
    """Measure the recall of the index under a filter, with the vectors of the songs as queries.

    Songs without a vector are left out, and so are queries for which exact search returns nothing.
    If no query remains, the recall is 1. `name` and `selectivity` are those of the result.
    """
    searches = [
        Search(point.vector, limit=K, where=where) for point in songs if point.vector is not None
    ]
    by_index = await release.find(searches)
    exact = await release.find([replace(search, exact=True) for search in searches])
    shares = []
    for hits, true_hits in zip(by_index, exact, strict=True):
        if not true_hits:
            continue
        # A song with the same score as the last true hit also counts as correct.
        lowest_score = true_hits[-1].score - 1e-6
        true_ids = {hit.song.song_id for hit in true_hits}
        right = sum(hit.song.song_id in true_ids or hit.score >= lowest_score for hit in hits)
        shares.append(min(1.0, right / len(true_hits)))
    return Recall(
        name=name,
        selectivity=selectivity,
        queries=len(shares),
        recall=float(np.mean(shares)) if shares else 1.0,
        lowest=min(shares, default=1.0),
    )


async def sample_songs(release: OpenRelease, size: int = SAMPLE) -> list[Point]:
    """Return at most `size` songs with a vector, evenly spread over the catalog by popularity."""
    songs = release.manifest.counts.songs
    ordinals = np.linspace(0, songs - 1, min(songs, _DRAWN_PER_SONG * size), dtype=int)
    is_drawn = Condition("ordinal", any_of=tuple(ordinals.tolist()))
    points = await release.popular(len(ordinals), Filter(conditions=(is_drawn,)))
    with_vector = [point for point in points if point.vector is not None]
    rows = np.linspace(0, len(with_vector) - 1, min(size, len(with_vector)), dtype=int)
    return [with_vector[row] for row in rows]


async def measure_recall_by_filter(release: OpenRelease, size: int = SAMPLE) -> list[Recall]:
    """Measure recall@10 without a filter, and under filters that many or few songs pass.

    The filters pass the most popular half, tenth and hundredth of the songs with a vector; all
    songs except those of one popular artist; and only the songs of that artist.
    """
    songs = await sample_songs(release, size)
    measured = [await measure_recall(release, songs)]
    vectors = release.manifest.counts.vectors
    for share in _SHARES:
        count = max(1, round(vectors * share))
        where = Filter(conditions=(Condition("ordinal", maximum=count - 1),))
        name = f"the most popular {share:.0%}"
        measured.append(await measure_recall(release, songs, where, name, count / max(1, vectors)))
    with_artist = [point.song.artist_key for point in songs if point.song.artist_keys]
    if with_artist:
        artist = frozenset(with_artist[:1])
        own = await release.popular(_MAX_SONGS_OF_ARTIST, Filter(include_artists=artist))
        passing = sum(point.vector is not None for point in own) / max(1, vectors)
        for name, where, part in (
            ("all but one artist", Filter(exclude_artists=artist), 1 - passing),
            ("one artist alone", Filter(include_artists=artist), passing),
        ):
            measured.append(await measure_recall(release, songs, where, name, part))
    return measured


def choose_search_width(
    manifest: Manifest, open_with: Callable[[Manifest], OpenRelease]
) -> Manifest:
    """Return the manifest with a search width and the recall@10 at that width.

    The width is the smallest of `WIDTHS` with a recall of at least `GOOD_RECALL`, or else the
    largest. `open_with` opens the new release with the search width of a manifest. Raises
    `EngineError` if the recall at the largest width is below `MIN_RECALL`.
    """
    for width in WIDTHS:
        candidate = replace(manifest, search_ef=width)
        release = open_with(candidate)
        try:
            measured = asyncio.run(_unfiltered(release))
        finally:
            release.close()
        candidate = replace(candidate, recall=round(measured.recall, 4))
        if measured.recall >= GOOD_RECALL or (
            width == WIDTHS[-1] and measured.recall >= MIN_RECALL
        ):
            return candidate
    raise EngineError(
        f"the index finds only {measured.recall:.1%} of the songs that exact search finds "
        f"(recall@{K} over {measured.queries} queries with the search width {width}); a release "
        f"needs at least {MIN_RECALL:.0%}"
    )


async def _unfiltered(release: OpenRelease) -> Recall:
    return await measure_recall(release, await sample_songs(release))
