"""Scores systems on held-out playlists."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.metrics import Ranks, hits, rank_of, reciprocal_ranks
from evaluation.protocol import load_queries
from evaluation.systems import LastSong, Popularity, Release
from service.recommend import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from catalog.release import OpenRelease
    from catalog.reporting import Reporter
    from evaluation.protocol import Query, Split
    from evaluation.systems import System

DEPTH = 100


@dataclass(frozen=True)
class Score:
    """A system's figures: means over all queries, from 0 to 1."""

    system: str
    hit_rate_at_10: float
    hit_rate_at_100: float
    mrr_at_10: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of several systems on the same queries.

    `labels_in_catalog` is the share of queries whose label the release could have recommended.
    """

    release: str
    split: Split
    holdout: str
    playlists: int
    labels_in_catalog: float
    scores: list[Score]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def evaluate(release: OpenRelease, work: Path, split: Split, reporter: Reporter) -> Evaluation:
    """Score the release, popularity and the tutorials' way on a whole split.

    `work` is the folder that the release was made in. Raises `MismatchError`.
    """
    manifest = release.manifest
    queries = load_queries(work, split, manifest)
    longest = max(len(query.seeds) for query in queries)
    with reporter.task("baselines") as task:
        baselines: list[System] = [
            Popularity(release, longest, DEPTH),
            LastSong(work, int(manifest.origin.parameters["seed"])),
        ]
        task.result("popularity counted, the tutorial's model trained")
    scores = []
    for system in [*baselines, *(Release(release, mode) for mode in Mode)]:
        with reporter.task("score") as task:
            start = time.perf_counter()
            ranks = ranks_of(system, queries, task.advance)
            scores.append(score(system.name, ranks, time.perf_counter() - start))
            task.result(f"{system.name}: {len(queries):,} {split} playlists")
    return Evaluation(
        release=manifest.release,
        split=split,
        holdout="last",
        playlists=len(queries),
        labels_in_catalog=_labels_in_catalog(release, queries),
        scores=scores,
    )


def ranks_of(
    system: System,
    queries: Sequence[Query],
    on_query: Callable[[float, float], None] | None = None,
) -> Ranks:
    """The rank of each query's label among the system's first `DEPTH` songs, shape (queries,)."""
    ranks = np.zeros(len(queries), dtype=np.int64)
    for place, recommended in enumerate(system.recommend(queries, DEPTH)):
        label = queries[place].label.song_id
        assert label is not None
        ranks[place] = rank_of(label, recommended)
        if on_query and place % 100 == 0:
            on_query(place, len(queries))
    return ranks


def score(name: str, ranks: Ranks, seconds: float) -> Score:
    """The figures of a system that ranked the labels so, in this time."""
    return Score(
        system=name,
        hit_rate_at_10=float(hits(ranks, 10).mean()),
        hit_rate_at_100=float(hits(ranks, 100).mean()),
        mrr_at_10=float(reciprocal_ranks(ranks, 10).mean()),
        seconds=round(seconds, 3),
    )


def _labels_in_catalog(release: OpenRelease, queries: Sequence[Query]) -> float:
    labels = [query.label.song_id for query in queries if query.label.song_id]
    found = asyncio.run(release.points(labels))
    return sum(label in found for label in labels) / len(queries)
