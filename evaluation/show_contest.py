"""Comparisons of two runs or releases, as a person likes to read them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.show import HEADINGS, number

if TYPE_CHECKING:
    from evaluation.contest import Contest, Row

_STYLES = {"better": "green", "worse": "red", "same": "dim"}


def contest(found: Contest) -> None:
    """Print what got better or worse."""
    console = Console(highlight=False)
    console.print(f"before: {escape(found.before)}\nafter:  {escape(found.after)}\n")
    console.print(_table(f"{found.queries:,} playlists", found.rows))
    if found.left_out:
        console.print(f"  {found.left_out:,} playlists that only one run asked are left out")
    if found.slices:
        console.print(_table("by kind of query", found.slices))
    changed = [row for row in found.rows if row.verdict != "same"]
    said = "; ".join(f"{HEADINGS[row.metric]} is {row.verdict}" for row in changed)
    console.print(f"  {said or 'no difference is significant'}")
    console.print(
        "  paired tests (McNemar's for hit rates, or permutation), corrected for their number",
        style="dim",
    )


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("queries", "before", "after", "difference", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            table.add_row(f"[dim]{escape(group)}[/]")
        name = f"  {escape(row.name)}, {HEADINGS[row.metric]}" if group else HEADINGS[row.metric]
        half = ((row.difference.high or 0.0) - (row.difference.low or 0.0)) / 2
        table.add_row(
            name,
            f"{row.queries:,}",
            number(row.before.mean),
            number(row.after.mean),
            f"{'+' if row.difference.mean > 0 else ''}{number(row.difference.mean)}"
            f"[dim] ±{number(half, 3)}[/]",
            f"{row.p:.3f}",
            f"[{_STYLES[row.verdict]}]{row.verdict}[/]",
        )
    return table
