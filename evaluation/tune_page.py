"""The report of a study: its trials as tables, parallel coordinates and importances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.charts import COLOURS, NARROW, WIDE, drawing, extra_needed, save
from ingest.pages import Fact, Page, Section, Table, write_page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ingest.charts import Picture

TITLES = {
    "count": "Co-occurrence",
    "train": "Word2Vec",
    "query": "Both, fused",
}
BEST = 15


def write(outcome: Mapping[str, Any], studies: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` and its pictures to `folder`; returns the page.

    Raises `InputError` without the extra `plots`.
    """
    figures, test = outcome["validation"], outcome["test"]
    page = Page(
        title="Trials of parameters",
        lead=[
            "Trials were judged on validation playlists, by the mean discounted gain of labels.",
            "The test playlists were looked at once, for what was chosen.",
            "The gain on validation is beyond chance (more than 2 standard errors)."
            if outcome["beyond chance"]
            else "The gain on validation is not beyond chance (2 standard errors or less).",
        ],
        facts=[
            Fact(f"{figures['tuned HR@10']:.4f}", "validation HR@10"),
            Fact(f"{figures['tuned HR@100']:.4f}", "validation HR@100"),
            Fact(f"{figures['start HR@100']:.4f}", "validation HR@100 before"),
            Fact(f"{test['tuned HR@100']:.4f}", "test HR@100"),
        ],
        sections=[
            Section(
                "What was chosen",
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
        text=[f"{len(complete)} trials finished; {pruned} weak ones were ended early."],
        pictures=pictures,
        tables=[Table(["trial", "gain", *names], rows, "The best trials", marked=[0])],
    )


def _coordinates(phase: str, trials: list[Any], names: list[str], folder: Path) -> Picture:
    values = np.array([trial.value for trial in trials])
    shade = (values - values.min()) / (np.ptp(values) or 1.0)
    axes_of = [*names, "gain"]
    columns = [_scaled([trial.params.get(name) for trial in trials]) for name in names]
    heights = np.array([*(column for column, _ in columns), shade])
    with drawing(WIDE, 3.9) as (figure, axes):
        for line in range(len(trials) - 1, -1, -1):
            axes.plot(
                heights[:, line],
                color=COLOURS[1] if line == 0 else COLOURS[0],
                alpha=1.0 if line == 0 else 0.15 + 0.6 * float(shade[line]),
                linewidth=2.4 if line == 0 else 1.0,
            )
        axes.set_xticks(range(len(axes_of)), axes_of, rotation=20, ha="right")
        axes.set_yticks([])
        axes.set_ylim(-0.12, 1.12)
        for place, (_, (low, high)) in enumerate(columns):
            axes.annotate(low, (place, -0.03), ha="center", va="top", fontsize=8)
            axes.annotate(high, (place, 1.03), ha="center", va="bottom", fontsize=8)
        caption = "Each line is a trial; the best one stands out, better ones are darker."
        return save(figure, folder, f"{phase}-coordinates", caption)


def _history(phase: str, trials: list[Any], folder: Path) -> Picture:
    order = sorted(trials, key=lambda trial: trial.number)
    with drawing(NARROW) as (figure, axes):
        numbers = [trial.number for trial in order]
        axes.plot(numbers, [trial.value for trial in order], "o", markersize=4)
        axes.plot(numbers, np.maximum.accumulate([trial.value for trial in order]))
        axes.set_xlabel("trial")
        axes.set_ylabel("gain")
        return save(figure, folder, f"{phase}-history", "The gain of each trial, and the best yet.")


def _importance(phase: str, study: Any, folder: Path) -> Picture:
    with extra_needed("tune"):
        import optuna
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    names = list(found)[::-1]
    with drawing(NARROW) as (figure, axes):
        axes.barh(names, [found[name] for name in names])
        axes.set_xlabel("share of the differences between trials")
        return save(figure, folder, f"{phase}-importance", "What made the difference.")


def _scaled(values: list[Any]) -> tuple[np.ndarray[Any, Any], tuple[str, str]]:
    """Values as heights from 0 to 1, and the texts of the lowest and the highest."""
    levels = sorted({value for value in values if value is not None})
    if len(levels) <= 8:
        heights = [levels.index(v) / max(1, len(levels) - 1) if v in levels else 0 for v in values]
    else:
        low, high = levels[0], levels[-1]
        heights = [0.0 if v is None else (v - low) / (high - low) for v in values]
    return np.array(heights, np.float64), (_text(levels[0]), _text(levels[-1]))


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
