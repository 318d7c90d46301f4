"""Comparisons of two runs or releases, as a person likes to read them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from catalog.tables import Console
from evaluation.judge.significance import p_value
from evaluation.report.terminal import HEADINGS, INTERVALS, narrow_table, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.tables import Table
    from evaluation.judge.compare import Contest, Row

_SIGNS = {"better": "[green]+[/]", "worse": "[red]-[/]", "same": "\N{NO-BREAK SPACE}"}


def contest(found: Contest) -> None:
    """Print what got better or worse: each metric before, after and the difference."""
    console = Console()
    console.print(f"before: {escape(found.before)}", soft_wrap=True)
    console.print(f"after:  {escape(found.after)}\n", soft_wrap=True)
    console.print(_overall(found))
    if found.left_out:
        console.print(f"  {found.left_out:,} playlists that only one run asked are left out")
    if found.queries < found.available:
        console.print(f"  a random sample of {found.available:,} playlists")
    for remark in found.remarks:
        console.print(f"  {escape(remark)}")
    if found.slices:
        console.print(_by_kind(found.slices))
    changed = [row for row in found.rows if row.verdict != "same"]
    said = "; ".join(f"{HEADINGS[row.metric]} is {row.verdict}" for row in changed)
    console.print(f"  {said or 'no difference is significant'}")
    console.print(
        "  + better, - worse: paired tests (McNemar's for hit rates, or permutation), corrected "
        f"for their number; {INTERVALS}",
        style="dim",
    )


def _overall(found: Contest) -> Table:
    named = f" {found.split} playlists" if found.split else " playlists"
    table = _table(f"{found.queries:,}{named}", ("before", "after", "difference", "p"))
    for row in found.rows:
        table.add_row(
            HEADINGS[row.metric],
            number(row.before.mean),
            number(row.after.mean),
            _difference(row),
            p_value(row.p),
        )
    return table


def _by_kind(rows: list[Row]) -> Table:
    """A line a kind of query. Narrow enough for 80 columns: what was before can be reckoned."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    headings = [f"{HEADINGS[one]}{text}" for one in metrics for text in ("", " change")]
    table = _table("after, and the change, by kind of query", ("queries", *headings))
    by_kind: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        by_kind.setdefault((row.group, row.name), {})[row.metric] = row
    group = ""
    for (kind, name), of in by_kind.items():
        if kind != group:
            group = kind
            table.add_row(f"[dim]{escape(group)}[/]")
        cells = [
            cell
            for metric in metrics
            for cell in (
                (number(of[metric].after.mean), _difference(of[metric]))
                if metric in of
                else ("", "")
            )
        ]
        queries = next(iter(of.values())).queries
        table.add_row(f"  {escape(name)}", f"{queries:,}", *cells)
    return table


def _difference(row: Row) -> str:
    margin = row.difference.margin or 0.0
    sign = "+" if row.difference.mean > 0 else ""
    return (
        f"{sign}{number(row.difference.mean, 3)}[dim] ±{number(margin, 3)}[/]{_SIGNS[row.verdict]}"
    )


def _table(title: str, headings: Sequence[str]) -> Table:
    table = narrow_table(title)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", min_width=7 if heading == "queries" else None)
    return table
