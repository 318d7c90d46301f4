"""A phase of a tuning study, and the objective that its trials maximise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.tune import data as tuning_data
from evaluation.tune.space import (
    SHARES,
    get_start_values,
    make_search_space,
    set_values,
    suggest,
)
from ingest.learn.rank_metrics import discounted_gains
from ingest.learn.retrieval import find_ranks_in_mode
from ingest.stages import fingerprint_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna.trial import Trial

    from evaluation.tune.data import StudyFiles
    from evaluation.tune.space import Space
    from ingest.learn.arrays import ReleaseArrays
    from ingest.learn.cases import Cases
    from ingest.parameters import Parameters

DEPTH = 100  # number of songs to recommend for each case
CHUNKS = 4  # number of chunks of cases; a weak trial can be pruned after each chunk

_MODES = {"count": "cooccurrence", "train": "dense", "query": "hybrid"}
"""Retrieval mode that each phase tunes."""

_STAGES = {"count": ("count",), "train": ("train",), "query": ("count", "train", "query")}
"""Ingest stages whose parameters affect the trials of each phase."""


@dataclass(frozen=True)
class Phase:
    """A phase of a study: the parameters from which it starts, and its search space.

    - `first`: the values of the first trial, taken from `start`.
    - `study_name`: the name of the optuna study that contains the trials of the phase.
    """

    name: str
    start: Parameters
    space: Space
    first: dict[str, Any]
    study_name: str
    files: StudyFiles


def prepare_phase(files: StudyFiles, name: str, start: Parameters, plays: int) -> Phase:
    """Return the phase `name` of a study that starts from `start`.

    `plays` is the total number of songs in the training playlists. The name of the optuna study
    contains a digest of the playlists, of the parameters that are not tuned, and of the lists of
    values to choose from, because trials can be compared only if all of these are equal.
    """
    from optuna.distributions import CategoricalDistribution

    space = make_search_space(name, start, plays)
    parameters = tuning_data.select_parameters(start, _STAGES[name])
    fixed = {key: value for key, value in parameters.items() if key not in {*space, SHARES}}
    choices = {
        key: distribution.choices
        for key, distribution in space.items()
        if isinstance(distribution, CategoricalDistribution)
    }
    digest = fingerprint_of([files.split, start.seed, start.catalog_min, fixed, choices])[:16]
    first = get_start_values(start, space, plays)
    return Phase(name, start, space, first, f"{name} {digest}", files)


class Objective:
    """The objective of a phase: the mean over the cases of 1 / log2(1 + rank of the label)."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase
        self._data = tuning_data.read_tuning_data(phase.files, phase.start)
        self._best_arrays = (
            tuning_data.read_best_arrays(phase.files, self._data, phase.start)
            if phase.name == "query"
            else None
        )

    def __call__(self, trial: Trial) -> float:
        """Return the objective for the parameters that the trial suggests, from 0 to 1.

        Raises `optuna.TrialPruned` if the trial is weak. The text of any other error is stored in
        the trial's attribute `error`.
        """
        import optuna

        parameters = set_values(self._phase.start, suggest(trial, self._phase.space))
        try:
            return self._score(trial, parameters)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise

    def _score(self, trial: Trial, parameters: Parameters) -> float:
        data, phase = self._data, self._phase.name
        if self._best_arrays is not None:
            return score_in_chunks(trial, self._best_arrays, data.cases, parameters, phase)
        if phase == "count":
            arrays = tuning_data.build_arrays(
                data, tuning_data.count_cooccurrence(data, parameters)
            )
            return score_in_chunks(trial, arrays, data.cases, parameters, phase)
        short = replace(parameters, epochs=max(1, parameters.epochs_for(data.plays) // 4))
        arrays = self._train(short)
        trial.report(compute_mean_gain(arrays, data.cases, parameters, phase), 0)
        _prune_if_weak(trial)
        arrays = self._train(parameters)
        return score_in_chunks(trial, arrays, data.cases, parameters, phase)

    def _train(self, parameters: Parameters) -> ReleaseArrays:
        vectors = tuning_data.train_vectors(self._data, parameters, self._phase.files.scratch)
        return tuning_data.build_arrays(self._data, vectors=vectors)


def score_in_chunks(
    trial: Trial, arrays: ReleaseArrays, cases: Cases, parameters: Parameters, phase: str
) -> float:
    """Return the mean discounted gain of the labels over all cases.

    After each chunk of cases, the mean of all cases so far is reported to optuna, which can prune
    the trial. Raises `optuna.TrialPruned`.
    """
    order = np.random.default_rng(0).permutation(len(cases.labels))
    total, seen = 0.0, 0
    for step, rows in enumerate(np.array_split(order, CHUNKS), start=1):
        if not len(rows):
            continue
        total += compute_mean_gain(arrays, cases.take(rows), parameters, phase) * len(rows)
        seen += len(rows)
        if step < CHUNKS:
            trial.report(total / seen, step)
            _prune_if_weak(trial)
    return total / max(1, seen)


def compute_mean_gain(
    arrays: ReleaseArrays, cases: Cases, parameters: Parameters, phase: str
) -> float:
    """Return the mean discounted gain of the labels in the retrieval mode that `phase` tunes."""
    return float(discounted_gains(_rank_labels(arrays, cases, parameters, phase)).mean())


def _rank_labels(
    arrays: ReleaseArrays, cases: Cases, parameters: Parameters, phase: str
) -> NDArray[np.int64]:
    """Return the rank of each label, shape (cases,), from 1 to `DEPTH`, or 0 for a miss."""
    parameters = replace(parameters, mode=_MODES[phase])
    arrays = arrays.with_song_exponent(parameters.song_exponent)
    return find_ranks_in_mode(arrays, cases, parameters, DEPTH)


def _prune_if_weak(trial: Trial) -> None:
    import optuna

    if trial.should_prune():
        raise optuna.TrialPruned
