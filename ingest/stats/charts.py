"""Pictures in one style, as PNG and SVG files and inside a page (see `ingest.stats.html`)."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import InputError
from catalog.files import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAPER, INK, SOFT, LINE = "#ffffff", "#1c2127", "#5b6570", "#dde1e6"
COLOURS = ("#2f6fb2", "#c8553d", "#3c8d6b", "#8a5fb0", "#b5892e")
"""Colours of the series of a chart, the first series first."""

NARROW, WIDE = 4.9, 10.0
"""Widths of a picture in inches: half the page (two pictures in a row), and the whole page."""

# Fonts of Linux, macOS and Windows for Chinese, Japanese, Korean, Devanagari and Thai, which the
# default font of matplotlib lacks.
_OTHER_SCRIPTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Source Han Sans",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "IPAGothic",
    "Droid Sans Fallback",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)
_FEW_DECADES = 2.0  # a logarithmic axis of fewer decades is labelled at 1, 2 and 5 in each decade

# The CSS variable in `page.html` for each colour. Its value depends on the reader's light or dark
# setting.
_VARIABLES = dict(
    zip(
        (PAPER, INK, SOFT, LINE, *COLOURS),
        ("paper", "ink", "soft", "line", "one", "two", "three", "four", "five"),
        strict=True,
    )
)
_STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "nextsong",
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Picture:
    """A picture for a page: its file name without suffix, its caption and its SVG code.

    A `wide` picture has the whole width of the page.
    """

    name: str
    caption: str
    svg: str
    wide: bool = False


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Turn an `ImportError` into an `InputError` that says how to install the extra."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"this needs {error.name}, which is not installed: "
            f"run `make install-dev`, or `pip install -e '.[{extra}]'`"
        ) from error


@contextmanager
def drawing(width: float = NARROW, height: float = 3.3) -> Iterator[tuple[Any, Any]]:
    """Yield a new matplotlib figure and its axes, in the style of all pages.

    `width` and `height` are in inches. Raises `InputError` without the extra `plots`.
    """
    with extra_needed("plots"):
        import matplotlib as mpl
        from cycler import cycler
        from matplotlib.figure import Figure
    style = {"axes.prop_cycle": cycler(color=COLOURS), "font.family": ["sans-serif", *_fonts()]}
    with mpl.rc_context(_STYLE | style):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


@cache
def _fonts() -> list[str]:
    """Return the fonts of `_OTHER_SCRIPTS` that are installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in _OTHER_SCRIPTS if name in installed]


def integers(axis: Any) -> None:
    """Label the axis only at whole numbers, with commas between thousands."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def logarithmic(axis: Any, low: float, high: float, suffix: str = "") -> None:
    """Make the axis logarithmic for values from `low` to `high`, with at least two labels.

    `suffix`, such as "%", follows the number of each label.
    """
    from matplotlib.ticker import LogLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    decades = np.log10(max(high, low) / low)
    if decades < _FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}{suffix}")
    axis.set_minor_formatter(lambda _value, _: "")


def save(figure: Any, folder: Path, name: str, caption: str) -> Picture:
    """Write the figure as `name`.png and `name`.svg to `folder`; return it as a picture of a page.

    Call this inside the context `drawing`. Raises `StorageError`.
    """
    text = io.StringIO()
    with warnings.catch_warnings(), storage_errors(folder):
        # The PNG shows boxes for characters that no installed font has. This is no reason for a
        # warning, because viewers of the SVG and of the page use their own fonts.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.savefig(folder / f"{name}.png", dpi=160)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return Picture(name, caption, _inline(text.getvalue(), name), figure.get_figwidth() > NARROW)


def _inline(svg: str, name: str) -> str:
    """Return the code of an SVG file for use inside an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg [^>]*?)\s*height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\s*width="[^"]*"', r'\1 role="img"', svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several pictures share a page, so their ids must differ.
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("'DejaVu Sans', ", "")
