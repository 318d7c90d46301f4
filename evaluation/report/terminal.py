"""Evaluations as a person likes to read them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from catalog.tables import Console, Table
from evaluation.metrics.table import LOWER_IS_BETTER
from evaluation.protocol.cases import HOLDOUTS
from evaluation.runs import log

if TYPE_CHECKING:
    from evaluation.judge.intervals import Figure
    from evaluation.judge.result import Comparison, Evaluation

HEADINGS = {
    "hr@10": "HR@10",
    "hr@100": "HR@100",
    "mrr@10": "MRR@10",
    "ndcg@10": "NDCG@10",
    "r_precision": "R-prec",
    "ndcg@500": "NDCG@500",
    "clicks": "clicks",
}
ONE_LABEL = ("hr@10", "hr@100", "mrr@10", "ndcg@10")
MANY_LABELS = ("r_precision", "ndcg@500", "clicks", "hr@10")


INTERVALS = "± how far the 95% interval reaches, on its farther side"


def metrics_of(result: Evaluation) -> tuple[str, ...]:
    """The metrics of the headline table."""
    return MANY_LABELS if result.conditions.holdout == "half" else ONE_LABEL


def evaluation(result: Evaluation, *, brief: bool = False) -> None:
    """Print an evaluation; `brief` leaves out all but the headline table."""
    console = Console()
    console.print(headline(result))
    for line in notes(result):
        console.print(f"  {escape(line)}", style="dim")
    if brief:
        return
    if result.slices:
        console.print(_slices(result))
    if result.behaviours:
        console.print(_behaviours(result))
    if result.recalls:
        console.print(_recalls(result))


def narrow_table(title: str) -> Table:
    """An empty table that leaves its room to figures: a terminal has 80 columns."""
    return Table(
        title,
        show_edge=False,
        collapse_padding=True,
    )


def headline(result: Evaluation) -> Table:
    """The systems' figures with 95% intervals, the best in bold, and what is significant."""
    conditions = result.conditions
    title = f"{conditions.playlists:,} {conditions.split} playlists, {HOLDOUTS[conditions.holdout]}"
    table = narrow_table(title)
    table.add_column("system", no_wrap=True)
    metrics = metrics_of(result)
    for metric in metrics:  # names give way, figures do not
        table.add_column(HEADINGS[metric], justify="right", no_wrap=True, min_width=12)
    for system in result.systems:
        cells = [
            _cell(
                system.figures[metric],
                result.comparison(metric, system.key),
                best=_is_best(result, metric, system.figures[metric].mean),
            )
            if metric in system.figures
            else ""
            for metric in metrics
        ]
        table.add_row(escape(system.name), *cells)
    return table


def notes(result: Evaluation) -> list[str]:
    """What must be known to read the headline table."""
    conditions = result.conditions
    lines = [INTERVALS]
    if result.comparisons:
        name = result.main.name
        lines.append(
            f"- significantly worse than {name}, + better: paired tests, corrected for their number"
        )
    lines.append(
        f"{conditions.labels_in_catalog:.1%} of the held-out songs are in the catalog; the others "
        f"count as misses"
    )
    if conditions.playlists < conditions.available:
        lines.append(f"a random sample of {conditions.available:,} playlists")
    leaks = result.leaks
    if leaks.same_id:
        lines.append(f"LEAK: {leaks.same_id:,} held-out playlists are in training by their id")
    if leaks.same_songs:
        lines.append(
            f"{len(leaks.same_songs):,} of {leaks.playlists:,} held-out playlists are in training "
            f"too, song for song, under another id"
        )
    if leaks.across:
        lines.append(f"{leaks.across:,} test playlists are in validation too, song for song")
    if conditions.split == "test":
        lines += uses(conditions.test_uses)
    lines += result.skipped
    target = conditions.plan.get("target")
    lines.append(f"release {conditions.release}{f', served at {target}' if target else ''}")
    return lines


def uses(before: int) -> list[str]:
    """What to say of test playlists that have been used so often before."""
    if not before:
        return []
    times = "once" if before == 1 else f"{before} times"
    said = f"these test playlists have been used {times} before, says the log of runs"
    return [f"{said} ({log.FILE}): choose by --split validation"]


def _is_best(result: Evaluation, metric: str, value: float) -> bool:
    values = [one.figures[metric].mean for one in result.systems if metric in one.figures]
    return value == (min(values) if metric in LOWER_IS_BETTER else max(values))


def number(value: float, digits: int = 4) -> str:
    """A figure, without the 0 before the point."""
    if abs(value) >= 1:
        return f"{value:.{max(1, digits - 2)}f}"
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def _cell(figure: Figure, comparison: Comparison | None, *, best: bool) -> str:
    text = f"[bold]{number(figure.mean)}[/]" if best else number(figure.mean)
    if figure.margin is not None:
        text += f"[dim] ±{number(figure.margin, 3)}[/]"
    if comparison and comparison.significant:
        # The main system minus this one: above 0 where this one is below it.
        below = (comparison.difference.mean > 0) != (comparison.metric in LOWER_IS_BETTER)
        return text + ("[red]-[/]" if below else "[green]+[/]")
    return text + "\N{NO-BREAK SPACE}"


def _slices(result: Evaluation) -> Table:
    table = Table(escape(f"{result.main.name}, by kind of query"))
    table.add_column("kind", no_wrap=True)
    table.add_column("queries", justify="right", no_wrap=True, min_width=7)
    for heading in ("HR@10", "HR@100"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=11)
    group = ""
    for one in result.slices:
        if one.group != group:
            group = one.group
            table.add_row(f"[dim]{escape(group)}[/]")
        figures = one.figures[result.main.key]
        cells = [_cell(figures[metric], None, best=False) for metric in ("hr@10", "hr@100")]
        table.add_row(f"  {escape(one.name)}", f"{one.queries:,}", *cells)
    return table


def _behaviours(result: Evaluation) -> Table:
    table = Table(escape(f"How {result.main.name} behaves"))
    table.add_column("when")
    table.add_column("measured")
    table.add_column("figure", justify="right")
    table.add_column("rule")
    for one in result.behaviours:
        verdict = {True: "[green]passed[/]", False: "[bold red]FAILED[/]", None: ""}[one.passed]
        rule = f"{verdict} {escape(one.rule)}" if one.rule else ""
        value = "" if one.value is None else number(one.value, 3)
        table.add_row(escape(one.name), escape(one.figure), value, rule)
    return table


def _recalls(result: Evaluation) -> Table:
    table = Table("What the index finds of what exact search finds, the first 10 songs")
    table.add_column("filter")
    table.add_column("songs that pass", justify="right")
    table.add_column("recall", justify="right")
    table.add_column("lowest", justify="right")
    for one in result.recalls:
        table.add_row(
            escape(one.name), f"{one.selectivity:.2%}", f"{one.recall:.4f}", f"{one.lowest:.2f}"
        )
    return table
