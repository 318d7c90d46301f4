"""The outcome of a study: its best parameters, compared with the current release.

The best parameters and the current release are scored on the validation cases that `nextsong
evaluate` uses. No release is made with the best parameters: recommendations are computed from the
arrays that such a release would contain.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.judge import harness
from evaluation.judge.comparison import compare_systems
from evaluation.judge.scoring import DEPTH, score_system
from evaluation.judge.significance import ALPHA, format_p_equals
from evaluation.protocol.cases import load_cases
from evaluation.report.headline import format_number
from evaluation.systems.release import BATCH
from evaluation.tune.data import UNTUNED
from evaluation.tune.space import TUNED
from evaluation.tune.trials import get_finished_trials
from ingest.learn import retrieval
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from optuna.study import Study

    from catalog.console.progress import Reporter
    from evaluation.judge.comparison import Comparison
    from evaluation.judge.result import Evaluation
    from evaluation.judge.scoring import SystemScores
    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import SongNumbers
    from evaluation.systems.location import StoreLocation
    from ingest.learn.arrays import ReleaseArrays

UNWRITTEN = ("seed", *UNTUNED)
"""Parameters that are not written to the parameter file, because each ingest run sets them."""

KS = (10, 100)  # values of k, in songs, for hit rates

GAIN = "ndcg@100"
"""The metric by which the best parameters must be better than the current release.

It is also the objective of trials: the mean of 1 / log2(1 + rank of the label).
"""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a study. Its best parameters are called the choice.

    Hit rates are stored by name, such as "tuned HR@10".

    - `parameters`: the choice if it is better, or else the parameters from which the study started.
    - `validation`: hit rates of `parameters` ("tuned") and of the current release ("start").
    - `tried`: hit rates of the choice on validation, whether it is better or not.
    - `p`: p-value of the difference in the metric `GAIN` on validation.
    - `better`: whether the choice is significantly better than the current release.
    - `test`: hit rates of the choice on the test playlists, if it is better.
    - `test_used`: whether this run scored the test playlists; False if an earlier run did.
    - `playlists`: number of scored playlists by split.
    - `chosen`: digest of the choice and the playlists.
    - `trials`, `studies`: number of finished trials, and the name of the optuna study, by phase.
    - `budget`: the limits of the search (see `evaluation.tune.study.Budget`).
    """

    parameters: dict[str, Any]
    validation: dict[str, float]
    tried: dict[str, float]
    p: float
    better: bool
    test: dict[str, float]
    test_used: bool
    playlists: dict[str, int]
    release: str
    holdout: str
    chosen: str
    split_fingerprint: str
    split_seed: int
    data_fingerprint: str
    trials: dict[str, int]
    studies: dict[str, str]
    budget: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as a JSON object, with the key "beyond chance" for `better`."""
        return {
            "beyond chance" if name == "better" else name: value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Search:
    """A finished search.

    - `start`, `chosen`: the parameters from which the search started, and the best parameters.
    - `digest`: digest of the playlists and the best parameters.
    - `plays`: total number of songs in the training playlists.
    - `studies`: the optuna study of each phase.
    """

    start: Parameters
    chosen: Parameters
    digest: str
    plays: int
    studies: dict[str, Study]


class Choice:
    """A system that recommends as a release with the best parameters would in hybrid mode.

    If none of a query's seeds is in the catalog, no songs are recommended.
    """

    key = name = "tuned"

    def __init__(self, arrays: ReleaseArrays, parameters: Parameters) -> None:
        self._arrays = arrays.with_song_exponent(parameters.song_exponent)
        self._parameters = parameters

    def recommend(self, queries: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield rankings in batches, shape (queries, limit), best song first, padded with -1."""
        for start in range(0, len(queries), BATCH):
            batch = queries.seeds.take(slice(start, start + BATCH))
            seeds = [batch[row] for row in range(len(batch))]
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            pairs = retrieval.rank_for_fusion(self._arrays, seeds, self._parameters, limit)
            for row, pair in enumerate(pairs):
                songs = retrieval.fuse(*pair, self._parameters.dense_weight, limit)
                rankings[row, : len(songs)] = songs
            yield rankings


def evaluate_current(location: StoreLocation, work: Path, reporter: Reporter) -> Evaluation:
    """Score the current release on the validation playlists, as `nextsong evaluate` does.

    Raises `NoReleaseError`, or `MismatchError` if the release was not made in the folder `work`.
    """
    plan = harness.Plan(modes=("auto",), baselines=(), behaviours=False, recall=False)
    return harness.measure(location, work, plan, reporter)


def assess(
    search: Search, choice: Choice, current: Evaluation, budget: dict[str, Any], reporter: Reporter
) -> Outcome:
    """Compare `choice` (the system with the best parameters) with the current release.

    If the choice is better, it is also scored on the test playlists, unless an earlier run of the
    study did so.
    """
    tried = score_system(choice, current.cases, current.dataset, DEPTH, reporter)
    comparisons = compare_with_current(tried, current.main)
    better = is_better(comparisons)
    playlists = {"validation": len(current.cases)}
    test: dict[str, float] = {}
    test_used = False
    if better:
        test, playlists["test"], test_used = _score_on_test_once(search, choice, current, reporter)
    conditions = current.conditions
    return Outcome(
        parameters=select_parameters_to_write(
            search.chosen if better else search.start, search.plays
        ),
        validation=_name_hit_rates("tuned", tried if better else current.main)
        | _name_hit_rates("start", current.main),
        tried=_name_hit_rates("tuned", tried),
        p=comparisons[GAIN].p_holm,
        better=better,
        test=test,
        test_used=test_used,
        playlists=playlists,
        release=conditions.release,
        holdout=conditions.holdout,
        chosen=search.digest,
        split_fingerprint=conditions.split_fingerprint,
        split_seed=search.start.seed,
        data_fingerprint=conditions.data_fingerprint,
        trials={phase: len(get_finished_trials(study)) for phase, study in search.studies.items()},
        studies={phase: study.study_name for phase, study in search.studies.items()},
        budget=budget,
    )


def _score_on_test_once(
    search: Search, choice: Choice, current: Evaluation, reporter: Reporter
) -> tuple[dict[str, float], int, bool]:
    """Return the hit rates on the test playlists, their number, and whether this run scored them.

    The figures are stored in the optuna study of the phase `query`, and later runs return them.
    """
    study, key = search.studies["query"], f"test {search.digest}"
    known = study.user_attrs.get(key)
    if known:
        return known["hit_rates"], known["playlists"], False
    cases = load_cases(current.dataset.work, "test", current.conditions.holdout, 0)
    figures = _name_hit_rates(
        "tuned", score_system(choice, cases, current.dataset, DEPTH, reporter)
    )
    study.set_user_attr(key, {"hit_rates": figures, "playlists": len(cases)})
    return figures, len(cases), True


def compare_with_current(tried: SystemScores, current: SystemScores) -> dict[str, Comparison]:
    """Return, by metric, the paired significance tests of `tried` against the current release."""
    metrics = (GAIN, *(f"hr@{k}" for k in KS))
    comparisons = compare_systems(tried.per_query, {"current": current.per_query}, metrics)
    return {comparison.metric: comparison for comparison in comparisons}


def is_better(comparisons: Mapping[str, Comparison]) -> bool:
    """Return whether `GAIN` is significantly higher and no hit rate is significantly lower."""
    # A verdict of "worse" means that the current release is worse than the choice.
    return comparisons[GAIN].verdict == "worse" and all(
        comparison.verdict != "better" for comparison in comparisons.values()
    )


def _name_hit_rates(name: str, scores: SystemScores) -> dict[str, float]:
    return {f"{name} HR@{k}": scores.figures[f"hr@{k}"].mean for k in KS}


def select_parameters_to_write(chosen: Parameters, plays: int) -> dict[str, Any]:
    """Return the tuned parameters, and all other parameters that differ from the defaults.

    `plays` is the total number of songs in the training playlists. The defaults of epochs and
    window depend on this number. If their values are equal to these defaults, they become None, and
    later ingest runs use the defaults for their own playlists.
    """
    defaults = Parameters()
    values = {
        field.name: getattr(chosen, field.name)
        for field in fields(Parameters)
        if field.name not in UNWRITTEN
        and (field.name in TUNED or getattr(chosen, field.name) != getattr(defaults, field.name))
    }
    by_plays = {"epochs": defaults.epochs_for(plays), "window": defaults.window_for(plays)}
    return values | {name: None for name, value in by_plays.items() if values[name] == value}


def make_log_payload(outcome: Outcome) -> dict[str, Any]:
    """Return the payload of a tuning run for the log of runs, with its figures by metric."""
    figures = {f"hr@{k}": outcome.validation[f"tuned HR@{k}"] for k in KS}
    return {**outcome.to_json(), "split": "validation", "figures": figures}


def describe(outcome: Outcome) -> Iterator[str]:
    """Yield the figures of an outcome as lines for a terminal."""
    playlists = outcome.playlists
    validation = f"{playlists['validation']:,} validation playlists"
    current = _format_hit_rates("start", outcome.validation)
    yield f"current     {current}: release {outcome.release}, {validation}"
    tried = _format_hit_rates("tuned", outcome.tried)
    yield f"tuned       {tried}: {describe_verdict(outcome)} ({format_p_equals(outcome.p)})"
    if outcome.test:
        when = "now" if outcome.test_used else "by an earlier run"
        scored_on = f"{playlists['test']:,} test playlists, scored {when}"
        yield f"test        {_format_hit_rates('tuned', outcome.test)}: {scored_on}"


def describe_verdict(outcome: Outcome) -> str:
    """Return whether the choice is significantly better than the current release, as text."""
    if outcome.better:
        return "significantly better"
    if outcome.p >= ALPHA:
        return "not significantly better"
    return "not better, because the gain or a hit rate is significantly lower"


def _format_hit_rates(name: str, figures: Mapping[str, float]) -> str:
    return ", ".join(f"HR@{k} {format_number(figures[f'{name} HR@{k}'])}" for k in KS)
