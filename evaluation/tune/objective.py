"""A phase of a study, and the objective of its trials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.tune import files as study_files
from evaluation.tune import space as tuning_space
from ingest.learn.cases import Cases
from ingest.parameters import Parameters
from ingest.stages import fingerprint_of

if TYPE_CHECKING:
    from evaluation.tune.files import StudyFiles
    from evaluation.tune.space import TuningData
    from ingest.learn.retrieval import ReleaseArrays

CHUNKS = 4  # parts of the cases; a weak trial is pruned after any of them


@dataclass(frozen=True)
class Phase:
    """A phase of a study: the search space, the parameters it starts from, and the trials' digest.

    `plays` is the number of plays in the training playlists. `digest` covers all that the trials
    depend on and do not tune: trials with another digest cannot be compared.
    """

    name: str
    start: Parameters
    space: dict[str, Any]
    plays: int
    digest: str

    @staticmethod
    def prepare(files: StudyFiles, name: str, start: Parameters, plays: int) -> Phase:
        """Return the phase that starts from `start`; make the arrays that `query` trials share."""
        space = tuning_space.search_space(name, start, plays)
        untuned = replace(start, **{tuned: getattr(Parameters, tuned) for tuned in space})
        stages = ("count", "train", "query") if name == "query" else (name,)
        inputs = [
            files.digest(untuned, *stages),
            start.catalog_min,
            {key: list(v) for key, v in space.items() if not tuning_space.is_range(v)},
        ]
        if name == "query":
            inputs.append(study_files.make_best_arrays(files, start))
        return Phase(name, start, space, plays, fingerprint_of(inputs)[:16])

    @property
    def study_name(self) -> str:
        """The name of the phase's study in the journal."""
        return f"{self.name} {self.digest}"


class Objective:
    """The objective of a phase's trials, with the data that a worker process reads once."""

    def __init__(self, files: StudyFiles, phase: Phase) -> None:
        self._files = files
        self._phase = phase
        self._data = files.read_data(phase.start)
        self._best_arrays: ReleaseArrays | None = None
        if phase.name == "query":
            self._best_arrays = study_files.read_best_arrays(files, self._data, phase.start)

    def __call__(self, trial: Any) -> float:
        """Return the mean gain of the parameters that the trial suggests.

        Raises `optuna.TrialPruned` if the trial is weak. Any other error is kept as the trial's
        attribute `error`.
        """
        import optuna

        try:
            values = tuning_space.suggest(trial, self._phase.space)
            parameters = replace(self._phase.start, **values)
            if self._phase.name == "train":
                return self._train_and_score(trial, parameters)
            arrays = self._best_arrays
            if arrays is None:
                weights = tuning_space.count_cooccurrence(self._data, parameters)
                arrays = tuning_space.build_arrays(self._data, weights)
            return score_in_chunks(trial, arrays, self._data, parameters, self._phase.name)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise

    def _train_and_score(self, trial: Any, parameters: Parameters) -> float:
        """Score vectors, after a quarter of the epochs first; keep the best trial's vectors."""
        data, files = self._data, self._files
        short = replace(parameters, epochs=max(1, parameters.epochs_for(data.plays) // 4))
        vectors = tuning_space.train_vectors(data, short, files.scratch)
        arrays = tuning_space.build_arrays(data, vectors=vectors)
        trial.report(tuning_space.mean_gain(arrays, data.cases, parameters, "train"), 0)
        _prune_if_weak(trial)
        vectors = tuning_space.train_vectors(data, parameters, files.scratch)
        arrays = tuning_space.build_arrays(data, vectors=vectors)
        gain = score_in_chunks(trial, arrays, data, parameters, "train")
        if gain >= max((other.value for other in complete_trials(trial.study)), default=-1.0):
            study_files.save_vectors(files, parameters, vectors)
        return gain


def complete_trials(study: Any) -> list[Any]:
    """Return the trials of a study that have a value."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def score_in_chunks(
    trial: Any, arrays: ReleaseArrays, data: TuningData, parameters: Parameters, phase: str
) -> float:
    """Return the mean gain over all cases; report it after each chunk, so that optuna can prune.

    Raises `optuna.TrialPruned`.
    """
    cases = data.cases
    order = np.random.default_rng(0).permutation(len(cases.labels))
    total, seen = 0.0, 0
    for step, rows in enumerate(np.array_split(order, CHUNKS), start=1):
        if not len(rows):
            continue
        chunk = Cases([cases.queries[row] for row in rows], cases.labels[rows])
        total += tuning_space.mean_gain(arrays, chunk, parameters, phase) * len(rows)
        seen += len(rows)
        if step < CHUNKS:
            trial.report(total / seen, step)
            _prune_if_weak(trial)
    return total / max(1, seen)


def _prune_if_weak(trial: Any) -> None:
    import optuna

    if trial.should_prune():
        raise optuna.TrialPruned
