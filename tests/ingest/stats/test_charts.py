"""Axes, bins and fonts of charts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from catalog.console.progress import SilentReporter
from ingest.stats import measures
from ingest.stats import page as stats_page
from ingest.stats.charts import drawing, integers, logarithmic, save
from ingest.stats.measures import Fit, Rival, Spread, measure
from tests.support.prepared import playlist, work_of

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.stats.charts import Picture

pytest.importorskip("matplotlib")


def labels(axis: Any) -> list[str]:
    """Return the visible tick labels of an axis."""
    axis.figure.draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return [label.get_text() for place, label in ticks if low <= place <= high]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 40, 12_345])
def test_whole_numbers_are_labelled_once(most: int) -> None:
    with drawing() as (_, axes):
        axes.plot([0, 1], [0, most])
        integers(axes.yaxis)
        texts = labels(axes.yaxis)
    assert len(texts) == len(set(texts)) >= 2
    assert all(float(label.replace(",", "")).is_integer() for label in texts)


@pytest.mark.parametrize(("low", "high"), [(1, 3), (1, 8), (2, 30), (1, 90), (1, 100_000)])
def test_a_logarithmic_axis_has_several_labels(low: float, high: float) -> None:
    with drawing() as (_, axes):
        axes.plot([low, high], [low, high])
        logarithmic(axes.xaxis, low, high)
        logarithmic(axes.yaxis, low, high, "%")
        assert len(labels(axes.xaxis)) >= 2
        assert all(label.endswith("%") for label in labels(axes.yaxis))


def heights(monkeypatch: pytest.MonkeyPatch, values: Any, folder: Path) -> tuple[str, list[float]]:
    """Draw a histogram. Return "bars" or "steps", and the heights of the bars or steps."""
    drawn: list[tuple[str, list[float]]] = []

    def seen(figure: Any, *rest: Any) -> Picture:
        (axes,) = figure.axes
        bars = [bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")]
        steps = [
            list(patch.get_data().values) for patch in axes.patches if hasattr(patch, "get_data")
        ]
        drawn.append(("steps", steps[0]) if steps else ("bars", bars))
        return save(figure, *rest)

    monkeypatch.setattr(stats_page, "save", seen)
    spread = Spread(np.asarray(values, np.int64))
    stats_page._draw_histogram(spread, folder, ("n", "t", "x", "y"), "Caption")
    return drawn[0]


def test_each_of_few_different_numbers_has_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, bar_heights = heights(monkeypatch, [1, 1, 2, 5, 5, 5], tmp_path)
    assert (kind, bar_heights) == ("bars", [0, 2, 1, 0, 0, 3])


def test_bins_of_different_widths_have_comparable_heights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The values have a log-uniform distribution, so the histogram is flat except at its edges.
    values = np.floor(np.exp2(np.linspace(3, 10, 200_000)) + 0.5)
    kind, bar_heights = heights(monkeypatch, values, tmp_path)
    inner = [height for height in bar_heights if height > 0][2:-2]
    assert kind == "steps"
    assert max(inner) < 1.1 * min(inner)


def test_names_in_any_script_are_drawn_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings(), drawing() as (figure, axes):
        warnings.simplefilter("error")
        axes.set_title("椎名林檎 방탄소년단 \U0001f3b8")
        picture = save(figure, tmp_path, "names", "Names")
    assert "椎名林檎" in picture.svg
    assert (tmp_path / "names.png").stat().st_size > 1000


def test_the_law_that_fits_best_is_drawn() -> None:
    values = np.random.default_rng(0).lognormal(3, 0.8, 4_000).astype(np.int64) + 1
    fit = measures._fit(values)
    assert isinstance(fit, Fit)
    best: Rival = min(fit.rivals, key=lambda rival: rival.ratio)
    assert list(fit.curves) == ["power law", best.law]


def test_pages_of_small_data_are_drawn(tmp_path: Path) -> None:
    rows = [play for name in "pqr" for play in playlist(name, "ab", owner="u")]
    page = stats_page.write(measure(work_of(tmp_path, rows), SilentReporter()), tmp_path / "stats")
    assert page.read_text().count("<svg") == 8
