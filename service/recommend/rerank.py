"""Use the release's LightGBM model to re-rank the songs of a co-occurrence search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from catalog.content import ARTIST, list_content_keys
from catalog.model import Hit
from catalog.reranker import RECENCIES, Candidates, Keys, build_features
from service.recommend.weights import build_sparse_query, list_entries, list_keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from catalog.reranker import Reranker
    from catalog.store import OpenRelease
    from service.recommend.seeds import ResolvedSeed

Scores = list[dict["UUID", float]]
"""The co-occurrence scores of candidates by song id, for each recency curve in `RECENCIES`."""


async def fetch_scores(
    release: OpenRelease, queries: Sequence[tuple[Sequence[ResolvedSeed], Sequence[Hit]]]
) -> list[Scores]:
    """Return the co-occurrence scores of the hits of each query. All queries share one request.

    Each item of `queries` has the seeds and the hits of a query.
    """
    pairs = [
        (build_sparse_query(list_entries(seeds, recency, {})), [hit.song for hit in hits])
        for seeds, hits in queries
        for recency in RECENCIES
    ]
    scores = iter(await release.cooccurrence_scores(pairs))
    return [[next(scores) for _ in RECENCIES] for _ in queries]


def rerank(
    reranker: Reranker, seeds: Sequence[ResolvedSeed], hits: Sequence[Hit], scores: Scores
) -> list[Hit]:
    """Return the hits with the scores that the model predicts, the highest score first."""
    if not hits:
        return []
    played = [seed for seed in seeds if seed.weight > 0]
    candidates = Candidates(
        scores=np.array(
            [
                [hit.score for hit in hits],
                *([by_id.get(hit.song.song_id, 0.0) for hit in hits] for by_id in scores),
            ]
        ),
        plays=np.array([hit.song.playlists for hit in hits]),
        seed_plays=np.array(
            [
                seed.point.song.playlists
                for seed in played
                if seed.point and seed.point.song.playlists
            ]
        ),
        keys=[_mark_keys(played, hits, field) for field in (ARTIST, *reranker.fields)],
    )
    predicted = reranker.score(build_features(candidates))
    order = np.argsort(-predicted, kind="stable").tolist()
    return [Hit(hits[index].song, float(predicted[index]), hits[index].vector) for index in order]


def _mark_keys(seeds: Sequence[ResolvedSeed], hits: Sequence[Hit], field: str) -> Keys:
    """Return which content keys of `field` the hits and the seeds have."""
    of_seeds = [list_keys(seed, field) for seed in seeds]
    of_hits = [list_content_keys(hit.song, field) for hit in hits]
    columns: dict[str, int] = {}
    for song_keys in (*of_seeds, *of_hits):
        for key in song_keys:
            columns.setdefault(key, len(columns))
    marks = np.zeros((len(of_seeds) + len(of_hits), len(columns)), bool)
    for row, song_keys in enumerate((*of_seeds, *of_hits)):
        for key in song_keys:
            marks[row, columns[key]] = True
    return Keys(candidates=marks[len(of_seeds) :], seeds=marks[: len(of_seeds)])
