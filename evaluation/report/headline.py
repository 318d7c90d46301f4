"""The table of the main metrics of an evaluation, for the terminal and the HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.judge.comparison import METRICS, METRICS_OF_HALVES
from evaluation.judge.significance import format_p_equals
from evaluation.metrics.table import is_lower_better
from evaluation.protocol.cases import HOLDOUTS
from evaluation.runs.history import warn_of_test_uses

if TYPE_CHECKING:
    from evaluation.judge.comparison import Verdict
    from evaluation.judge.intervals import Figure
    from evaluation.judge.new_songs import NewSongs
    from evaluation.judge.result import Evaluation
    from evaluation.judge.scoring import SystemScores

HEADINGS = {
    "hr@10": "HR@10",
    "hr@100": "HR@100",
    "mrr@10": "MRR@10",
    "ndcg@10": "NDCG@10",
    "r_precision": "R-prec",
    "ndcg@500": "NDCG@500",
    "clicks": "clicks",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of a table, as text.

    - `margin`: distance to the farther end of the confidence interval, or "" without an interval.
    - `verdict`, `p`: whether the figure is significantly better or worse than that of the main
      system, and the p-value, or "" if there is no test.
    - `is_best`: whether no system has a better figure.
    """

    mean: str
    margin: str
    verdict: Verdict = "same"
    p: str = ""
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one system; a cell is None if the system lacks the metric."""

    name: str
    is_main: bool
    cells: list[Cell | None]


@dataclass(frozen=True, slots=True)
class HeadlineTable:
    """The main metrics of all systems of an evaluation: one row per system, one cell per metric."""

    title: str
    metrics: tuple[str, ...]
    rows: list[Row]


def make_headline_table(result: Evaluation) -> HeadlineTable:
    """Return the table of the main metrics of an evaluation."""
    conditions = result.conditions
    metrics = (*METRICS_OF_HALVES, "hr@10") if conditions.holdout == "half" else METRICS
    return HeadlineTable(
        title=f"{conditions.playlists:,} {conditions.split} playlists, "
        f"{HOLDOUTS[conditions.holdout]}",
        metrics=metrics,
        rows=[
            Row(
                system.name,
                system is result.main,
                [_make_system_cell(result, system, metric) for metric in metrics],
            )
            for system in result.systems
        ],
    )


def _make_system_cell(result: Evaluation, system: SystemScores, metric: str) -> Cell | None:
    figure = system.figures.get(metric)
    if figure is None:
        return None
    comparison = result.comparison(metric, system.key)
    return make_cell(
        figure,
        verdict=comparison.verdict if comparison else "same",
        p=format_p_equals(comparison.p_holm) if comparison else "",
        is_best=figure.mean == _find_best_mean(result, metric),
    )


def _find_best_mean(result: Evaluation, metric: str) -> float:
    means = [system.figures[metric].mean for system in result.systems if metric in system.figures]
    return min(means) if is_lower_better(metric) else max(means)


def make_cell(
    figure: Figure, *, verdict: Verdict = "same", p: str = "", is_best: bool = False
) -> Cell:
    """Return a figure as a cell of a table."""
    margin = "" if figure.margin is None else format_number(figure.margin, 3)
    return Cell(format_number(figure.mean), margin, verdict, p, is_best)


def format_number(value: float, digits: int = 4) -> str:
    """Return a figure as text without a zero before the decimal point, such as .0123."""
    if abs(value) >= 1:
        return f"{value:.{max(1, digits - 2)}f}"
    return f"{value:.{digits}f}".replace("0.", ".", 1)


NEW_SONG_METRICS = {"hr@10": "HR@10", "hr@100": "HR@100", "coverage@100": "coverage"}
"""Headings of the metrics on new songs, by metric."""


def describe_new_songs(new: NewSongs) -> str:
    """Return a text on the cases whose label is a new song, and on the coverage."""
    sampled = f" of {new.available:,}" if new.queries < new.available else ""
    return (
        f"{new.queries:,}{sampled} plays of {new.songs:,} songs in {new.playlists:,} held-out "
        f"playlists; all plays of these songs ({new.share:.0%} of the songs) were taken out of "
        f"training, and the catalog lists them; coverage: the share of them that is recommended "
        f"within 100 for any query"
    )


def make_notes(result: Evaluation) -> list[str]:
    """Return notes below the table: on the catalog, leaks, skipped systems and the release."""
    conditions, leaks = result.conditions, result.leaks
    coverage = f"{conditions.labels_in_catalog:.1%} of the held-out songs are in the catalog"
    lines = [f"{coverage}; the others count as misses"]
    if conditions.playlists < conditions.available:
        lines.append(f"a random sample of {conditions.available:,} playlists")
    if leaks.same_id:
        lines.append(
            f"LEAK: {leaks.same_id:,} held-out playlists have the id of a training playlist"
        )
    if leaks.same_songs:
        lines.append(
            f"{len(leaks.same_songs):,} of {leaks.playlists:,} held-out playlists are in training "
            f"too, song for song, under another id"
        )
    if leaks.across:
        lines.append(f"{leaks.across:,} test playlists are in validation too, song for song")
    if conditions.split == "test":
        lines += warn_of_test_uses(conditions.test_uses)
    lines += result.skipped
    target = conditions.plan.get("target")
    lines.append(f"release {conditions.release}{f', served at {target}' if target else ''}")
    return lines
