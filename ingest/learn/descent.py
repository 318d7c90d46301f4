"""Coordinate descent over small grids, with a rule in favour of simpler values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.learn.rank_metrics import clustered_error, discounted_gains, hit_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Ranks = NDArray[np.int64]

TOLERANCE = 1.0
"""A value is as good as the best one if it loses at most this many standard errors."""

PASSES = 2
"""Maximum number of times that each parameter is set."""


@dataclass(frozen=True)
class Trial:
    """The figures of one value of one parameter, while the others have the values chosen so far.

    - `parameter`: its name in texts, such as "share of artist".
    - `gain`: mean discounted gain within 100.
    - `is_selected`: whether the value was kept.
    """

    parameter: str
    value: float
    gain: float
    hit_rate_10: float
    hit_rate_100: float
    is_selected: bool


@dataclass(frozen=True)
class Descent:
    """The result of `descend`.

    - `values`: the chosen value of each parameter.
    - `trials`: what was tried last for each parameter with several values.
    - `first`, `last`: the ranks with all parameters at their simplest, and at their chosen values.
    """

    values: dict[str, float]
    trials: list[Trial]
    first: Ranks
    last: Ranks


def descend(
    grids: Mapping[str, Sequence[float]],
    rank: Callable[[Mapping[str, float]], Ranks],
    clusters: NDArray[np.int64],
) -> Descent:
    """Set one parameter after the other to the simplest of the best values in its grid.

    All start at the first value of their grid, the simplest. `rank(values)` returns the ranks of
    the labels of all cases, shape (cases,), 0 for a miss. Cases of the same cluster depend on each
    other.
    """
    known: dict[tuple[float, ...], Ranks] = {}

    def rank_once(values: Mapping[str, float]) -> Ranks:
        key = tuple(values[name] for name in grids)
        if key not in known:
            known[key] = rank(values)
        return known[key]

    simplest = {name: grid[0] for name, grid in grids.items()}
    values = dict(simplest)
    trials: dict[str, list[Trial]] = {}
    for _ in range(PASSES):
        before = dict(values)
        for name, grid in grids.items():
            ranks = {value: rank_once(values | {name: value}) for value in grid}
            values[name] = choose_simplest(ranks, clusters)
            trials[name] = [_make_trial(name, value, ranks[value], values[name]) for value in grid]
        if values == before:
            break
    several = [own for own in trials.values() if len(own) > 1]
    return Descent(
        values=values,
        trials=[trial for own in several for trial in own],
        first=rank_once(simplest),
        last=rank_once(values),
    )


def _make_trial(name: str, value: float, ranks: Ranks, selected: float) -> Trial:
    gain = float(discounted_gains(ranks).mean())
    rates = hit_rate(ranks, 10), hit_rate(ranks, 100)
    return Trial(name, value, gain, *rates, is_selected=value == selected)


def choose_simplest(ranks: Mapping[float, Ranks], clusters: NDArray[np.int64]) -> float:
    """Return the first value whose gain is as good as the best one's.

    The loss is paired by case, and compared with its standard error.
    """
    gains = {value: discounted_gains(own) for value, own in ranks.items()}
    best = max(gains, key=lambda value: float(gains[value].mean()))
    for value, own in gains.items():
        loss = gains[best] - own
        if loss.mean() <= TOLERANCE * clustered_error(loss, clusters):
            return value
    return best
