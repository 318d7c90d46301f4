"""Scoring of a system on held-out cases."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from evaluation.judge.intervals import Figure, estimate
from evaluation.metrics.continuation import DEPTH as DEPTH_OF_HALVES
from evaluation.metrics.table import measure_overall, measure_per_query

if TYPE_CHECKING:
    from catalog.console.progress import Reporter
    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.cases import HeldOutCases, Holdout
    from evaluation.protocol.dataset import Dataset, SongNumbers
    from evaluation.systems.release import System

DEPTH = 100  # number of songs that a system recommends for each case


def get_depth(holdout: Holdout) -> int:
    """Return the number of songs that a system recommends for each case."""
    return DEPTH_OF_HALVES if holdout == "half" else DEPTH


@dataclass(frozen=True)
class SystemScores:
    """The figures of a system, and the rankings from which the figures were computed.

    - `key`: the name of the system in options and JSON.
    - `name`: the name of the system in reports.
    - `seconds`: duration of the recommendations for all cases.
    - `figures`: means over the cases, by metric, and the coverage, which has no confidence
      interval.
    - `per_query`: figures of each case by metric, shape (cases,). There are none for the coverage.
    """

    key: str
    name: str
    seconds: float
    figures: dict[str, Figure]
    per_query: dict[str, Figures] = field(repr=False)
    rankings: SongNumbers = field(repr=False)  # shape (cases, depth)


def score_system(
    system: System, cases: HeldOutCases, dataset: Dataset, depth: int, reporter: Reporter
) -> SystemScores:
    """Score a system by the metrics of its rankings of `depth` songs for each case."""
    with reporter.task("score") as task:
        start = time.perf_counter()
        batches, done = [], 0
        for batch in system.recommend(cases, depth):
            batches.append(batch)
            done += len(batch)
            task.advance(done, len(cases))
        seconds = time.perf_counter() - start
        rankings = np.concatenate(batches)
        per_query = measure_per_query(rankings, cases, dataset)
        overall = measure_overall(rankings, dataset)
        figures = estimate(per_query) | {name: Figure(value) for name, value in overall.items()}
        rate = len(cases) / max(seconds, 1e-9)
        task.result(f"{system.name}: {len(cases):,} playlists, {rate:,.0f} a second")
    return SystemScores(system.key, system.name, seconds, figures, per_query, rankings)
