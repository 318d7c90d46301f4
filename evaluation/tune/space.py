"""The search space of each phase of a tuning study.

A study has three phases, because a trial then recomputes as little as possible: `count` tunes
co-occurrence alone, `train` tunes Word2Vec alone, and `query` tunes their combination in hybrid
search.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

    from ingest.parameters import Parameters

    Space = dict[str, BaseDistribution]

PHASES = ("count", "train", "query")

SHARES = "content_shares"
"""The parameter that contains a share for each content field (see `catalog.content`).

Each share is tuned separately, under the name `content_shares.FIELD`.
"""

EPOCH_SHARES = (0.25, 0.5, 1.0, 2.0)  # numbers of epochs to try, relative to the default

# A pair of floats is a range. Any other tuple lists the values to choose from.
_VALUES: Mapping[str, Mapping[str, Any]] = {
    "count": {
        "cooccurrence_window": (5, 20, 60, 200),
        "distance_power": (0.0, 1.5),
        "backward": (0.0, 1.0),
        "seed_exponent": (0.0, 1.0),
        "song_exponent": (0.0, 0.6),
        "recency": (0.0, 2.0),
        SHARES: (0.0, 2.0),
    },
    "train": {
        "skip_gram": (True, False),
        "dimensions": (32, 64, 128),
        "window": (5, 10, 20, 60, 200),
        "epochs": (),  # each of `EPOCH_SHARES` times the default
        "min_count": (1, 2, 3, 5, 8),
        "negative": (3, 5, 10, 20),
        "ns_exponent": (-1.0, 1.0),
        "sample": (0.0, 1e-5, 1e-4, 1e-3),
        "dense_recency": (0.0, 2.0),
    },
    "query": {
        "dense_weight": (0.005, 1.0),
        "dense_recency": (0.0, 2.0),
        "recency": (0.0, 2.0),
        "song_exponent": (0.0, 0.6),
        SHARES: (0.0, 2.0),
    },
}
_NEEDS_ORDER = {"distance_power", "backward", "recency", "dense_recency"}  # need play order
_LOGARITHMIC = {"dense_weight"}  # searched on a logarithmic scale

TUNED = frozenset(name for values in _VALUES.values() for name in values)
"""Parameters that at least one phase tunes."""


def make_search_space(phase: str, start: Parameters, plays: int) -> Space:
    """Return the distribution of each parameter that a phase tunes.

    Each distribution contains the value of `start`. `plays` is the total number of songs in the
    training playlists, on which some defaults depend. If playlists are not in play order,
    parameters that depend on the order are omitted.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    space: Space = {}
    for name, values in _list_values(phase, start):
        own = _value_of(start, name, plays)
        if len(values) == 2 and isinstance(values[0], float):
            low, high = min(values[0], own), max(values[1], own)
            space[name] = FloatDistribution(low, high, log=name in _LOGARITHMIC)
            continue
        choices = _list_epochs_to_try(start, plays) if name == "epochs" else values
        space[name] = CategoricalDistribution(choices if own in choices else (*choices, own))
    return space


def _list_values(phase: str, start: Parameters) -> Iterator[tuple[str, Any]]:
    """Yield each parameter that a phase tunes, and the values to try."""
    for name, values in _VALUES[phase].items():
        if name == SHARES:
            yield from ((f"{SHARES}.{field}", values) for field in start.content_shares)
        elif start.order != "none" or name not in _NEEDS_ORDER:
            yield name, values


def set_values(parameters: Parameters, values: Mapping[str, Any]) -> Parameters:
    """Return a copy of the parameters with new values, by their names in a search space."""
    prefix = f"{SHARES}."
    shares = {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }
    others = {name: value for name, value in values.items() if not name.startswith(prefix)}
    return replace(parameters, **others, content_shares={**parameters.content_shares, **shares})


def get_start_values(start: Parameters, names: Iterable[str], plays: int) -> dict[str, Any]:
    """Return the values of these parameters in `start`.

    `plays` is the total number of songs in the training playlists, on which some defaults depend.
    """
    return {name: _value_of(start, name, plays) for name in names}


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """Return the values that a trial suggests for the parameters of a search space."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    values: dict[str, Any] = {}
    for name, distribution in space.items():
        if isinstance(distribution, FloatDistribution):
            low, high, log = distribution.low, distribution.high, distribution.log
            values[name] = trial.suggest_float(name, low, high, log=log)
        elif isinstance(distribution, CategoricalDistribution):
            values[name] = trial.suggest_categorical(name, distribution.choices)
    return values


def _list_epochs_to_try(start: Parameters, plays: int) -> tuple[int, ...]:
    default = replace(start, epochs=None).epochs_for(plays)
    return tuple(sorted({max(1, round(share * default)) for share in EPOCH_SHARES}))


def _value_of(start: Parameters, name: str, plays: int) -> Any:
    if name == "epochs":
        return start.epochs_for(plays)
    if name == "window":
        return start.window_for(plays)
    if name.startswith(f"{SHARES}."):
        return float(start.content_shares[name.removeprefix(f"{SHARES}.")])
    return getattr(start, name)
