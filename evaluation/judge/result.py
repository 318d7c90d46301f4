"""The result of an evaluation, and its representation as JSON lines."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.search.index_quality import Recall
    from evaluation.judge.behaviour import Behaviour
    from evaluation.judge.comparison import Comparison
    from evaluation.judge.intervals import Figure
    from evaluation.judge.new_songs import NewSongs
    from evaluation.judge.scoring import SystemScores
    from evaluation.judge.slices import Slice
    from evaluation.protocol.cases import HeldOutCases, Holdout, Split
    from evaluation.protocol.dataset import Dataset
    from evaluation.protocol.leaks import Leaks


@dataclass(frozen=True)
class Conditions:
    """The conditions of an evaluation, which are needed to repeat it.

    - `created`: time of the evaluation, in ISO 8601 and UTC.
    - `data_fingerprint` to `parameters`: as in `catalog.manifest.Origin`.
    - `playlists`: number of scored playlists, each of which is one case.
    - `available`: number of playlists in the split.
    - `depth`: number of songs that are recommended for each case.
    - `songs`: number of songs in the catalog.
    - `labels_in_catalog`: share of the labels that are in the catalog.
    - `test_uses`: number of earlier uses of the same test playlists.
    - `versions`: versions of the libraries.
    - `plan`: the options of the evaluation.
    """

    created: str
    release: str
    data_fingerprint: str
    split_fingerprint: str
    code_version: str
    parameters: dict[str, Any]
    split: Split
    holdout: Holdout
    seed: int
    playlists: int
    available: int
    depth: int
    songs: int
    training_playlists: int
    labels_in_catalog: float
    test_uses: int
    versions: dict[str, str]
    machine: dict[str, Any]
    plan: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The scores of several systems on the same cases.

    - `systems`: the scores of each system. The first is the main system, with which all others are
      compared: the release or the service in its first mode.
    - `skipped`: a sentence for each mode, baseline or group of metrics that was left out.
    - `run`: the id of the evaluation in the log of runs.
    - `new_songs`: the figures on new songs, or None if they were not measured.
    """

    conditions: Conditions
    systems: list[SystemScores]
    skipped: list[str]
    comparisons: list[Comparison]
    slices: list[Slice]
    behaviours: list[Behaviour]
    recalls: list[Recall]
    leaks: Leaks
    cases: HeldOutCases = field(repr=False)
    dataset: Dataset = field(repr=False)
    run: str = ""
    new_songs: NewSongs | None = None

    @property
    def main(self) -> SystemScores:
        """The main system, with which all others are compared."""
        return self.systems[0]

    def comparison(self, metric: str, other: str) -> Comparison | None:
        """Return the comparison of the main system with `other` by a metric, or None."""
        for comparison in self.comparisons:
            if (comparison.metric, comparison.other) == (metric, other):
                return comparison
        return None

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects that `nextsong evaluate --json` prints; `type` is their kind."""
        yield {"type": "conditions", "run": self.run, **asdict(self.conditions)}
        leaks = asdict(self.leaks)
        yield {"type": "leaks", **leaks, "same_songs": len(self.leaks.same_songs)}
        for system in self.systems:
            yield {
                "type": "system",
                "system": system.key,
                "name": system.name,
                "seconds": round(system.seconds, 3),
                "figures": _figures_to_json(system.figures),
            }
        for text in self.skipped:
            yield {"type": "skipped", "text": text}
        for comparison in self.comparisons:
            yield {"type": "comparison", **asdict(comparison)}
        for slice_ in self.slices:
            figures = {key: _figures_to_json(values) for key, values in slice_.figures.items()}
            yield {"type": "slice", **asdict(slice_), "figures": figures}
        if self.new_songs:
            yield from _list_new_songs(self.new_songs)
        for behaviour in self.behaviours:
            yield {"type": "behaviour", **asdict(behaviour)}
        for recall in self.recalls:
            yield {"type": "recall", **asdict(recall)}


def _list_new_songs(new: NewSongs) -> Iterator[dict[str, Any]]:
    """Yield the figures on new songs as one JSON object."""
    systems = [
        {"system": system.key, "name": system.name, "figures": _figures_to_json(system.figures)}
        for system in new.systems
    ]
    yield {"type": "new_songs", **asdict(new), "systems": systems}


def _figures_to_json(figures: dict[str, Figure]) -> dict[str, dict[str, float | None]]:
    return {
        metric: {
            "mean": figure.mean if math.isfinite(figure.mean) else None,
            "low": figure.low,
            "high": figure.high,
        }
        for metric, figure in figures.items()
    }
