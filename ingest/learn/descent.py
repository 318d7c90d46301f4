"""Coordinate descent over small grids of values, with preference for simpler values."""

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
"""Maximum loss, in standard errors, at which a value counts as being as good as the best value."""

PASSES = 2
"""Maximum number of passes over all parameters."""


@dataclass(frozen=True)
class Trial:
    """Metrics of one value of a parameter. The other parameters have the values chosen so far.

    - `parameter`: the name of the parameter for display, such as "share of artist".
    - `gain`: mean discounted gain (see `ingest.learn.rank_metrics`) within the first 100 songs.
    - `hit_rate_10`, `hit_rate_100`: share of the cases whose label is among the first 10 or 100.
    - `is_selected`: whether this value was chosen.
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
    - `trials`: the trials of the last pass, for each parameter with more than one candidate value.
    - `first`, `last`: the ranks of the labels with the simplest value of each parameter, and with
      the chosen values.
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
    """Choose a value from the grid of each parameter, by coordinate descent.

    Each parameter starts at the first value of its grid, which is the simplest. In turn, each
    parameter is then set to its simplest value that is as good as the best value (see
    `choose_simplest`). `rank(values)` returns the ranks of the labels, shape (cases,), with 0 for a
    miss. Cases with the same number in `clusters` are not independent.
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
    """Return the first value whose mean gain is as good as the best mean gain.

    `ranks` maps each value to the ranks of the labels, simplest value first. The loss compared with
    the best value is computed case by case, and may be at most `TOLERANCE` standard errors.
    """
    gains = {value: discounted_gains(own) for value, own in ranks.items()}
    best = max(gains, key=lambda value: float(gains[value].mean()))
    for value, own in gains.items():
        loss = gains[best] - own
        if loss.mean() <= TOLERANCE * clustered_error(loss, clusters):
            return value
    return best
