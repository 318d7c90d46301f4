"""Plots of the evaluation report, as SVG that follows the light or dark colours of the page."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evaluation.metrics.relevance import find_label_ranks, match_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evaluation.judge.result import Evaluation

WIDTH, HEIGHT = 4.6, 3.0  # inches; small, so that the text is legible on a phone

MAX_LINES = 8  # maximum number of systems in the plot of hit rates

COMPARED_SYSTEMS = ("session-knn", "item-item", "tutorial", "random")
"""Keys of the systems that the plot of popularity may show in addition to the main system."""

MAX_POPULARITY_SYSTEMS = 4  # maximum number of systems in the plot of popularity

LABELS = "labels in the catalog"

# Placeholders that `_to_svg` replaces with the colours of the page, which may be light or dark.
_INK, _GRID = "#0a0a01", "#0a0a02"
_COLOURS = [f"#0b0b{number:02x}" for number in range(MAX_LINES)]
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


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as SVG, and the names of its lines. Line i has the CSS colour `--c{i}` of the page."""

    svg: str
    legend: list[str]


def plot_hit_rates(result: Evaluation) -> Plot:
    """Plot the hit rate of each system against the number of recommended songs."""
    others = sorted(result.systems[1:], key=lambda system: -system.figures["hr@100"].mean)
    systems = [result.main, *others][:MAX_LINES]
    with rc_context(_STYLE):
        figure, axes = _make_axes()
        for number, system in enumerate(systems):
            ranks = find_label_ranks(match_labels(system.rankings, result.cases.labels))
            depth = system.rankings.shape[1]
            hits = np.bincount(ranks, minlength=depth + 1)[1 : depth + 1]
            axes.plot(
                np.arange(1, depth + 1),
                np.cumsum(hits) / len(ranks),
                color=_COLOURS[number],
                linewidth=2.6 if number == 0 else 1.4,
                zorder=10 - number,
            )
        _scale_x_axis(axes, [1, 2, 5, 10, 20, 50, 100])
        axes.set_xlim(1, 100)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("songs recommended")
        axes.set_ylabel("hit rate")
        return Plot(_to_svg(figure, "Hit rate over k"), [system.name for system in systems])


def plot_popularity(result: Evaluation) -> Plot:
    """Plot the shares of recommendations and labels that are among the x most popular songs."""
    songs = result.dataset.songs
    keys = (result.main.key, *COMPARED_SYSTEMS)
    systems = {system.key: system for system in result.systems if system.key in keys}
    first_songs = {
        systems[key].name: systems[key].rankings[:, :10] for key in keys if key in systems
    }
    ranks = {name: songs.popularity_rank[first[first >= 0]] for name, first in first_songs.items()}
    main, *others = list(ranks)[:MAX_POPULARITY_SYSTEMS]
    label_popularity = songs.popularity_rank[result.cases.labels.songs]
    ranks[LABELS] = label_popularity[label_popularity > 0]
    legend = [main, LABELS, *others]
    catalog_size = max(2, len(songs.by_popularity))
    x = np.unique(np.geomspace(1, catalog_size, 200).astype(int))
    with rc_context(_STYLE):
        figure, axes = _make_axes()
        for number, name in enumerate(legend):
            cumulative = np.searchsorted(np.sort(ranks[name]), x, side="right")
            axes.plot(
                x,
                cumulative / max(1, len(ranks[name])),
                color=_COLOURS[number],
                linewidth=2.6 if name in (main, LABELS) else 1.4,
                linestyle="--" if name == LABELS else "-",
            )
        _scale_x_axis(axes, [10**power for power in range(8) if 10**power <= catalog_size])
        axes.set_xlim(1, catalog_size)
        axes.set_ylim(0, 1)
        axes.set_xlabel("the most popular songs of the catalog")
        axes.set_ylabel("share of songs")
        return Plot(_to_svg(figure, "Popularity of recommendations"), legend)


def _make_axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def _scale_x_axis(axes: Axes, ticks: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _to_svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element with the width, fonts and colours of the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r"font(-family)?: ?[^;\"]*", _keep_font_size, svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    svg = svg.replace(_INK, "var(--muted)").replace(_GRID, "var(--line)")
    for number, colour in enumerate(_COLOURS):
        svg = svg.replace(colour, f"var(--c{number})")
    return svg


def _keep_font_size(style: re.Match[str]) -> str:
    """Return the CSS font style without the font family, because text has the font of the page."""
    size = re.search(r"[\d.]+px", style[0])
    return f"font-size: {size[0]}" if size else "font-family: inherit"
