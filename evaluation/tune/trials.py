"""The trials of a phase of a tuning study, run in worker processes that share optuna's journal."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import MismatchError
from evaluation.tune.objective import Objective

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from catalog.console.progress import Reporter, Task
    from evaluation.tune.objective import Phase

JOURNAL = "trials.journal"  # name of the file in the folder of the study
POLL_S = 0.3  # seconds between two checks of the worker processes
SEED_STEP = 7_919  # seed increment per finished trial; a continued study draws new values


@dataclass(frozen=True)
class Limits:
    """The limits of a phase. None means no limit.

    `deadline` is a time of `time.monotonic`, in seconds.
    """

    trials: int | None
    deadline: float | None
    processes: int


def open_study(folder: Path, name: str, seed: int = 0) -> Study:
    """Open the optuna study `name` in the journal of a folder, or create it.

    `seed` is the seed of the sampler. Each process needs a different seed.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():  # multivariate sampling is marked as experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=8, multivariate=True, constant_liar=True, seed=seed
        )
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )


def get_complete_trials(study: Study) -> list[FrozenTrial]:
    """Return the completed trials of a study, which have a value."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def get_finished_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that completed, were pruned, or raised an error.

    Trials that were abandoned at a deadline are not included.
    """
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED") or "error" in trial.user_attrs
    ]


def run_phase(phase: Phase, limits: Limits, task: Task, reporter: Reporter) -> Study:
    """Run the trials of a phase until a limit is reached, and return the optuna study.

    Trials of earlier runs count towards the limit. At the deadline, running trials are abandoned,
    except that the first trial of a study always completes. Raises `MismatchError` if no trial has
    a value.
    """
    study = open_study(phase.files.study, phase.study_name)
    if all(trial.params != phase.first for trial in study.get_trials(deepcopy=False)):
        study.enqueue_trial(phase.first, skip_if_exists=True)
    _run_workers(study, phase, limits, task, reporter)
    if not get_complete_trials(study):
        raise MismatchError(_explain_failure(study, phase.name, limits))
    states = [trial.state.name for trial in get_finished_trials(study)]
    failed = f", {states.count('FAIL')} failed" if "FAIL" in states else ""
    task.result(
        f"{len(states)} trials, {states.count('PRUNED')} ended early{failed}; best gain "
        f"{study.best_value:.5f}"
    )
    return study


def _run_workers(
    study: Study, phase: Phase, limits: Limits, task: Task, reporter: Reporter
) -> None:
    """Run trials in worker processes, and abandon trials that still run at the deadline."""
    from optuna.trial import TrialState

    before = len(get_finished_trials(study))
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=_run_trials,
            args=(phase, count, limits.deadline, phase.start.seed + SEED_STEP * before + number),
            daemon=True,
        )
        for number, count in enumerate(_divide_among_workers(limits, before))
    ]
    for worker in workers:
        worker.start()
    best = -1.0
    try:
        while any(worker.is_alive() for worker in workers):
            time.sleep(POLL_S)
            best = _report_progress(study, best, phase.name, limits.trials, task, reporter)
            if _is_past(limits.deadline) and get_complete_trials(study):
                break
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
        # Mark abandoned trials as failed, because the sampler would treat them as still running.
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
    _report_progress(study, best, phase.name, limits.trials, task, reporter)


def _divide_among_workers(limits: Limits, before: int) -> list[int | None]:
    """Return the number of trials for each worker process, or None for no limit.

    `before` is the number of trials that finished in earlier runs.
    """
    if limits.trials is None:
        return [None] * limits.processes
    left = max(0, limits.trials - before)
    whole, rest = divmod(left, limits.processes)
    counts = [whole + (worker < rest) for worker in range(limits.processes)]
    return [count for count in counts if count]


def _run_trials(phase: Phase, count: int | None, deadline: float | None, seed: int) -> None:
    """Run `count` trials in a worker process, but start no trial after the deadline."""

    def stop_at_deadline(study: Study, _trial: FrozenTrial) -> None:
        if _is_past(deadline):
            study.stop()

    study = open_study(phase.files.study, phase.study_name, seed)
    study.optimize(
        Objective(phase), n_trials=count, callbacks=[stop_at_deadline], catch=(Exception,)
    )


def _report_progress(
    study: Study, best: float, phase: str, wanted: int | None, task: Task, reporter: Reporter
) -> float:
    """Report the number of finished trials, and the best value if it has increased.

    Returns the best value of all trials.
    """
    task.advance(len(get_finished_trials(study)), wanted)
    complete = get_complete_trials(study)
    value = max((trial.value or 0.0 for trial in complete), default=-1.0)
    if value > best:
        reporter.say(f"  {phase:<10} best so far: gain {value:.5f}, trial {len(complete)}")
    return max(best, value)


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _explain_failure(study: Study, phase: str, limits: Limits) -> str:
    errors = [trial.user_attrs["error"] for trial in get_finished_trials(study)]
    if errors:
        return f"all {len(errors)} trials of '{phase}' failed, the last one with {errors[-1]}"
    if limits.deadline is not None:
        return f"no trial of '{phase}' ended in time: give more --minutes"
    return f"no trial of '{phase}' has a value: start a new study with --study"
