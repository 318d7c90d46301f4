"""The report of an evaluation: one HTML file without external resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import MissingExtraError
from catalog.files import make_folder, write_atomically
from evaluation.metrics.table import explain
from evaluation.protocol.cases import HOLDOUTS
from evaluation.report.headline import (
    HEADINGS,
    describe_new_songs,
    format_number,
    make_headline_table,
    make_notes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.console.progress import Reporter
    from evaluation.judge.intervals import Figure
    from evaluation.judge.new_songs import NewSongs
    from evaluation.judge.result import Evaluation
    from evaluation.judge.scoring import SystemScores

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
BAR_METRICS = ("hr@10", "hr@100")
BAR_METRICS_OF_HALVES = ("r_precision", "ndcg@500")
SLICE_METRIC = "hr@100"  # the metric of the charts of slices and of new songs


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart, which shows one figure.

    - `kind`: a CSS class (see `_find_kind`).
    - `text`: the figure.
    - `width`: length of the bar, as a percentage of the width of the chart.
    - `low`, `high`: ends of the confidence interval, as percentages, or None without an interval.
    """

    name: str
    kind: str
    text: str
    width: str
    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class BarChart:
    """The bars of one metric, the longest first."""

    title: str
    explanation: str
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The hit rate of the main system on a slice, as a bar, and of the best baseline, as a mark.

    - `queries`: number of cases in the slice.
    - `baseline`: position of the mark, as a percentage of the width, or None without a baseline.
    - `baseline_text`: hit rate of the baseline.
    """

    bar: Bar
    queries: int
    baseline: str | None
    baseline_text: str


def write(result: Evaluation, path: Path, reporter: Reporter) -> None:
    """Write the report of an evaluation to a file. Raises `MissingExtraError` or `StorageError`."""
    with reporter.task("report") as task:
        html = render_page(result)
        make_folder(path.parent)
        write_atomically(path, html)
        task.result(f"{path}, {len(html) / 1e6:.1f} MB")


def require_libraries() -> None:
    """Raise `MissingExtraError` unless the libraries that a report needs are installed."""
    try:
        import jinja2  # noqa: F401

        from evaluation.report import plots, song_map  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reports", "plots") from error


def render_page(result: Evaluation) -> str:
    """Return the report of an evaluation as HTML. Raises `MissingExtraError`."""
    require_libraries()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from evaluation.report import plots, song_map
    from evaluation.report.examples import draw_examples

    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    halves = result.conditions.holdout == "half"
    headline = make_headline_table(result)
    baseline = _find_best_baseline(result)
    return environment.get_template("page.html").render(
        conditions=result.conditions,
        selection=_group_trials(result.conditions.parameters),
        run=result.run,
        held_out=HOLDOUTS[result.conditions.holdout],
        main=result.main.name,
        notes=make_notes(result),
        headings=[(HEADINGS[metric], explain(metric)) for metric in headline.metrics],
        rows=headline.rows,
        charts=[
            _make_bar_chart(result, metric)
            for metric in (BAR_METRICS_OF_HALVES if halves else BAR_METRICS)
        ],
        curves=None if halves else plots.plot_hit_rates(result),
        popularity=plots.plot_popularity(result),
        coverage=_make_bar_chart(result, "coverage@100"),
        slices=_group_slices(result, baseline),
        baseline=baseline,
        new_songs=_make_new_song_bars(result.new_songs),
        behaviours=result.behaviours,
        recalls=result.recalls,
        others=_make_table_of_other_metrics(result),
        examples=draw_examples(result),
        map=song_map.draw_map(result.dataset),
        number=format_number,
    )


def _group_trials(parameters: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the trials of the ingest's parameter selection, by parameter name with spaces."""
    trials: dict[str, list[dict[str, Any]]] = {}
    for trial in parameters.get("selection", []):
        trials.setdefault(trial["parameter"].replace("_", " "), []).append(trial)
    return trials


def _make_bar_chart(result: Evaluation, metric: str) -> BarChart:
    systems = [system for system in result.systems if metric in system.figures]
    scale = max([_find_high_end(system.figures[metric]) for system in systems] + [1e-9])
    systems.sort(key=lambda system: -system.figures[metric].mean)
    return BarChart(
        HEADINGS.get(metric, metric),
        explain(metric),
        [
            _make_bar(system.name, _find_kind(result, system), system.figures[metric], scale)
            for system in systems
        ],
    )


def _make_bar(name: str, kind: str, figure: Figure, scale: float) -> Bar:
    return Bar(
        name=name,
        kind=kind,
        text=format_number(figure.mean),
        width=_format_percent(figure.mean, scale),
        low=None if figure.low is None else _format_percent(figure.low, scale),
        high=None if figure.high is None else _format_percent(figure.high, scale),
    )


def _find_kind(result: Evaluation, system: SystemScores) -> str:
    """Return the CSS class of a system: "main", "mode" (another mode of the release) or "other"."""
    if system is result.main:
        return "main"
    return "mode" if _is_mode(result, system) else "other"


def _is_mode(result: Evaluation, system: SystemScores) -> bool:
    return system.name.startswith(f"{result.main.name}:")


def _find_high_end(figure: Figure) -> float:
    return figure.mean if figure.high is None else figure.high


def _format_percent(value: float, scale: float) -> str:
    return f"{100 * min(max(0.0, value / scale), 1.0):.2f}"


def _find_best_baseline(result: Evaluation) -> SystemScores | None:
    """Return the baseline with the highest hit rate at 100, or None if there is no baseline."""
    baselines = [system for system in result.systems[1:] if not _is_mode(result, system)]
    return max(baselines, key=lambda system: system.figures[SLICE_METRIC].mean, default=None)


def _group_slices(result: Evaluation, baseline: SystemScores | None) -> dict[str, list[SliceRow]]:
    """Return the hit rates of the main system and the best baseline on each slice, by group."""
    main = result.main.key
    figures = [slice_.figures[main][SLICE_METRIC] for slice_ in result.slices]
    scale = max([*map(_find_high_end, figures), 1e-9])
    groups: dict[str, list[SliceRow]] = {}
    for slice_, figure in zip(result.slices, figures, strict=True):
        bar = _make_bar(slice_.name, "main", figure, scale)
        mean = slice_.figures[baseline.key][SLICE_METRIC].mean if baseline else None
        mark = None if mean is None else _format_percent(mean, scale)
        text = "" if mean is None else format_number(mean)
        row = SliceRow(bar, slice_.queries, mark, text)
        groups.setdefault(slice_.group, []).append(row)
    return groups


def _make_new_song_bars(new: NewSongs | None) -> dict[str, Any] | None:
    """Return the chart of hit rates at 100 on new songs, or None if they were not measured.

    The keys are `text`, which describes the cases, and `bars`.
    """
    if new is None:
        return None
    figures = [system.figures[SLICE_METRIC] for system in new.systems]
    scale = max([*map(_find_high_end, figures), 1e-9])
    kinds = ["main", *["other"] * (len(figures) - 1)]
    return {
        "text": describe_new_songs(new),
        "bars": [
            _make_bar(
                f"{system.name} (coverage {format_number(system.figures['coverage@100'].mean, 3)})",
                kind,
                figure,
                scale,
            )
            for system, kind, figure in zip(new.systems, kinds, figures, strict=True)
        ],
    }


def _make_table_of_other_metrics(result: Evaluation) -> dict[str, Any]:
    metrics = [metric for metric in OTHER_METRICS if metric in result.main.figures]
    return {
        "headings": [(metric, explain(metric)) for metric in metrics],
        "explanations": {metric.partition("@")[0]: explain(metric) for metric in metrics},
        "rows": [
            (
                system.name,
                [
                    format_number(system.figures[metric].mean, 3)
                    if metric in system.figures
                    else ""
                    for metric in metrics
                ],
            )
            for system in result.systems
        ],
    }
