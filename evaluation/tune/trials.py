"""The trials of one phase of a study, run in worker processes that share an optuna journal."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import MismatchError
from evaluation.tune import files as study_files
from evaluation.tune import space as tuning_space
from ingest.learn.cases import Cases
from ingest.parameters import Parameters
from ingest.stages import fingerprint_of

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore

    from catalog.progress import Reporter, Task
    from evaluation.tune.files import StudyFiles
    from evaluation.tune.space import TuningData
    from ingest.learn.retrieval import ReleaseArrays

POLL_S = 0.3
CHUNKS = 4  # parts of the cases; a weak trial is pruned after any of them
UNLIMITED = 1_000_000  # trials


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


@dataclass(frozen=True)
class Limits:
    """When a phase ends: after `trials`, or at `deadline` (`time.monotonic`); None is no limit."""

    trials: int | None
    deadline: float | None
    processes: int


def open_study(files: StudyFiles, name: str, seed: int = 0) -> Any:
    """Open the optuna study `name` in the journal, or create it; it maximises the mean gain.

    `seed` is the seed of the sampler. Each process needs its own.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = JournalFileBackend(str(files.study / "trials.journal"))
    with warnings.catch_warnings():  # multivariate sampling is marked as experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=8, multivariate=True, constant_liar=True, seed=seed
        )
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(journal),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )


def finished_trials(study: Any) -> list[Any]:
    """Return the trials that completed, were pruned, or raised an error.

    Trials that were abandoned at a deadline are not among them.
    """
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED") or _has_failed(trial)
    ]


def complete_trials(study: Any) -> list[Any]:
    """Return the trials that have a value."""
    return [trial for trial in finished_trials(study) if trial.state.name == "COMPLETE"]


def run_phase(
    files: StudyFiles, phase: Phase, limits: Limits, task: Task, reporter: Reporter
) -> dict[str, Any]:
    """Run trials until a limit is reached; return the parameters of the best one.

    Trials of earlier runs count towards the limit. At the deadline, running trials are abandoned,
    except that the first trial of a study always completes. Raises `MismatchError` if no trial has
    a value.
    """
    study = open_study(files, phase.study_name)
    first = tuning_space.start_values(phase.start, phase.space, phase.plays)
    if all(trial.params != first for trial in study.get_trials(deepcopy=False)):
        study.enqueue_trial(first, skip_if_exists=True)
    _run_workers(files, phase, limits, _Progress(phase, task, reporter))
    if not complete_trials(study):
        in_time = limits.deadline is not None
        raise MismatchError(_explain_failure(study, phase.name, in_time=in_time))
    states = [trial.state.name for trial in finished_trials(study)]
    failed = f", {states.count('FAIL')} failed" if "FAIL" in states else ""
    task.result(
        f"{len(states)} trials, {states.count('PRUNED')} ended early{failed}; best gain "
        f"{study.best_value:.5f}"
    )
    best: dict[str, Any] = study.best_trial.params
    return best


class _Progress:
    """Reports how many trials are finished, and each new best value."""

    def __init__(self, phase: Phase, task: Task, reporter: Reporter) -> None:
        self._phase = phase
        self._task = task
        self._reporter = reporter
        self._best = -1.0

    def update(self, study: Any, wanted: int | None) -> None:
        self._task.advance(len(finished_trials(study)), wanted)
        values = [trial.value for trial in complete_trials(study)]
        best = max(values, default=-1.0)
        if best > self._best:
            self._best = best
            self._reporter.say(
                f"  {self._phase.name:<10} best so far: gain {best:.5f}, trial {len(values)}"
            )


def _run_workers(files: StudyFiles, phase: Phase, limits: Limits, progress: _Progress) -> None:
    """Run the trials that are still missing, and abandon them at the deadline."""
    study = open_study(files, phase.study_name)
    before = len(finished_trials(study))
    left = UNLIMITED if limits.trials is None else max(0, limits.trials - before)
    count = min(limits.processes, left)
    context = multiprocessing.get_context("spawn")
    # Each worker begins with one trial, and takes a permit for each further one.
    permits = context.Semaphore(left - count)
    first_seed = phase.start.seed + 7_919 * before
    workers = [
        context.Process(
            target=_work,
            args=(files, phase, permits, limits.deadline, first_seed + number),
            daemon=True,
        )
        for number in range(count)
    ]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            time.sleep(POLL_S)
            progress.update(study, limits.trials)
            if _is_past(limits.deadline) and complete_trials(study):
                break
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
            worker.join()
        _abandon_running(study)
    progress.update(study, limits.trials)


def _work(
    files: StudyFiles, phase: Phase, permits: Semaphore, deadline: float | None, seed: int
) -> None:
    """Run trials in a worker process, until permits or time are used up."""

    def stop_without_permit(study: Any, _trial: Any) -> None:
        if _is_past(deadline) or not permits.acquire(block=False):
            study.stop()

    study = open_study(files, phase.study_name, seed)
    objective = Objective(files, phase)
    study.optimize(objective, callbacks=[stop_without_permit], catch=(Exception,))


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _abandon_running(study: Any) -> None:
    """Mark running trials as failed: the sampler would treat them as running forever."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _explain_failure(study: Any, phase: str, *, in_time: bool) -> str:
    errors = [trial.user_attrs["error"] for trial in finished_trials(study) if _has_failed(trial)]
    if errors:
        return f"all {len(errors)} trials of '{phase}' failed, the last one with {errors[-1]}"
    if in_time:
        return f"no trial of '{phase}' ended in time: give more --minutes"
    return f"no trial of '{phase}' has a value: start a new study with --study"


def _has_failed(trial: Any) -> bool:
    return trial.state.name == "FAIL" and "error" in trial.user_attrs


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

        parameters = replace(self._phase.start, **tuning_space.suggest(trial, self._phase.space))
        try:
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
