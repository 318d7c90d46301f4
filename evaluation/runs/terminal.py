"""The log of runs as a person likes to read it: a table, bars, a drawing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from catalog.errors import InputError, MissingExtraError
from catalog.files import storage_errors
from catalog.tables import Console, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from evaluation.runs.log import Run

BAR = 24


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of a run."""

    run: str
    time: datetime
    label: str
    value: float


def to_json(run: Run) -> dict[str, Any]:
    """A run as a JSON object."""
    return {"id": run.id, "kind": run.kind, "time": run.time.isoformat(), **run.payload}


def point_to_json(point: Point) -> dict[str, Any]:
    """A figure of a run as a JSON object."""
    return asdict(point) | {"time": point.time.isoformat()}


def listed(found: Sequence[Run]) -> None:
    """Print runs as a table."""
    console = Console()
    if not found:
        console.print("  no runs")
        return
    table = Table()
    for heading in ("run", "kind", "release"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what came of it")
    for run in found:
        release = (run.release or "").split("-")
        table.add_row(run.id, escape(run.kind), escape("-".join(release)), escape(summary_of(run)))
    console.print(table)


def summary_of(run: Run) -> str:
    """A run in a few words."""
    payload = run.payload
    figures = figures_of(run)
    if figures:
        names = [name for name in ("hr@10", "hr@100", "mrr@10") if name in figures]
        said = ", ".join(f"{name} {figures[name]:.4f}" for name in names or list(figures)[:3])
        label = label_of(run)
        return f"{label}: {said}" if label else said
    if "counts" in payload:
        verb = "published" if payload.get("published") else "unchanged"
        counts = payload["counts"]
        return f"{verb}: {counts['songs']:,} songs, {counts['training_playlists']:,} playlists"
    return ""


def figures_of(run: Run) -> dict[str, float]:
    """The figures of a run, by metric."""
    figures = run.payload.get("figures")
    if not isinstance(figures, dict):
        return {}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def label_of(run: Run) -> str:
    """Of what its figures are: runs of one label can be compared. Empty where it has none.

    The split and what was held out of its playlists; and the kind of run, where it is none of
    those that score a release as it is.
    """
    split, holdout = run.payload.get("split"), run.payload.get("holdout")
    what = ", ".join(one for one in (split, holdout) if isinstance(one, str) and one)
    return f"{what} ({run.kind})" if what and run.kind != "evaluate" else what


def points(
    found: Sequence[Run], metric: str, split: str | None = None, holdout: str | None = None
) -> list[Point]:
    """A metric of the runs that have it. Raises `InputError` where none has."""
    chosen = [
        Point(run.id, run.time, label_of(run) or run.kind, figures_of(run)[metric])
        for run in found
        if metric in figures_of(run)
        and split in (None, run.payload.get("split"))
        and holdout in (None, run.payload.get("holdout"))
    ]
    if not chosen:
        known = sorted({name for run in found for name in figures_of(run)})
        there = f"; there are {', '.join(known)}" if known else ""
        raise InputError(f"no run has the figure '{metric}'{there}")
    return chosen


def bars(chosen: Sequence[Point], metric: str) -> None:
    """Print a bar a run, from 0 to the greatest."""
    console = Console()
    greatest = max(abs(point.value) for point in chosen) or 1.0
    console.print(f"{metric}")
    width = max(len(point.label) for point in chosen)
    for point in chosen:
        bar = "━" * max(1, round(BAR * abs(point.value) / greatest))
        label = escape(f"{point.label:<{width}}")
        console.print(
            f"  {point.run}  {label} [cyan]{bar:<{BAR}}[/] {point.value:.4f}", soft_wrap=True
        )


def draw(chosen: Sequence[Point], metric: str, path: Path) -> None:
    """Draw a metric over time to a file, of the format that its name ends in."""
    try:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "plots") from error
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for label in dict.fromkeys(point.label for point in chosen):
        mine = [point for point in chosen if point.label == label]
        axes.plot(
            [date2num(point.time) for point in mine],  # type: ignore[no-untyped-call]
            [point.value for point in mine],
            marker="o",
            label=label,
        )
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_ylabel(metric)
    axes.set_ylim(bottom=min(0.0, *(point.value for point in chosen)))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with storage_errors(path):
        figure.savefig(path)
