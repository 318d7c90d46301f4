"""The HTML report of a study: tables of trials, parallel coordinates and importances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.judge.significance import format_p_equals
from ingest.stats.charts import COLOURS, NARROW, drawing, extra_needed, save
from ingest.stats.html import Fact, Page, Section, Table, write_page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ingest.stats.charts import Picture

TITLES = {
    "count": "Co-occurrence",
    "train": "Word2Vec",
    "query": "Both, fused",
}
BEST = 15  # trials in a table


def require_libraries() -> None:
    """Raise `InputError` unless the libraries that the report needs are installed."""
    with extra_needed("plots"):
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401 -- optuna computes importances with it


def write_report(outcome: Mapping[str, Any], studies: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` and its pictures to `folder`; return the path of the page.

    Raises `InputError` without the extra `plots`.
    """
    figures, tried, test = outcome["validation"], outcome["tried"], outcome["test"]
    verdict = "" if outcome["beyond chance"] else "not "
    page = Page(
        title="Tuning of parameters",
        lead=[
            "Trials were scored on validation playlists, by the mean discounted gain of labels.",
            (
                f"There, the best parameters are {verdict}significantly better than the current "
                f"release, {outcome['release']} ({format_p_equals(outcome['p'])}, a paired test)."
            ),
            "They were also scored on the test playlists; the log of runs counts each such use."
            if test
            else "They were not scored on the test playlists.",
        ],
        facts=[
            Fact(f"{tried['tuned HR@10']:.4f}", "validation HR@10"),
            Fact(f"{tried['tuned HR@100']:.4f}", "validation HR@100"),
            Fact(f"{figures['start HR@10']:.4f}", "HR@10 of the current release"),
            Fact(f"{figures['start HR@100']:.4f}", "HR@100 of the current release"),
            *(Fact(f"{test[f'tuned HR@{k}']:.4f}", f"test HR@{k}") for k in (10, 100) if test),
        ],
        sections=[
            Section(
                "Chosen parameters" if outcome["beyond chance"] else "Parameters of the start",
                tables=[
                    Table(
                        ["parameter", "value"],
                        [[name, _text(value)] for name, value in outcome["parameters"].items()],
                    )
                ],
            ),
            *(_section(phase, study, folder) for phase, study in studies.items()),
        ],
    )
    path = folder / "report.html"
    write_page(page, path)
    return path


def _section(phase: str, study: Any, folder: Path) -> Section:
    trials = study.get_trials(deepcopy=False)
    complete = sorted(
        (trial for trial in trials if trial.state.name == "COMPLETE"), key=lambda t: -t.value
    )
    pruned = sum(trial.state.name == "PRUNED" for trial in trials)
    failed = sum(trial.state.name == "FAIL" for trial in trials)
    more = f" {failed} failed or were abandoned." if failed else ""
    names = sorted({name for trial in complete for name in trial.params})
    rows = [
        [str(trial.number), f"{trial.value:.5f}", *(_text(trial.params.get(n)) for n in names)]
        for trial in complete[:BEST]
    ]
    pictures = [_coordinates(phase, complete, names, folder), _history(phase, complete, folder)]
    if len(complete) >= 4 and len({trial.value for trial in complete}) > 1:
        pictures.append(_importance(phase, study, folder))
    return Section(
        TITLES[phase],
        text=[f"{len(complete)} trials completed; {pruned} weak ones were pruned.{more}"],
        pictures=pictures,
        tables=[Table(["trial", "gain", *names], rows, "The best trials", marked=[0])],
    )


def _coordinates(phase: str, trials: list[Any], names: list[str], folder: Path) -> Picture:
    values = np.array([trial.value for trial in trials])
    shade = (values - values.min()) / (np.ptp(values) or 1.0)
    labels = [*names, "gain"]
    columns = [_scaled([trial.params.get(name) for trial in trials]) for name in names]
    heights = np.array([*(column for column, _ in columns), shade])
    rows = np.arange(len(labels))
    # Axes are stacked as rows: side by side, this many could not be read on a phone.
    with drawing(NARROW, 0.6 + 0.42 * len(labels)) as (figure, axes):
        for line in range(len(trials) - 1, -1, -1):
            axes.plot(
                heights[:, line],
                rows,
                color=COLOURS[1] if line == 0 else COLOURS[0],
                alpha=1.0 if line == 0 else 0.15 + 0.6 * float(shade[line]),
                linewidth=2.4 if line == 0 else 1.0,
            )
        axes.set_yticks(rows, [name.replace("cooccurrence_", "co_") for name in labels])
        axes.set_xticks([])
        axes.set_xlim(-0.22, 1.22)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        ends = [*(ends for _, ends in columns), (f"{values.min():.3g}", f"{values.max():.3g}")]
        for row, (low, high) in enumerate(ends):
            axes.annotate(low, (-0.03, row), ha="right", va="center", fontsize=9)
            axes.annotate(high, (1.03, row), ha="left", va="center", fontsize=9)
        caption = "Each line is a trial. The best one is highlighted, and better ones are darker."
        return save(figure, folder, f"{phase}-coordinates", caption)


def _history(phase: str, trials: list[Any], folder: Path) -> Picture:
    order = sorted(trials, key=lambda trial: trial.number)
    with drawing(NARROW) as (figure, axes):
        numbers = [trial.number for trial in order]
        axes.plot(numbers, [trial.value for trial in order], "o", markersize=4)
        axes.plot(numbers, np.maximum.accumulate([trial.value for trial in order]))
        axes.set_xlabel("trial")
        axes.set_ylabel("gain")
        return save(
            figure, folder, f"{phase}-history", "The gain of each trial, and the best gain so far."
        )


def _importance(phase: str, study: Any, folder: Path) -> Picture:
    with extra_needed("tune"):
        import optuna
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    names = list(importances)[::-1]
    with drawing(NARROW) as (figure, axes):
        axes.barh(names, [importances[name] for name in names])
        axes.set_xlabel("share of the variance between trials")
        return save(
            figure,
            folder,
            f"{phase}-importance",
            "How much each parameter contributes to the differences in gain.",
        )


def _scaled(values: list[Any]) -> tuple[np.ndarray[Any, Any], tuple[str, str]]:
    """Return the values scaled to 0 to 1, and the texts of the lowest and the highest value."""
    levels = sorted({value for value in values if value is not None})
    if len(levels) <= 8:
        heights = [levels.index(v) / max(1, len(levels) - 1) if v in levels else 0 for v in values]
    else:
        low, high = levels[0], levels[-1]
        heights = [0.0 if v is None else (v - low) / (high - low) for v in values]
    return np.array(heights, np.float64), (_text(levels[0]), _text(levels[-1]))


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
