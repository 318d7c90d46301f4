"""Evaluations and comparisons as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from catalog.console.tables import Console, Table
from evaluation.judge.significance import format_p_value
from evaluation.report.headline import (
    HEADINGS,
    NEW_SONG_METRICS,
    describe_new_songs,
    format_number,
    make_cell,
    make_headline_table,
    make_notes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.search.index_quality import Recall
    from evaluation.judge.behaviour import Behaviour
    from evaluation.judge.comparison import Change, ChangeReport
    from evaluation.judge.new_songs import NewSongs
    from evaluation.judge.result import Evaluation
    from evaluation.report.headline import Cell

INTERVALS = "±: distance to the farther end of the 95% interval"
SIGNS = {"better": "[green]+[/]", "worse": "[red]-[/]", "same": "\N{NO-BREAK SPACE}"}


def print_evaluation(result: Evaluation, *, brief: bool = False) -> None:
    """Print an evaluation, or only the table of main metrics and the notes if `brief` is set."""
    console = Console()
    console.print(_render_headline(result))
    lines = [INTERVALS]
    if result.comparisons:
        lines.append(
            f"- significantly worse than {result.main.name}, + better: paired tests, corrected for "
            f"their number"
        )
    for line in (*lines, *make_notes(result)):
        console.print(f"  {escape(line)}", style="dim")
    if brief:
        return
    if result.slices:
        console.print(_render_slices(result))
    if result.new_songs:
        console.print(_render_new_songs(result.new_songs))
        console.print(f"  {escape(describe_new_songs(result.new_songs))}", style="dim")
    if result.behaviours:
        console.print(_render_behaviours(result.behaviours, result.main.name))
    if result.recalls:
        console.print(_render_recalls(result.recalls))


def print_changes(report: ChangeReport) -> None:
    """Print a comparison: each metric before and after, and the difference."""
    console = Console()
    console.print(f"before: {escape(report.before)}", soft_wrap=True)
    console.print(f"after:  {escape(report.after)}\n", soft_wrap=True)
    console.print(_render_changes(report))
    if report.left_out:
        console.print(f"  {report.left_out:,} playlists that only one run scored are left out")
    if report.queries < report.available:
        console.print(f"  a random sample of {report.available:,} playlists")
    for remark in report.remarks:
        console.print(f"  {escape(remark)}")
    if report.slices:
        console.print(_render_slice_changes(report.slices))
    verdicts = "; ".join(
        f"{HEADINGS[row.metric]} is {row.verdict}" for row in report.rows if row.verdict != "same"
    )
    console.print(f"  {verdicts or 'no difference is significant'}")
    console.print(
        "  + better, - worse: paired tests (McNemar's for hit rates, or permutation), corrected "
        f"for their number; {INTERVALS}",
        style="dim",
    )


def _make_narrow_table(title: str) -> Table:
    """Return an empty table with little padding, because it must fit in 80 columns."""
    return Table(title, show_edge=False, collapse_padding=True)


def _render_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    mean = f"[bold]{cell.mean}[/]" if cell.is_best else cell.mean
    margin = f"[dim] ±{cell.margin}[/]" if cell.margin else ""
    return f"{mean}{margin}{SIGNS[cell.verdict]}"


def _render_headline(result: Evaluation) -> Table:
    headline = make_headline_table(result)
    table = _make_narrow_table(headline.title)
    table.add_column("system", no_wrap=True)
    for metric in headline.metrics:
        table.add_column(HEADINGS[metric], justify="right", no_wrap=True, min_width=12)
    for row in headline.rows:
        table.add_row(escape(row.name), *map(_render_cell, row.cells))
    return table


def _render_slices(result: Evaluation) -> Table:
    table = Table(escape(f"{result.main.name}, by slice of the queries"))
    table.add_column("slice", no_wrap=True)
    table.add_column("queries", justify="right", no_wrap=True, min_width=7)
    metrics = ("hr@10", "hr@100")
    for metric in metrics:
        table.add_column(HEADINGS[metric], justify="right", no_wrap=True, min_width=11)
    group = ""
    for slice_ in result.slices:
        if slice_.group != group:
            group = slice_.group
            table.add_row(f"[dim]{escape(group)}[/]")
        figures = slice_.figures[result.main.key]
        cells = [_render_cell(make_cell(figures[metric])) for metric in metrics]
        table.add_row(f"  {escape(slice_.name)}", f"{slice_.queries:,}", *cells)
    return table


def _render_new_songs(new: NewSongs) -> Table:
    table = _make_narrow_table("slice new: the label is a song without plays")
    table.add_column("system", no_wrap=True)
    for heading in NEW_SONG_METRICS.values():
        table.add_column(heading, justify="right", no_wrap=True, min_width=11)
    for system in new.systems:
        cells = [_render_cell(make_cell(system.figures[metric])) for metric in NEW_SONG_METRICS]
        table.add_row(escape(system.name), *cells)
    return table


def _render_behaviours(behaviours: Sequence[Behaviour], system: str) -> Table:
    table = Table(escape(f"Behaviour of {system}"))
    table.add_column("test")
    table.add_column("measured")
    table.add_column("figure", justify="right")
    table.add_column("rule")
    labels = {True: "[green]passed[/]", False: "[bold red]FAILED[/]", None: ""}
    for behaviour in behaviours:
        rule = f"{labels[behaviour.passed]} {escape(behaviour.rule)}" if behaviour.rule else ""
        value = "" if behaviour.value is None else format_number(behaviour.value, 3)
        table.add_row(escape(behaviour.name), escape(behaviour.figure), value, rule)
    return table


def _render_recalls(recalls: Sequence[Recall]) -> Table:
    table = Table("Recall of the index at 10 songs")
    table.add_column("filter")
    table.add_column("songs that pass", justify="right")
    table.add_column("recall", justify="right")
    table.add_column("lowest", justify="right")
    for recall in recalls:
        table.add_row(
            escape(recall.name),
            f"{recall.selectivity:.2%}",
            f"{recall.recall:.4f}",
            f"{recall.lowest:.2f}",
        )
    return table


def _render_changes(report: ChangeReport) -> Table:
    split = f" {report.split} playlists" if report.split else " playlists"
    headings = ("before", "after", "difference", "p")
    table = _make_change_table(f"{report.queries:,}{split}", headings)
    for row in report.rows:
        table.add_row(
            HEADINGS[row.metric],
            format_number(row.before.mean),
            format_number(row.after.mean),
            _render_difference(row),
            format_p_value(row.p),
        )
    return table


def _render_slice_changes(changes: Sequence[Change]) -> Table:
    """Return a table with a row for each slice.

    The figures before the change are omitted, because the table must fit in 80 columns.
    """
    metrics = list(dict.fromkeys(change.metric for change in changes))
    headings = [f"{HEADINGS[metric]}{suffix}" for metric in metrics for suffix in ("", " change")]
    table = _make_change_table(
        "after, and the change, by slice of the queries", ("queries", *headings)
    )
    by_slice: dict[tuple[str, str], dict[str, Change]] = {}
    for change in changes:
        by_slice.setdefault((change.group, change.name), {})[change.metric] = change
    previous_group = ""
    for (group, name), by_metric in by_slice.items():
        if group != previous_group:
            previous_group = group
            table.add_row(f"[dim]{escape(group)}[/]")
        cells = []
        for metric in metrics:
            slice_change = by_metric.get(metric)
            cells.append(format_number(slice_change.after.mean) if slice_change else "")
            cells.append(_render_difference(slice_change) if slice_change else "")
        queries = next(iter(by_metric.values())).queries
        table.add_row(f"  {escape(name)}", f"{queries:,}", *cells)
    return table


def _render_difference(change: Change) -> str:
    difference = change.difference
    sign = "+" if difference.mean > 0 else ""
    margin = format_number(difference.margin or 0.0, 3)
    mean = format_number(difference.mean, 3)
    return f"{sign}{mean}[dim] ±{margin}[/]{SIGNS[change.verdict]}"


def _make_change_table(title: str, headings: Sequence[str]) -> Table:
    table = _make_narrow_table(title)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", min_width=7 if heading == "queries" else None)
    return table
