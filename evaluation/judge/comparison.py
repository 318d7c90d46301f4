"""Comparison of systems on the same queries: difference, confidence interval and paired test."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evaluation.judge.intervals import Figure, bootstrap, estimate, estimate_share_difference
from evaluation.judge.significance import ALPHA, holm_correction, mcnemar_test, permutation_test
from evaluation.metrics.table import is_lower_better

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from evaluation.metrics.ranking import Figures

METRICS = ("hr@10", "hr@100", "mrr@10", "ndcg@10")
"""Metrics that are compared if one song of each playlist is held out."""

METRICS_OF_HALVES = ("r_precision", "ndcg@500", "clicks")
"""Metrics that are compared if the last half of each playlist is held out."""

ALL_METRICS = (*METRICS, *METRICS_OF_HALVES)

MIN_SLICE_SIZE = 20  # minimum number of cases in a slice that is compared

Verdict = Literal["better", "worse", "same"]
"""Whether a metric is significantly better or worse; "same" if no difference is significant."""


def judge_gain(metric: str, gain: float, p: float) -> Verdict:
    """Return the verdict on `gain`, the new value of a metric minus the old one.

    `p` is the p-value of the difference, corrected for the number of tests.
    """
    if p >= ALPHA:
        return "same"
    return "better" if (gain > 0) != is_lower_better(metric) else "worse"


@dataclass(frozen=True)
class Comparison:
    """The main system compared with another system, by one metric on the same queries.

    The main system is the first system of an evaluation, such as the release in its default mode.

    - `other`: key of the other system.
    - `difference`: the figure of the main system minus the figure of the other system.
    - `p`: p-value of the difference, by McNemar's test for hit rates and by a permutation test for
      other metrics.
    - `p_holm`: `p`, corrected for the number of systems that the main system is compared with.
    - `significant`: whether `p_holm` is below `ALPHA`.
    """

    metric: str
    other: str
    difference: Figure
    p: float
    p_holm: float
    significant: bool

    @property
    def verdict(self) -> Verdict:
        """Whether the other system is better or worse than the main system."""
        return judge_gain(self.metric, -self.difference.mean, self.p_holm)


@dataclass(frozen=True)
class Change:
    """The change of a metric between two runs or releases, on all queries or on a slice of them.

    - `group`, `name`: name of the group of slices, such as "length of the query", and name of the
      slice, such as "2 to 4 songs"; "" and "all" for all queries.
    - `queries`: number of queries.
    - `difference`: the figure after the change minus the figure before.
    - `p`: p-value of the difference, corrected for the number of changes in the same table.
    - `verdict`: whether the metric is better or worse than before.
    """

    group: str
    name: str
    queries: int
    metric: str
    before: Figure
    after: Figure
    difference: Figure
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class ChangeReport:
    """The changes of metrics between two runs or two releases, on the cases that both scored.

    - `before`, `after`: descriptions of the runs or releases.
    - `queries`: number of cases.
    - `left_out`: number of cases that only one of the two runs scored.
    - `rows`, `slices`: changes on all cases, and on slices of the cases.
    - `split`, `holdout`: the split, and the songs that are held out from each playlist.
    - `available`: number of cases in the split, from which `queries` cases were drawn; 0 if two
      runs are compared.
    - `remarks`: sentences on limits of the comparison, for the reader.
    - `run`: id of this comparison in the log of runs.
    """

    before: str
    after: str
    queries: int
    left_out: int
    rows: list[Change]
    slices: list[Change]
    split: str = ""
    holdout: str = ""
    available: int = 0
    remarks: tuple[str, ...] = ()
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)

    @property
    def worse(self) -> list[Change]:
        """The changes on all queries that are significantly worse."""
        return [row for row in self.rows if row.verdict == "worse"]


def compare_systems(
    main: Mapping[str, Figures],
    others: Mapping[str, Mapping[str, Figures]],
    metrics: Sequence[str],
) -> list[Comparison]:
    """Compare the main system with every other system, by each metric.

    `main` maps each metric to the main system's figures, one per query. `others` maps the key of
    each other system to such a mapping. Metrics that either system lacks are omitted.
    """
    comparisons = []
    for metric in metrics:
        keys = [key for key, figures in others.items() if metric in figures]
        if metric not in main or not keys:
            continue
        pairs = {key: (main[metric], others[key][metric]) for key in keys}
        if metric.startswith("hr@"):
            differences = {key: estimate_share_difference(*pair) for key, pair in pairs.items()}
            p_values = [mcnemar_test(*pair) for pair in pairs.values()]
        else:
            differences = bootstrap({key: first - second for key, (first, second) in pairs.items()})
            p_values = [permutation_test(*pair) for pair in pairs.values()]
        for key, p, p_holm in zip(keys, p_values, holm_correction(p_values), strict=True):
            comparisons.append(Comparison(metric, key, differences[key], p, p_holm, p_holm < ALPHA))
    return comparisons


def measure_changes(
    before: Mapping[str, Figures],
    after: Mapping[str, Figures],
    slices: Mapping[str, Mapping[str, NDArray[np.bool_]]],
) -> tuple[list[Change], list[Change]]:
    """Return the changes on all queries, and the changes of hit rates on each slice.

    `before` and `after` map each metric to the figures per query. `slices` maps the group and the
    name of each slice to a mask of its queries. Slices with fewer than `MIN_SLICE_SIZE` queries are
    omitted.
    """
    metrics = [metric for metric in ALL_METRICS if metric in before]
    everything = np.ones(len(next(iter(after.values()))), dtype=bool)
    overall = _measure_slice(before, after, metrics, ("", "all", everything))
    hit_rates = [metric for metric in metrics if metric.startswith("hr@")]
    by_slice = [
        change
        for group, members_by_name in slices.items()
        for name, members in members_by_name.items()
        if members.sum() >= MIN_SLICE_SIZE
        for change in _measure_slice(before, after, hit_rates, (group, name, members))
    ]
    return _correct(overall), _correct(by_slice)


def _measure_slice(
    before: Mapping[str, Figures],
    after: Mapping[str, Figures],
    metrics: Sequence[str],
    slice_: tuple[str, str, NDArray[np.bool_]],
) -> list[Change]:
    """Return the changes on a slice, which is given as a group, a name and a mask of the cases.

    The p-values are not corrected, and every verdict is "same", until `_correct` sets both.
    """
    group, name, members = slice_
    old = {metric: before[metric][members] for metric in metrics}
    new = {metric: after[metric][members] for metric in metrics if metric in after}
    old_means, new_means = estimate(old), estimate(new)
    return [
        Change(
            group,
            name,
            int(members.sum()),
            comparison.metric,
            old_means[comparison.metric],
            new_means[comparison.metric],
            comparison.difference,
            comparison.p,
            "same",
        )
        for comparison in compare_systems(new, {"before": old}, metrics)
    ]


def _correct(changes: Sequence[Change]) -> list[Change]:
    """Return the changes with verdicts, and with p-values corrected for the number of changes."""
    corrected = holm_correction([change.p for change in changes])
    return [
        replace(change, p=p, verdict=judge_gain(change.metric, change.difference.mean, p))
        for change, p in zip(changes, corrected, strict=True)
    ]
