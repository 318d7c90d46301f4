"""Drawings of the report, as SVG whose colours are those of the page, light or dark."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evaluation.metrics.relevance import ranks, relevant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evaluation.judge.result import Evaluation

WIDTH, HEIGHT = 4.6, 3.0
"""Inches: narrow enough that text can be read on a phone."""

LINES = 8

# Colours that stand for those of the page, which are only known when it is looked at.
_INK, _GRID = "#0a0a01", "#0a0a02"
_COLOURS = [f"#0b0b{number:02x}" for number in range(LINES)]
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _GRID,
    "grid.color": _GRID,
    "svg.hashsalt": "nextsong",
}


def curves(result: Evaluation) -> dict[str, object]:
    """The hit rate over how many songs are looked at: the SVG, and what its colours mean."""
    systems = [
        result.main,
        *sorted(result.systems[1:], key=lambda one: -one.figures["hr@100"].mean),
    ][:LINES]
    with rc_context(_STYLE):
        figure, axes = _axes()
        for at, system in enumerate(systems):
            place = ranks(relevant(system.rankings, result.queries.labels))
            depth = system.rankings.shape[1]
            counted = np.bincount(place, minlength=depth + 1)[1 : depth + 1]
            rate = np.cumsum(counted) / len(place)
            axes.plot(
                np.arange(1, depth + 1),
                rate,
                color=_COLOURS[at],
                linewidth=2.6 if at == 0 else 1.4,
                zorder=10 - at,
            )
        _log_axis(axes, [1, 2, 5, 10, 20, 50, 100])
        axes.set_xlim(1, 100)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("songs recommended")
        axes.set_ylabel("hit rate")
        return {"svg": _svg(figure, "Hit rate over k"), "legend": [one.name for one in systems]}


def popularity(result: Evaluation) -> dict[str, object]:
    """Which share of recommendations, and of labels, are songs up to a place by popularity."""
    songs = result.data.songs
    labels = songs.place[result.queries.labels.songs]
    series = [("labels that the catalog has", labels[labels > 0])]
    for key in dict.fromkeys((result.main.key, "session-knn", "item-item", "tutorial", "random")):
        system = next((one for one in result.systems if one.key == key), None)
        if system is None or len(series) > 4:
            continue
        first = system.rankings[:, :10]
        known = first[(first >= 0) & (first < len(songs))]
        series.append((system.name, songs.place[known]))
    catalog = max(2, len(songs.by_popularity))
    at = np.unique(np.geomspace(1, catalog, 200).astype(int))
    order = [1, 0, *range(2, LINES)]  # the main system has the first colour
    with rc_context(_STYLE):
        figure, axes = _axes()
        for number, (_, places) in enumerate(series):
            share = np.searchsorted(np.sort(places), at, side="right") / max(1, len(places))
            axes.plot(
                at,
                share,
                color=_COLOURS[order[number]],
                linewidth=2.6 if number <= 1 else 1.4,
                linestyle="--" if number == 0 else "-",
            )
        powers = [10**power for power in range(8) if 10**power <= catalog]
        _log_axis(axes, powers)
        axes.set_xlim(1, catalog)
        axes.set_ylim(0, 1)
        axes.set_xlabel("the most popular songs of the catalog")
        axes.set_ylabel("share that they make up")
        legend = [name for name, _ in series]
        if len(legend) > 1:
            legend[0], legend[1] = legend[1], legend[0]
        return {"svg": _svg(figure, "Popularity of recommendations"), "legend": legend}


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def _log_axis(axes: Axes, ticks: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r"font(-family)?: ?[^;\"]*", _font, text)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    text = text.replace(_INK, "var(--muted)").replace(_GRID, "var(--line)")
    for at, colour in enumerate(_COLOURS):
        text = text.replace(colour, f"var(--c{at})")
    return text


def _font(found: re.Match[str]) -> str:
    # Only the size is matplotlib's: the letters are the page's.
    size = re.search(r"[\d.]+px", found[0])
    return f"font-size: {size[0]}" if size else "font-family: inherit"
