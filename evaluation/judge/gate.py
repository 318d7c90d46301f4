"""Quality gates, which check bounds for metrics, or compare a new release with the current one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import GateError, InputError, NoReleaseError
from evaluation.judge.compare import CaseSelection, compare_releases
from evaluation.judge.significance import format_p_equals
from evaluation.metrics.table import is_lower_better, names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.store import OpenRelease, ReleaseStore
    from evaluation.judge.comparison import ChangeReport
    from evaluation.judge.result import Evaluation
    from evaluation.protocol.cases import Holdout

SAMPLE = 4_000
"""Maximum number of validation cases on which a new release is compared with the current one.

Only one process can search a release that is not published yet, so more cases would take long. They
would only detect differences that are too small to matter."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The value that a metric must reach: a minimum, or a maximum if lower is better."""

    metric: str
    value: float


def parse_bound(text: str, holdout: Holdout | None = None) -> Bound:
    """Parse `METRIC=VALUE`, such as `hr@10=0.05` or `mrr@10=5e-2`.

    Raises `InputError` if the text is malformed, or if an evaluation with this holdout does not
    report the metric.
    """
    metric, equals, number = (part.strip() for part in text.partition("="))
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (metric and equals and math.isfinite(value)):
        raise InputError(f"'{text}' is not of the form METRIC=VALUE, such as hr@10=0.05")
    _require_metric(metric, names(halves=holdout == "half"))
    return Bound(metric, value)


def require_bounds(result: Evaluation, bounds: Sequence[Bound]) -> None:
    """Raise `GateError` if the first system of the evaluation misses a bound.

    Raises `InputError` if the evaluation lacks the metric of a bound.
    """
    missed = []
    for bound in bounds:
        _require_metric(bound.metric, list(result.main.figures))
        mean = result.main.figures[bound.metric].mean
        lower = is_lower_better(bound.metric)
        if not (mean <= bound.value if lower else mean >= bound.value):
            direction = "above" if lower else "below"
            missed.append(f"{bound.metric} is {mean:.4f}, {direction} {bound.value:g}")
    if missed:
        raise GateError("; ".join(missed))


def _require_metric(metric: str, available: Sequence[str]) -> None:
    if metric not in available:
        raise InputError(
            f"this evaluation has no metric '{metric}': choose from {', '.join(available)}"
        )


def require_not_worse(
    new: OpenRelease, current: OpenRelease, work: Path, reporter: Reporter
) -> ChangeReport:
    """Raise `GateError` if the new release is significantly worse than the current one.

    Both releases are scored by hit rate, MRR and NDCG, on at most `SAMPLE` random validation cases
    of `work`, the work folder of the new release. Raises `MismatchError` if the releases cannot be
    compared (see `compare_releases`).
    """
    report = compare_releases(current, new, work, reporter, CaseSelection(sample=SAMPLE))
    if report.worse:
        changes = "; ".join(
            f"{row.metric} {row.before.mean:.4f} -> {row.after.mean:.4f} ({format_p_equals(row.p)})"
            for row in report.worse
        )
        raise GateError(
            f"the new release is significantly worse on {report.queries:,} validation playlists: "
            f"{changes}; the current release stays"
        )
    return report


def make_publication_gate(
    store: ReleaseStore, reporter: Reporter
) -> Callable[[OpenRelease, Path], None]:
    """Return a function that checks a new release before `ingest.pipeline.run` publishes it.

    The function calls `require_not_worse` with the new release, the current release of `store` and
    the work folder. If there is no current release, the new release passes.
    """

    def gate(new: OpenRelease, work: Path) -> None:
        try:
            current = store.open()
        except NoReleaseError:
            reporter.say("  gate       no current release to compare with")
            return
        try:
            report = require_not_worse(new, current, work, reporter)
        finally:
            current.close()
        hit_rate = next(row for row in report.rows if row.metric == "hr@100")
        reporter.say(
            f"  gate       not significantly worse than release {current.manifest.release}: "
            f"HR@100 {hit_rate.before.mean:.4f} -> {hit_rate.after.mean:.4f} on "
            f"{report.queries:,} validation playlists"
        )

    return gate
