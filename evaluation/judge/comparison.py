"""Whether one system is really better than others: differences, their intervals, paired tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.judge.intervals import bootstrap, share_difference
from evaluation.judge.result import Comparison
from evaluation.judge.significance import ALPHA, holm, mcnemar, permutation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.metrics.ranking import Figures

METRICS = ("hr@10", "hr@100", "mrr@10", "ndcg@10")
METRICS_OF_HALVES = ("r_precision", "ndcg@500", "clicks")


def compared(
    main: Mapping[str, Figures],
    others: Mapping[str, Mapping[str, Figures]],
    metrics: Sequence[str],
) -> list[Comparison]:
    """Compare the figures for each query of one system with those of others, by each metric.

    `others` maps the key of a system to its figures. P-values are corrected over the others.
    """
    found = []
    for metric in metrics:
        rivals = [key for key, figures in others.items() if metric in figures]
        if metric not in main or not rivals:
            continue
        pairs = [(main[metric], others[key][metric]) for key in rivals]
        is_share = metric.startswith("hr@")
        differences = (
            {key: share_difference(*pair) for key, pair in zip(rivals, pairs, strict=True)}
            if is_share
            else bootstrap(
                {key: mine - theirs for key, (mine, theirs) in zip(rivals, pairs, strict=True)}
            )
        )
        test = mcnemar if is_share else permutation
        p_values = [test(mine, theirs) for mine, theirs in pairs]
        for key, p, adjusted in zip(rivals, p_values, holm(p_values), strict=True):
            found.append(Comparison(metric, key, differences[key], p, adjusted, adjusted < ALPHA))
    return found
