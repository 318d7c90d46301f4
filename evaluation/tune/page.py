"""The HTML report of a tuning study: tables of trials, and optuna's plots."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from evaluation.judge.significance import format_p_equals
from evaluation.tune.outcome import KS, describe_verdict
from evaluation.tune.trials import get_complete_trials, open_study
from ingest.stats.charts import INK, NARROW, extra_needed, save
from ingest.stats.html import Fact, Page, Section, Table, write_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from optuna.study import Study

    from evaluation.tune.outcome import Outcome
    from ingest.stats.charts import Picture

TITLES = {"count": "Co-occurrence", "train": "Word2Vec", "query": "Hybrid search"}
BEST_TRIALS = 15  # maximum number of rows in a table of trials
PLOTTED_PARAMETERS = 2  # number of plotted parameters, the most important first
MIN_TRIALS_OF_IMPORTANCE = 4  # minimum number of trials to estimate parameter importances


def require_libraries() -> None:
    """Raise `InputError` unless the libraries that the report needs are installed."""
    with extra_needed("plots"):
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401 -- optuna computes importances with it


def write_report(outcome: Outcome, folder: Path) -> Path:
    """Write `report.html` and its pictures to the folder of the study, and return its path.

    Raises `InputError` if the extra `plots` is not installed.
    """
    figures, tried, test = outcome.validation, outcome.tried, outcome.test
    page = Page(
        title="Tuning of parameters",
        lead=[
            "Trials were scored on validation playlists, by the mean discounted gain of labels.",
            (
                f"There, in comparison with the current release {outcome.release}, the best "
                f"parameters are {describe_verdict(outcome)} ({format_p_equals(outcome.p)}, a "
                f"paired test)."
            ),
            "They were also scored on the test playlists; the log of runs counts each such use."
            if test
            else "They were not scored on the test playlists.",
        ],
        facts=[
            *(Fact(f"{tried[f'tuned HR@{k}']:.4f}", f"validation HR@{k}") for k in KS),
            *(Fact(f"{figures[f'start HR@{k}']:.4f}", f"current release, HR@{k}") for k in KS),
            *(Fact(f"{test[f'tuned HR@{k}']:.4f}", f"test HR@{k}") for k in KS if test),
        ],
        sections=[
            Section(
                "Chosen parameters" if outcome.better else "Initial parameters",
                tables=[
                    Table(
                        ["parameter", "value"],
                        [
                            [name, _format_value(value)]
                            for name, value in outcome.parameters.items()
                        ],
                    )
                ],
            ),
            *(
                _make_section(phase, open_study(folder, name), folder)
                for phase, name in outcome.studies.items()
            ),
        ],
    )
    path = folder / "report.html"
    write_page(page, path)
    return path


def _make_section(phase: str, study: Study, folder: Path) -> Section:
    """Return the section of the report on a phase: its plots and its best trials."""
    complete = sorted(get_complete_trials(study), key=lambda trial: -(trial.value or 0.0))
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    failed = states.count("FAIL")
    more = f" {failed} failed or were abandoned." if failed else ""
    names = sorted({name for trial in complete for name in trial.params})
    rows = [
        [
            str(trial.number),
            f"{trial.value:.5f}",
            *(_format_value(trial.params.get(n)) for n in names),
        ]
        for trial in complete[:BEST_TRIALS]
    ]
    return Section(
        TITLES[phase],
        text=[f"{len(complete)} trials completed; {states.count('PRUNED')} were pruned.{more}"],
        pictures=list(_draw_plots(phase, study, folder)),
        tables=[Table(["trial", "gain", *names], rows, "The best trials", marked=[0])],
    )


def _draw_plots(phase: str, study: Study, folder: Path) -> Iterator[Picture]:
    """Draw the objective of all trials and, if there are enough trials, parameter importances."""
    import optuna
    from optuna.visualization import matplotlib as plots

    def draw(name: str, caption: str, plot: Callable[..., Any], **options: Any) -> Picture:
        return _draw(lambda: plot(study, **options), folder, f"{phase}-{name}", caption)

    caption = "The gain of each trial, and the best gain so far."
    yield draw("history", caption, plots.plot_optimization_history, target_name="gain")
    values = {trial.value for trial in get_complete_trials(study)}
    if len(values) < MIN_TRIALS_OF_IMPORTANCE:
        return
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    caption = "How much each parameter contributes to the differences in gain."
    yield draw(
        "importance", caption, plots.plot_param_importances, evaluator=evaluator, target_name="gain"
    )
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    for name in list(importances)[:PLOTTED_PARAMETERS]:
        caption = f"The gain of each trial by {name}; later trials are darker."
        yield draw(name, caption, plots.plot_slice, params=[name], target_name="gain")


def _draw(plot: Callable[[], Any], folder: Path, name: str, caption: str) -> Picture:
    """Save an optuna plot with the size and the text colour of the other pictures of the page."""
    import matplotlib as mpl
    import optuna
    from matplotlib import pyplot as plt
    from matplotlib.text import Text

    with mpl.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        plt.switch_backend("agg")
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plot()
        figure = axes.figure
        try:
            for side in ("left", "center"):
                axes.set_title("", loc=side)
            if axes.get_legend():
                axes.get_legend().remove()
            for text in figure.findobj(Text):
                text.set_color(INK)
            figure.set_size_inches(NARROW, 3.3)
            figure.set_layout_engine("tight")
            return save(figure, folder, name, caption)
        finally:
            plt.close(figure)


def _format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
