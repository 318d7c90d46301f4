"""Logged runs as a table in the terminal, and as JSON objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from catalog.console.tables import Console, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.runs.log import Run

SUMMARY_METRICS = ("hr@10", "hr@100", "mrr@10")


def to_json(run: Run) -> dict[str, Any]:
    """Return a run as the JSON object that `nextsong runs show` prints."""
    return {"id": run.id, "kind": run.kind, "time": run.time.isoformat(), **run.payload}


def print_runs(runs: Sequence[Run]) -> None:
    """Print runs as a table."""
    console = Console()
    if not runs:
        console.print("  no runs")
        return
    table = Table()
    for heading in ("run", "kind", "release"):
        table.add_column(heading, no_wrap=True)
    table.add_column("result")
    for run in runs:
        table.add_row(
            run.id, escape(run.kind), escape(run.release or ""), escape(_summarise_run(run))
        )
    console.print(table)


def _summarise_run(run: Run) -> str:
    figures = get_figures(run)
    if figures:
        metrics = [name for name in SUMMARY_METRICS if name in figures] or list(figures)[:3]
        text = ", ".join(f"{name} {figures[name]:.4f}" for name in metrics)
        label = make_label(run)
        return f"{label}: {text}" if label else text
    if "counts" in run.payload:
        verb = "published" if run.payload.get("published") else "unchanged"
        counts = run.payload["counts"]
        return f"{verb}: {counts['songs']:,} songs, {counts['training_playlists']:,} playlists"
    return ""


def get_figures(run: Run) -> dict[str, float]:
    """Return the figures of a run, by metric."""
    figures = run.payload.get("figures")
    if not isinstance(figures, dict):
        return {}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def make_label(run: Run) -> str:
    """Return a text with the split and the holdout of a run, such as "validation, last".

    Figures of runs with the same text can be compared. The kind of the run is added unless it is an
    evaluation. The text is empty if the run has neither split nor holdout.
    """
    values = (run.payload.get("split"), run.payload.get("holdout"))
    label = ", ".join(value for value in values if isinstance(value, str) and value)
    return f"{label} ({run.kind})" if label and run.kind != "evaluate" else label
