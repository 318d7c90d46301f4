"""Gates: figures that must be reached, and releases that must not be worse than the current."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import GateError, InputError, NoReleaseError
from evaluation.judge import compare
from evaluation.judge.significance import p_equals
from evaluation.metrics.table import LOWER_IS_BETTER, names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from catalog.progress import Reporter
    from catalog.store import OpenRelease, ReleaseStore
    from evaluation.judge.result import Evaluation
    from evaluation.protocol.cases import Holdout

SAMPLE = 4_000
"""How many validation playlists two releases are asked at most: a new one, which is not published
yet, answers in one process, and more playlists would find no difference that matters."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A metric and the figure that it must reach: at least, or at most where lower is better."""

    metric: str
    value: float


def bound(text: str, holdout: Holdout | None = None) -> Bound:
    """What `METRIC=VALUE` says, such as `hr@10=0.05` or `mrr@10=5e-2`.

    Raises `InputError`, also where an evaluation with this holdout has no such metric.
    """
    metric, equals, number = (part.strip() for part in text.partition("="))
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (metric and equals and math.isfinite(value)):
        raise InputError(f"'{text}' is not of the form METRIC=VALUE, such as hr@10=0.05")
    known = names(halves=holdout == "half")
    if metric not in known:
        raise InputError(f"there is no metric '{metric}' here; there are {', '.join(known)}")
    return Bound(metric, value)


def require(result: Evaluation, bounds: Sequence[Bound]) -> None:
    """Raise `GateError` where the system in question misses a bound, and `InputError` where it has
    no such metric.
    """
    missed = []
    for one in bounds:
        figure = result.main.figures.get(one.metric)
        if figure is None:
            raise InputError(
                f"there is no metric '{one.metric}' here; there are "
                f"{', '.join(result.main.figures)}"
            )
        lower = one.metric.split("@")[0] in LOWER_IS_BETTER
        if not (figure.mean <= one.value if lower else figure.mean >= one.value):
            word = "above" if lower else "below"
            missed.append(f"{one.metric} is {figure.mean:.4f}, {word} {one.value:g}")
    if missed:
        raise GateError("; ".join(missed))


def not_worse(
    new: OpenRelease, current: OpenRelease, work: Path, reporter: Reporter
) -> compare.Contest:
    """Raise `GateError` where a new release is significantly worse than the current one.

    Both answer the validation playlists of `work`, the folder that the new release was made in, or
    a random sample of 4,000; by hit rate at 10 and 100, MRR and NDCG, paired tests, corrected for
    their number. Raises `MismatchError` where they were made of other splits.
    """
    found = compare.of_releases(current, new, work, reporter, sample=SAMPLE)
    if found.worse:
        said = "; ".join(
            f"{row.metric} {row.before.mean:.4f} -> {row.after.mean:.4f} ({p_equals(row.p)})"
            for row in found.worse
        )
        raise GateError(
            f"the new release is significantly worse on {found.queries:,} validation playlists: "
            f"{said}; the current one stays"
        )
    return found


def before_publishing(
    home: ReleaseStore, reporter: Reporter
) -> Callable[[OpenRelease, Path], None]:
    """A gate for `ingest.pipeline.run`: `not_worse` than the current release of `home`, if any."""

    def gate(new: OpenRelease, work: Path) -> None:
        try:
            current = home.open()
        except NoReleaseError:
            reporter.say("  gate       no current release to be compared with")
            return
        try:
            found = not_worse(new, current, work, reporter)
        finally:
            current.close()
        figures = next(row for row in found.rows if row.metric == "hr@100")
        reporter.say(
            f"  gate       not significantly worse than release {current.manifest.release}: "
            f"HR@100 {figures.before.mean:.4f} -> {figures.after.mean:.4f} on {found.queries:,} "
            f"validation playlists"
        )

    return gate
