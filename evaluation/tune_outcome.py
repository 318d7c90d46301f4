"""What came of a study: the figures of the start and of what was chosen, on validation and test."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from evaluation import tune_places, tune_space
from evaluation.tune_space import PHASES
from ingest.gains import comparison
from ingest.parameters import Parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evaluation.tune_places import Places
    from evaluation.tune_space import Held

FILE = "outcome.json"

NOT_WRITTEN = ("seed", *tune_places.NO_MATTER)
"""Parameters that a file of what was chosen leaves to the run that reads it."""


def outcome(places: Places, held: Held, start: Parameters, chosen: Parameters) -> dict[str, Any]:
    """The figures of `start` and `chosen`, or of the start alone where nothing beat it.

    Test playlists are asked about the better one, unless an earlier run of this study did so.
    """
    before = tune_space.arrays_of(
        held,
        tune_space.counted(held, start),
        tune_places.vectors_of(places, held, start, keep=True),
    )
    after = tune_places.best_arrays(places, held, chosen)
    first = tune_space.ranks(before, held.lasts, start, "query")
    second = tune_space.ranks(after, held.lasts, chosen, "query")
    better = tune_space.value_of(after, held, chosen, "query") > tune_space.value_of(
        before, held, start, "query"
    )
    if not better:
        after, chosen, second = before, start, first
    digest = tune_places.digest_of(places, chosen)
    known = last(places)
    if known and known.get("chosen") == digest:
        test, tested, used = known["test"], known["playlists"]["test"], False
    else:
        asked = tune_space.load(places.songs, places.train, places.test, start)
        ranks = tune_space.ranks(after, asked.lasts, chosen, "query")
        test, tested, used = _figures("tuned", ranks), len(ranks), True
    return {
        "parameters": written(chosen, held.plays),
        "validation": _figures("tuned", second) | _figures("start", first),
        "test": test,
        "test_used": used,
        "playlists": {"validation": len(second), "test": tested},
        "beyond chance": comparison(second, first)["better"],
        "chosen": digest,
        "split_fingerprint": places.split,
        "split_seed": start.seed,
        "data_fingerprint": places.data,
    }


def written(chosen: Parameters, plays: int) -> dict[str, Any]:
    """What makes such a release: all that was tuned, and all else that is not as by default.

    Epochs and window that the playlists would be trained with anyway are left to follow the plays.
    """
    tuned = {name for phase in PHASES for name in tune_space.names(phase)}
    defaults = Parameters()
    found = {
        one.name: getattr(chosen, one.name)
        for one in fields(Parameters)
        if one.name not in NOT_WRITTEN
        and (one.name in tuned or getattr(chosen, one.name) != getattr(defaults, one.name))
    }
    usual = {"epochs": defaults.epochs_for(plays), "window": defaults.window_for(plays)}
    found |= {name: None for name, value in usual.items() if found[name] == value}
    return found


def last(places: Places) -> dict[str, Any] | None:
    """The outcome that the study's folder holds, if it is of these playlists."""
    try:
        found = json.loads((places.study / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("split_fingerprint") == places.split
    return found if same and "chosen" in found else None


def _figures(name: str, ranks: NDArray[np.int64]) -> dict[str, float]:
    return {
        f"{name} HR@{k}": float(((ranks > 0) & (ranks <= k)).sum()) / max(1, len(ranks))
        for k in (10, 100)
    }
