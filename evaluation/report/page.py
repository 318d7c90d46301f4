"""The report: an evaluation as one HTML file, with its drawings in it and nothing to load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog.errors import MissingExtraError
from catalog.files import make_folder, write_atomically
from evaluation.judge.significance import p_equals
from evaluation.metrics.table import EXPLAINED, LOWER_IS_BETTER
from evaluation.protocol.cases import HOLDOUTS
from evaluation.report.terminal import HEADINGS, metrics_of, notes, number

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.progress import Reporter
    from evaluation.judge.intervals import Figure
    from evaluation.judge.result import Evaluation, Scored, Slice

OTHER_METRICS = (
    "coverage@10",
    "coverage@100",
    "novelty@10",
    "popularity_bias@10",
    "diversity@10",
    "artist_repetition@10",
    "fresh@10",
    "answered",
)
BARS = ("hr@10", "hr@100")
BARS_OF_HALVES = ("r_precision", "ndcg@500")


def write(result: Evaluation, path: Path, reporter: Reporter) -> None:
    """Write the report. Raises `MissingExtraError` or `StorageError`."""
    with reporter.task("report") as task:
        text = page(result)
        make_folder(path.parent)
        write_atomically(path, text)
        task.result(f"{path}, {len(text) / 1e6:.1f} MB")


def require_libraries() -> None:
    """Raise `MissingExtraError` unless the libraries that a report needs are installed."""
    try:
        import jinja2  # noqa: F401

        from evaluation.report import plots, song_map  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reports", "plots") from error


def page(result: Evaluation) -> str:
    """The report as HTML. Raises `MissingExtraError`."""
    require_libraries()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from evaluation.report import plots, song_map
    from evaluation.report.examples import examples

    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    halves = result.conditions.holdout == "half"
    context: dict[str, Any] = {
        "conditions": result.conditions,
        "run": result.run,
        "held_out": HOLDOUTS[result.conditions.holdout],
        "main": result.main.name,
        "notes": [one for one in notes(result) if one[0] not in "±-"],
        "headings": [(one, HEADINGS[one], _explained(one)) for one in metrics_of(result)],
        "rows": [_row(result, system) for system in result.systems],
        "bars": [_bars(result, one) for one in (BARS_OF_HALVES if halves else BARS)],
        "curves": None if halves else plots.curves(result),
        "popularity": plots.popularity(result),
        "coverage": _bars(result, "coverage@100"),
        "slices": _slices(result),
        "rival": _rival(result),
        "behaviours": result.behaviours,
        "recalls": result.recalls,
        "others": _others(result),
        "examples": examples(result),
        "map": song_map.drawn(result.data),
        "number": number,
    }
    return environment.get_template("page.html").render(context)


def _explained(metric: str) -> str:
    return EXPLAINED[metric.split("@", maxsplit=1)[0]]


def _margin(figure: Figure) -> str:
    return "" if figure.margin is None else number(figure.margin, 3)


def _row(result: Evaluation, system: Scored) -> dict[str, Any]:
    cells: list[dict[str, Any] | None] = []
    for metric in metrics_of(result):
        figure = system.figures.get(metric)
        if figure is None:
            cells.append(None)
            continue
        values = [one.figures[metric].mean for one in result.systems if metric in one.figures]
        lower = metric in LOWER_IS_BETTER
        comparison = result.comparison(metric, system.key)
        verdict = ""
        if comparison and comparison.significant:
            verdict = "worse" if (comparison.difference.mean > 0) != lower else "better"
        cells.append(
            {
                "mean": number(figure.mean),
                "margin": _margin(figure),
                "best": figure.mean == (min(values) if lower else max(values)),
                "verdict": verdict,
                "p": p_equals(comparison.p_holm) if comparison else "",
            }
        )
    return {"name": system.name, "main": system is result.main, "cells": cells}


def _bars(result: Evaluation, metric: str) -> dict[str, Any]:
    """Horizontal bars with intervals; lengths in percent of the longest."""
    systems = [one for one in result.systems if metric in one.figures]
    top = max([_end(one.figures[metric]) for one in systems] + [1e-9])
    systems.sort(key=lambda one: -one.figures[metric].mean)
    return {
        "title": HEADINGS.get(metric, metric),
        "explained": _explained(metric),
        "bars": [_bar(one, one.figures[metric], top, result) for one in systems],
    }


def _bar(system: Scored, figure: Figure, top: float, result: Evaluation) -> dict[str, Any]:
    own = system is result.main or system.name.startswith(f"{result.main.name}:")
    return {
        "name": system.name,
        "kind": "main" if system is result.main else "mode" if own else "other",
        "width": _percent(figure.mean, top),
        "low": None if figure.low is None else _percent(figure.low, top),
        "high": None if figure.high is None else _percent(figure.high, top),
        "text": number(figure.mean),
    }


def _end(figure: Figure) -> float:
    return figure.mean if figure.high is None else figure.high


def _percent(value: float, top: float) -> str:
    return f"{100 * max(0.0, value) / top:.2f}"


def _rival(result: Evaluation) -> Scored | None:
    """The best baseline by hit rate at 100: what slices are shown beside."""
    prefix = f"{result.main.name}:"
    others = [one for one in result.systems[1:] if not one.name.startswith(prefix)]
    return max(others, key=lambda one: one.figures["hr@100"].mean, default=None)


def _slices(result: Evaluation) -> list[dict[str, Any]]:
    rival = _rival(result)
    groups: dict[str, list[Slice]] = {}
    for one in result.slices:
        groups.setdefault(one.group, []).append(one)
    ends = [_end(one.figures[result.main.key]["hr@100"]) for one in result.slices]
    top = max([*ends, 1e-9])
    drawn = []
    for group, members in groups.items():
        rows = []
        for one in members:
            figure = one.figures[result.main.key]["hr@100"]
            theirs = one.figures[rival.key]["hr@100"].mean if rival else None
            rows.append(
                {
                    "name": one.name,
                    "queries": one.queries,
                    "bar": _bar(result.main, figure, top, result),
                    "rival": None if theirs is None else _percent(min(theirs, top), top),
                    "rival_text": "" if theirs is None else number(theirs),
                }
            )
        drawn.append({"name": group, "rows": rows})
    return drawn


def _others(result: Evaluation) -> dict[str, Any]:
    metrics = [one for one in OTHER_METRICS if one in result.main.figures]
    return {
        "headings": [(one, _explained(one)) for one in metrics],
        "rows": [
            (
                system.name,
                [
                    number(system.figures[one].mean, 3) if one in system.figures else ""
                    for one in metrics
                ],
            )
            for system in result.systems
        ],
    }
