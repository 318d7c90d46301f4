"""Evaluations as a person likes to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from evaluation.harness import Evaluation


def evaluation(result: Evaluation) -> None:
    """Print the table of an evaluation, the best system's figures in bold."""
    title = f"{result.playlists:,} {result.split} playlists, the {result.holdout} song held out"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("system")
    figures = {"HR@10": "hit_rate_at_10", "HR@100": "hit_rate_at_100", "MRR@10": "mrr_at_10"}
    for heading in figures:
        table.add_column(heading, justify="right")
    best = {
        field: max(getattr(score, field) for score in result.scores) for field in figures.values()
    }
    for score in result.scores:
        cells = []
        for field in figures.values():
            value = getattr(score, field)
            cells.append(f"[bold]{value:.4f}[/]" if value == best[field] else f"{value:.4f}")
        table.add_row(score.system, *cells)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"  {result.labels_in_catalog:.1%} of the held-out songs are in the catalog; the others "
        f"count as misses\n  release {result.release}",
        style="dim",
    )
