"""The trials of one phase of a study, run in worker processes that share an optuna journal."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import MismatchError
from evaluation.tune.objective import Objective, complete_trials
from evaluation.tune.space import start_values

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore

    from catalog.console.progress import Reporter, Task
    from evaluation.tune.files import StudyFiles
    from evaluation.tune.objective import Phase

POLL_S = 0.3
UNLIMITED = 1_000_000  # trials
SEED_STEP = 7_919  # a run that continues a study has other sampler seeds than before


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


def run_phase(
    files: StudyFiles, phase: Phase, limits: Limits, task: Task, reporter: Reporter
) -> dict[str, Any]:
    """Run trials until a limit is reached; return the parameters of the best one.

    Trials of earlier runs count towards the limit. At the deadline, running trials are abandoned,
    except that the first trial of a study always completes. Raises `MismatchError` if no trial has
    a value.
    """
    study = open_study(files, phase.study_name)
    first = start_values(phase.start, phase.space, phase.plays)
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
    first_seed = phase.start.seed + SEED_STEP * before
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
