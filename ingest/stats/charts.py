"""Charts in a common style, saved as PNG and SVG files, and included in HTML pages."""

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
"""Colours of the series of a chart, in order."""

NARROW, WIDE = 4.9, 10.0
"""Widths of charts in inches: half of the page (two charts in a row), and the full page."""

# Fonts on Linux, macOS and Windows for Chinese, Japanese, Korean, Devanagari and Thai, because
# matplotlib's default font does not support these scripts.
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
_FEW_DECADES = 2.0  # axes of fewer decades are labelled at 1, 2 and 5 in each decade

# The CSS variable in `page.html` for each colour. The variable has one value for the light theme
# and one for the dark theme.
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
    """A chart for an HTML page: file name without suffix, caption and SVG code.

    A `wide` chart takes the full width of the page.
    """

    name: str
    caption: str
    svg: str
    wide: bool = False


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Convert an `ImportError` to an `InputError` that says how to install the optional extra."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"this needs {error.name}, which is not installed: "
            f"run `make install-dev`, or `pip install -e '.[{extra}]'`"
        ) from error


@contextmanager
def drawing(width: float = NARROW, height: float = 3.3) -> Iterator[tuple[Any, Any]]:
    """Yield a new matplotlib figure and its axes, in the common style.

    `width` and `height` are in inches. Raises `InputError` if the extra `plots` is not installed.
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
    """Return the fonts in `_OTHER_SCRIPTS` that are installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in _OTHER_SCRIPTS if name in installed]


def integers(axis: Any) -> None:
    """Label the axis only at whole numbers, with commas as thousands separators."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def logarithmic(axis: Any, low: float, high: float, suffix: str = "") -> None:
    """Make the axis logarithmic, with at least two labels, for values from `low` to `high`.

    `suffix`, such as "%", is appended to each label.
    """
    from matplotlib.ticker import LogLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    decades = np.log10(max(high, low) / low)
    if decades < _FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}{suffix}")
    axis.set_minor_formatter(lambda _value, _: "")


def save(figure: Any, folder: Path, name: str, caption: str) -> Picture:
    """Write the figure to `folder` as `name`.png and `name`.svg; return it as a `Picture`.

    Must be called inside the context `drawing`. Raises `StorageError`.
    """
    text = io.StringIO()
    with warnings.catch_warnings(), storage_errors(folder):
        # The PNG shows boxes for characters that are missing in all installed fonts. No warning is
        # needed, because programs that show the SVG or the page use other fonts.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.savefig(folder / f"{name}.png", dpi=160)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return Picture(name, caption, _inline(text.getvalue(), name), figure.get_figwidth() > NARROW)


def _inline(svg: str, name: str) -> str:
    """Convert the content of an SVG file for use inside an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg [^>]*?)\s*height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\s*width="[^"]*"', r'\1 role="img"', svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # A page contains several charts, so the ids in their SVG code must differ.
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("'DejaVu Sans', ", "")
