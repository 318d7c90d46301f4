"""Tuning of baselines on validation cases, one parameter after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from catalog.errors import MismatchError
from evaluation.metrics.relevance import find_label_ranks, match_labels
from evaluation.protocol.cases import load_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers

Settings = TypeVar("Settings")

TUNING_CASES = 500
"""Maximum number of random validation playlists on which settings are compared."""

DEPTH = 100  # number of songs to recommend for each case


def tune(
    start: Settings,
    grid: Mapping[str, Sequence[float]],
    recommend: Callable[[Settings, HeldOutCases, int], Iterator[SongNumbers]],
    dataset: Dataset,
) -> Settings:
    """Return the settings with the highest gain on validation cases.

    The gain is the mean over the cases of 1 / log2(1 + rank of the label), or 0 for ranks beyond
    `DEPTH`. The parameters are tuned one after another, in the order of `grid`. Parameters that are
    already tuned have their best values, and all others have their values in `start`. If several
    values have the same gain, the first value is chosen. `recommend` yields the rankings of some
    settings for cases and a limit. Returns `start` if there are no validation playlists.
    """
    try:
        cases = load_cases(dataset.work, "validation", "last", dataset.seed)
    except MismatchError:
        return start
    cases = cases.sample(TUNING_CASES, dataset.seed)
    best, gains = start, dict[Settings, float]()
    for name, values in grid.items():
        settings = [replace(best, **{name: value}) for value in values]  # type: ignore[type-var]
        for tried in settings:
            if tried not in gains:
                gains[tried] = _measure_gain(recommend(tried, cases, DEPTH), cases)
        best = max(settings, key=gains.__getitem__)
    return best


def _measure_gain(rankings: Iterator[SongNumbers], cases: HeldOutCases) -> float:
    ranks = find_label_ranks(match_labels(np.concatenate(list(rankings)), cases.labels))
    return float(np.where(ranks > 0, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0).mean())
