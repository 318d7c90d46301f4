"""The parameter search of `nextsong tune`, by optuna on validation playlists.

STUDY/trials.journal   optuna's journal: the trials of all phases, and figures on test playlists
STUDY/best-DIGEST.npz  the best co-occurrence weights and vectors, combined by the phase `query`
STUDY/scratch          temporary files

The test playlists are used only if the best parameters are significantly better than those of the
current release, and only once for the same parameters.
"""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from catalog.errors import MissingExtraError
from catalog.files import lock_folder, make_folder
from evaluation.tune.data import (
    digest_parameters,
    locate_files,
    read_best_arrays,
    read_tuning_data,
    save_best_arrays,
)
from evaluation.tune.objective import prepare_phase
from evaluation.tune.outcome import Choice, Search, assess, evaluate_current
from evaluation.tune.space import PHASES, set_values
from evaluation.tune.trials import Limits, run_phase
from ingest.saved_parameters import last_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optuna.study import Study

    from catalog.console.progress import Reporter
    from evaluation.systems.location import StoreLocation
    from evaluation.tune.data import StudyFiles, TuningData
    from evaluation.tune.outcome import Outcome
    from ingest.parameters import Parameters

TRIAL_SHARES = {"count": 0.4, "train": 0.3, "query": 0.3}  # shares of the trials, by phase
TIME_SHARES = {"count": 0.35, "train": 0.5, "query": 0.15}  # shares of the time, by phase
RESERVED_TIME = 0.1  # share of the time limit for scoring the best parameters at the end


@dataclass(frozen=True)
class Budget:
    """The limits of a study: trials, minutes and worker processes. None means no limit."""

    trials: int | None = 60
    minutes: float | None = None
    processes: int = 2


def divide_trials(trials: int | None) -> dict[str, int | None]:
    """Divide 6 or more trials among the phases, at least 2 for each. None means no limit."""
    if trials is None:
        return dict.fromkeys(PHASES)
    ends = [round(trials * share) for share in accumulate(TRIAL_SHARES.values())]
    return {phase: end - start for phase, start, end in zip(PHASES, [0, *ends], ends, strict=False)}


def compute_deadline(phase: str, now: float, end: float) -> float:
    """Return the deadline of a phase that starts at `now`, if all phases must end by `end`.

    All times are in seconds.
    """
    shares_left = sum(TIME_SHARES[name] for name in PHASES[PHASES.index(phase) :])
    return now + max(0.0, end - now) * TIME_SHARES[phase] / shares_left


def read_start(work: Path, seed: int | None = None) -> Parameters:
    """Return the parameters of the last ingest run in `work`, from which a study starts.

    `seed`, if given, replaces the seed of these parameters. Raises `MismatchError` if `work` has
    no training, validation and test playlists.
    """
    parameters = last_parameters(work)
    return parameters if seed is None else replace(parameters, seed=seed)


def tune(
    location: StoreLocation,
    work: Path,
    study: Path,
    start: Parameters,
    budget: Budget,
    reporter: Reporter,
) -> Outcome:
    """Search for better parameters than those of the current release, on the playlists in `work`.

    The search begins with `start`. The study is stored in the folder `study`, where a later call
    continues it. Raises `NoReleaseError`, `MismatchError`, `MissingExtraError`, or `BusyError` if
    another process uses the folder.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("trials", "tune") from error
    began = time.monotonic()
    end = None if budget.minutes is None else began + 60 * budget.minutes * (1 - RESERVED_TIME)
    files = locate_files(work, study)
    with lock_scratch_folder(files):
        workers = start.workers or max(1, start.training_threads() // budget.processes)
        start = replace(start, workers=workers)
        current = evaluate_current(location, work, reporter)
        data = read_tuning_data(files, start)
        search = _run_phases(files, start, data, budget, end, reporter)
        choice = Choice(read_best_arrays(files, data, search.chosen), search.chosen)
        return assess(search, choice, current, asdict(budget), reporter)


@contextmanager
def lock_scratch_folder(files: StudyFiles) -> Iterator[None]:
    """Lock the folder of a study, and create a scratch folder that is removed at the end."""
    with lock_folder(files.study, "nextsong tune"):
        shutil.rmtree(files.scratch, ignore_errors=True)  # left by a run that was killed
        make_folder(files.scratch)
        try:
            yield
        finally:
            shutil.rmtree(files.scratch, ignore_errors=True)


def _run_phases(
    files: StudyFiles,
    start: Parameters,
    data: TuningData,
    budget: Budget,
    end: float | None,
    reporter: Reporter,
) -> Search:
    """Run all phases, each of which starts from the best parameters of the previous phase."""
    chosen = start
    studies: dict[str, Study] = {}
    trials = divide_trials(budget.trials)
    for name in PHASES:
        with reporter.task(f"tune {name}") as task:
            if name == "query":
                save_best_arrays(files, data, chosen)
            phase = prepare_phase(files, name, chosen, data.plays)
            deadline = None if end is None else compute_deadline(name, time.monotonic(), end)
            limits = Limits(trials[name], deadline, budget.processes)
            studies[name] = run_phase(phase, limits, task, reporter)
            chosen = set_values(chosen, studies[name].best_params)
    digest = digest_parameters(files, chosen, "prepare", "split", "count", "train", "query", "rank")
    return Search(start, chosen, digest, data.plays, studies)
