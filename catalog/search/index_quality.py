"""Recall of the vector index against exact search, with and without filters.

The queries are the vectors of songs of the release, evenly spread over the catalog by popularity.
Both stores are measured by the same code.
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

K = 10
SAMPLE = 200

LEAST_RECALL = 0.97
"""Lowest recall@10 without a filter at which a release is published."""

_SHARES = (0.5, 0.1, 0.01)
GOOD_RECALL = 0.99
"""The narrowest search width that reaches this recall@10 is used: a wider one takes longer."""

WIDTHS = (100, 200, 400, 800)
"""HNSW search widths (ef) to try, narrowest first."""
_SPARE = 4  # songs drawn for each one needed, because rare songs have no vector
_MOST_OF_AN_ARTIST = 10_000


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@10 under one filter.

    - `selectivity`: share of the songs with a vector that pass the filter.
    - `recall`: mean share of the ten hits of an exact search that are among the ten hits of the
      index.
    - `lowest`: lowest such share of any query.
    """

    name: str
    selectivity: float
    queries: int
    recall: float
    lowest: float


async def recall_of(
    release: OpenRelease,
    songs: Sequence[Point],
    where: Filter = ANY,
    name: str = "no filter",
    selectivity: float = 1.0,
) -> Recall:
    """Measure the recall of the index with the vectors of these songs as queries.

    Songs without a vector are left out, and so are queries for which exact search returns nothing.
    Without any query the recall is 1.
    """
    searches = [
        Search(point.vector, limit=K, where=where) for point in songs if point.vector is not None
    ]
    by_index = await release.find(searches)
    exact = await release.find([replace(search, exact=True) for search in searches])
    shares = []
    for found, true in zip(by_index, exact, strict=True):
        if not true:
            continue
        # A song that ties with the last of the ten counts as right.
        edge = true[-1].score - 1e-6
        wanted = {hit.song.song_id for hit in true}
        right = sum(hit.song.song_id in wanted or hit.score >= edge for hit in found)
        shares.append(min(1.0, right / len(true)))
    return Recall(
        name=name,
        selectivity=selectivity,
        queries=len(shares),
        recall=float(np.mean(shares)) if shares else 1.0,
        lowest=min(shares, default=1.0),
    )


async def sample_of(release: OpenRelease, size: int = SAMPLE) -> list[Point]:
    """Return at most `size` songs with a vector, evenly spread over the catalog by popularity."""
    songs = release.manifest.counts.songs
    places = np.linspace(0, songs - 1, min(songs, _SPARE * size), dtype=int)
    drawn = Condition("ordinal", any_of=tuple(places.tolist()))
    points = await release.popular(len(places), Filter(conditions=(drawn,)))
    known = [point for point in points if point.vector is not None]
    spread = np.linspace(0, len(known) - 1, min(size, len(known)), dtype=int)
    return [known[place] for place in spread]


async def measure_recall_by_filter(release: OpenRelease, size: int = SAMPLE) -> list[Recall]:
    """Measure recall@10 without a filter, and under filters of high and low selectivity.

    The filters pass the most popular half, tenth and hundredth of the songs with a vector; all
    songs but those of one popular artist; and the songs of that artist alone.
    """
    songs = await sample_of(release, size)
    measured = [await recall_of(release, songs)]
    vectors = release.manifest.counts.vectors
    for share in _SHARES:
        first = max(1, round(vectors * share))
        best_known = Condition("ordinal", maximum=first - 1)
        where = Filter(conditions=(best_known,))
        name = f"the best-known {share:.0%}"
        measured.append(await recall_of(release, songs, where, name, first / max(1, vectors)))
    if songs:
        artist = frozenset([songs[0].song.artist_key])
        own = await release.popular(_MOST_OF_AN_ARTIST, Filter(include_artists=artist))
        passing = sum(point.vector is not None for point in own) / max(1, vectors)
        for name, where, part in (
            ("all but one artist", Filter(exclude_artists=artist), 1 - passing),
            ("one artist alone", Filter(include_artists=artist), passing),
        ):
            measured.append(await recall_of(release, songs, where, name, part))
    return measured


def with_search_width(manifest: Manifest, open_with: Callable[[Manifest], OpenRelease]) -> Manifest:
    """Return the manifest with the narrowest good search width, and the recall at that width.

    A width is good if its recall@10 is at least `GOOD_RECALL`; without a good one the widest is
    used. `open_with` opens the new release with the search width of a manifest. Raises
    `EngineError` if even the widest search has a recall below `LEAST_RECALL`.
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
            width == WIDTHS[-1] and measured.recall >= LEAST_RECALL
        ):
            return candidate
    raise EngineError(
        f"the index finds only {measured.recall:.1%} of what exact search finds (recall@{K} over "
        f"{measured.queries} queries, searched as widely as {width}), and {LEAST_RECALL:.0%} is "
        f"the least to publish"
    )


async def _unfiltered(release: OpenRelease) -> Recall:
    return await recall_of(release, await sample_of(release))
