"""What an evaluation came to; and as JSON lines, all that is needed to judge and repeat it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.index_quality import Recall
    from evaluation.judge.behaviour import Behaviour
    from evaluation.judge.intervals import Figure
    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers
    from evaluation.protocol.leaks import Leaks


@dataclass(frozen=True)
class Scored:
    """A system's figures by metric; its figures for each query; and what it recommended.

    `seconds` is how long it took to answer; coverage has no interval.
    """

    key: str
    name: str
    seconds: float
    figures: dict[str, Figure]
    per_query: dict[str, Figures] = field(repr=False)
    rankings: Numbers = field(repr=False)  # (queries, depth)


@dataclass(frozen=True)
class Comparison:
    """One metric of the system in question minus that of another, on the same queries.

    `p` is the p-value of a paired test, McNemar's for hit rates and a permutation test for others;
    `p_holm` the same, corrected for all comparisons by this metric.
    """

    metric: str
    other: str
    difference: Figure
    p: float
    p_holm: float
    significant: bool


@dataclass(frozen=True)
class Slice:
    """The queries of one kind: how many, and each system's figures on them by metric.

    `figures` maps the key of a system to its figures.
    """

    group: str
    name: str
    queries: int
    figures: dict[str, dict[str, Figure]]


@dataclass(frozen=True)
class Conditions:
    """Under what an evaluation was made: what it takes to repeat it.

    `playlists` is how many of the `available` ones of the split were asked; `test_uses` how often
    these test playlists had been used before.
    """

    created: str
    release: str
    data_fingerprint: str
    split_fingerprint: str
    code_version: str
    parameters: dict[str, Any]
    split: str
    holdout: str
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
    """The scores of several systems on the same queries; the one in question comes first.

    `skipped` says which baselines were left out and why; `run` is its id in the log of runs.
    """

    conditions: Conditions
    systems: list[Scored]
    skipped: list[str]
    comparisons: list[Comparison]
    slices: list[Slice]
    behaviours: list[Behaviour]
    recalls: list[Recall]
    leaks: Leaks
    queries: Queries = field(repr=False)
    data: Data = field(repr=False)
    run: str = ""

    @property
    def main(self) -> Scored:
        """The system in question: the release, or the service, as it answers by itself."""
        return self.systems[0]

    def comparison(self, metric: str, other: str) -> Comparison | None:
        """How the main system compares with another, if that was tested."""
        found = (one for one in self.comparisons if (one.metric, one.other) == (metric, other))
        return next(found, None)

    def lines(self) -> Iterator[dict[str, Any]]:
        """JSON objects, one a line; `type` says what each is."""
        yield {"type": "conditions", "run": self.run, **asdict(self.conditions)}
        leaks = asdict(self.leaks)
        yield {"type": "leaks", **leaks, "same_songs": len(self.leaks.same_songs)}
        for scored in self.systems:
            yield {
                "type": "system",
                "system": scored.key,
                "name": scored.name,
                "seconds": round(scored.seconds, 3),
                "figures": _json(scored.figures),
            }
        for text in self.skipped:
            yield {"type": "skipped", "text": text}
        for comparison in self.comparisons:
            yield {"type": "comparison", **asdict(comparison)}
        for one in self.slices:
            figures = {system: _json(values) for system, values in one.figures.items()}
            yield {"type": "slice", **asdict(one), "figures": figures}
        for behaviour in self.behaviours:
            yield {"type": "behaviour", **asdict(behaviour)}
        for recall in self.recalls:
            yield {"type": "recall", **asdict(recall)}


def _json(figures: dict[str, Figure]) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            "mean": figure.mean if math.isfinite(figure.mean) else None,
            "low": figure.low,
            "high": figure.high,
        }
        for name, figure in figures.items()
    }
