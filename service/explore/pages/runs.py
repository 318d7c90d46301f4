"""The page of the evaluations: the figures of the logged runs over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui

from catalog.errors import NextsongError
from service.explore.pages.elements import Text, box
from service.explore.pages.frame import page_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.explore.explorer import Explorer, LoggedRun

METRICS = ("hr@10", "hr@100", "mrr@10", "ndcg@10")
"""Metrics of the chart and the table, if the runs have them."""

MAX_RUNS = 200  # the newest runs in the table


def build_runs_page(explorer: Explorer) -> None:
    """Build the page with a chart and a table of the runs."""
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
                _build_chart(label, [run for run in evaluated if run.label == label])
        if runs:
            with box("section", "card"):
                Text("All runs", "panel-title", "h2")
                _build_table(runs[-MAX_RUNS:])


def _build_chart(label: str, runs: Sequence[LoggedRun]) -> None:
    metrics = [name for name in METRICS if any(name in run.figures for run in runs)]
    metrics = metrics or sorted({name for run in runs for name in run.figures})[:4]
    if label:
        Text(label, "column-title", "h3")
    series = [
        {
            "name": name,
            "type": "line",
            "symbolSize": 8,
            "data": [[run.time, run.figures[name]] for run in runs if name in run.figures],
        }
        for name in metrics
    ]
    options: dict[str, Any] = {
        "animation": False,
        "grid": {"left": 48, "right": 16, "top": 40, "bottom": 32},
        "legend": {"top": 0, "left": 0, "textStyle": {"color": "#888d95"}},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "xAxis": {"type": "time", "axisLabel": {"color": "#888d95", "hideOverlap": True}},
        "yAxis": {
            "type": "value",
            "axisLabel": {"color": "#888d95"},
            "splitLine": {"lineStyle": {"color": "#888d9540"}},
        },
        "color": ["#2457d6", "#b5892e", "#17754a", "#8a5fb0"],
        "series": series,
    }
    ui.echart(options).classes("chart").props(f'role=img aria-label="Figures of {len(runs)} runs"')


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
