"""The page of the evaluations: the metrics of the logged runs over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui

from catalog.errors import NextsongError
from service.explore.pages.elements import Text, box, format_count
from service.explore.pages.frame import page_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.explore.explorer import Explorer, LoggedRun

METRICS = ("hr@10", "hr@100", "mrr@10", "ndcg@10")
"""Metrics of the charts and the table, if the runs have them."""

MAX_RUNS = 200  # the newest runs in the table


def build_runs_page(explorer: Explorer) -> None:
    """Build the page with charts and a table of the runs."""
    with page_frame(explorer, "/runs", "reading"):
        try:
            runs = list(explorer.load_runs())
        except NextsongError as error:
            with box("section", "card"):
                Text(str(error), "problem", "p")
            return
        evaluated = [run for run in runs if run.figures]
        with box("section", "card"):
            Text("Evaluations over time", "panel-title", "h1")
            if not evaluated:
                Text("No run has been evaluated yet: run `nextsong evaluate`.", "hint", "p")
            for label in dict.fromkeys(run.label for run in evaluated):
                _build_charts(label, [run for run in evaluated if run.label == label])
        if runs:
            with box("section", "card"):
                Text("All runs", "panel-title", "h2")
                _build_table(runs[-MAX_RUNS:])


def _build_charts(label: str, runs: Sequence[LoggedRun]) -> None:
    """Build a small chart for each metric, with the newest value above it."""
    metrics = [name for name in METRICS if any(name in run.figures for run in runs)]
    metrics = metrics or sorted({name for run in runs for name in run.figures})[:4]
    if label:
        Text(label, "column-title", "h3")
    with box("div", "charts"):
        for name in metrics:
            points = [(run.time, run.figures[name]) for run in runs if name in run.figures]
            with box("div", "metric"):
                with box("div", "metric-head"):
                    Text(name, "field-label")
                    Text(f"{points[-1][1]:.1%}", "metric-value")
                chart = ui.echart(_draw_line(name, points)).classes("chart")
                chart.props(f'role=img aria-label="{name} of {format_count(len(points), "run")}"')


def _draw_line(name: str, points: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Return the ECharts options of a line chart of (time, value) points."""
    as_percent = "value => (100 * value).toFixed(1) + '%'"
    grey = "#888d95"
    return {
        "animation": False,
        "textStyle": {"fontFamily": "Roboto, sans-serif"},
        "grid": {"left": 44, "right": 10, "top": 12, "bottom": 24},
        "tooltip": {"trigger": "axis", "renderMode": "richText", ":valueFormatter": as_percent},
        "xAxis": {
            "type": "time",
            "axisLabel": {"color": grey, "hideOverlap": True},
            "axisLine": {"lineStyle": {"color": f"{grey}60"}},
            "splitNumber": 3,
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            "splitNumber": 2,
            "axisLabel": {"color": grey, ":formatter": as_percent},
            "splitLine": {"lineStyle": {"color": f"{grey}30"}},
        },
        "color": ["#4f7bea"],
        "series": [{"name": name, "type": "line", "symbolSize": 7, "data": points}],
    }


def _build_table(runs: Sequence[LoggedRun]) -> None:
    metrics = [name for name in METRICS if any(name in run.figures for run in runs)]
    with box("div", "scroll"), box("table", "runs"):
        with box("thead"), box("tr"):
            for heading in ("time", "kind", "release", "on", *metrics):
                Text(heading, tag="th").props("scope=col")
        with box("tbody"):
            for run in reversed(runs):
                with box("tr"):
                    Text(run.time[:16].replace("T", " "), "mono", "td")
                    Text(run.kind, tag="td")
                    Text(run.release, "mono", "td")
                    Text(run.label, tag="td")
                    for name in metrics:
                        value = run.figures.get(name)
                        Text("" if value is None else f"{value:.1%}", "number", "td")
