"""Pictures in one style, as PNG and SVG files and to stand in a page (see `ingest.stats.html`)."""

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
"""For series of data, in this order."""

NARROW, WIDE = 4.9, 10.0
"""Widths of a picture in inches: beside another one, and alone."""

# Fonts of several systems, for names that are not in Latin, Greek, Cyrillic, Arabic or Hebrew.
_OTHER_ALPHABETS = (
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
_FEW_DECADES = 2.0  # of an axis: it has labels within a decade too

# As `ingest/stats/page.html` calls these colours: there they change with the reader's setting.
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
    """A drawn picture: the `svg` is for a page; `wide` ones take its whole width."""

    name: str
    caption: str
    svg: str
    wide: bool = False


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Turn a missing library into an `InputError` that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"this needs {error.name}, which is not installed: "
            f"run `make install-dev`, or `pip install -e '.[{extra}]'`"
        ) from error


@contextmanager
def drawing(width: float = NARROW, height: float = 3.3) -> Iterator[tuple[Any, Any]]:
    """A new figure and its axes, of this many inches, in our style.

    Raises `InputError` without the extra `plots`.
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
    """Of the installed fonts, those with letters that the first one lacks."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in _OTHER_ALPHABETS if name in installed]


def integers(axis: Any) -> None:
    """Ticks of whole numbers, each once, with commas between thousands."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def logarithmic(axis: Any, low: float, high: float, suffix: str = "") -> None:
    """A logarithmic scale for values from `low` to `high`, with at least two labels."""
    from matplotlib.ticker import LogLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    decades = np.log10(max(high, low) / low)
    if decades < _FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}{suffix}")
    axis.set_minor_formatter(lambda _value, _: "")


def save(figure: Any, folder: Path, name: str, caption: str) -> Picture:
    """Write the figure as `name`.png and `name`.svg to `folder`, inside `drawing`.

    Raises `StorageError`.
    """
    text = io.StringIO()
    with warnings.catch_warnings(), storage_errors(folder):
        # Letters that no installed font has are boxes in the PNG; a reader of the SVG and of the
        # page draws them with fonts of its own.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.savefig(folder / f"{name}.png", dpi=160)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return Picture(name, caption, _inline(text.getvalue(), name), figure.get_figwidth() > NARROW)


def _inline(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg [^>]*?)\s*height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\s*width="[^"]*"', r'\1 role="img"', svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several pictures share a page, and so the names in it.
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("'DejaVu Sans', ", "")
