"""How well two answers to the same queries do, from the place of each label in them.

A rank is the place of the label, from 1, or 0 where it was not found; gains are discounted,
1 / log2(1 + rank).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KS = (10, 100)

CERTAIN = 2.0
"""So many standard errors must a gain be above 0 to be more than chance."""


def comparison(ranked: NDArray[np.int64], hybrid: NDArray[np.int64]) -> dict[str, Any]:
    """Figures of both, whether `ranked` gains more than chance does, and whether it finds fewer."""
    gain = gains(ranked) - gains(hybrid)
    error = standard_error(gain)
    figures: dict[str, Any] = {
        "better": bool(error and gain.mean() > CERTAIN * error),
        "fewer": finds_fewer(ranked, hybrid),
    }
    for name, ranks in (("ranked", ranked), ("hybrid", hybrid)):
        for k in KS:
            figures[f"{name} HR@{k}"] = hit_rate(ranks, k)
    return figures


def finds_fewer(ranked: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Whether fewer are found within 10 or within 100, by more than a standard error, in pairs."""
    lost = [hits(other, k).astype(np.float64) - hits(ranked, k) for k in KS]
    return any(len(one) > 0 and one.mean() > standard_error(one) for one in lost)


def hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Which ranks, from 1, are within k; 0 is a miss."""
    return (ranks > 0) & (ranks <= k)


def hit_rate(ranks: NDArray[np.int64], k: int) -> float:
    """The share of the ranks that are within k; 0 of none."""
    return float(hits(ranks, k).sum()) / max(1, len(ranks))


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of the values; 0 where there are fewer than 2."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def gains(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Discounted gain of each rank: 1 / log2(1 + rank), and 0 for rank 0."""
    return np.where(ranks > 0, 1 / np.log2(1.0 + np.maximum(ranks, 1)), 0.0)
