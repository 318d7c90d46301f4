"""`nextsong tune`: an optuna study of the parameters, scored on validation playlists.

The trials are kept in a journal file, so that several processes share it and a later run continues
it. The test playlists are used once, for a choice that is significantly better than the current
release.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from catalog.errors import MissingExtraError
from catalog.files import write_atomically
from evaluation.tune import files as study_files
from evaluation.tune import outcome as tuning_outcome
from evaluation.tune.files import StudyFiles
from evaluation.tune.objective import Phase
from evaluation.tune.space import PHASES
from evaluation.tune.trials import Limits, finished_trials, open_study, run_phase
from ingest.saved_parameters import last_parameters
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.console.progress import Reporter
    from evaluation.systems.location import StoreLocation
    from ingest.parameters import Parameters

TRIAL_SHARES = {"count": 0.4, "train": 0.3, "query": 0.3}
TIME_SHARES = {"count": 0.35, "train": 0.5, "query": 0.15}
RESERVED_TIME = 0.1  # share of the time that is kept for scoring the choice
MIN_TRIALS = 2  # trials of a phase: its start, and one more


@dataclass(frozen=True)
class Budget:
    """The number of trials in all, the minutes (None is no limit), and the worker processes."""

    trials: int | None = 60
    minutes: float | None = None
    processes: int = 2


def divide_trials(trials: int | None) -> dict[str, int | None]:
    """Divide the trials among the phases, at least `MIN_TRIALS` each; None is no limit."""
    if trials is None:
        return dict.fromkeys(PHASES)
    counts = {phase: max(MIN_TRIALS, int(trials * share)) for phase, share in TRIAL_SHARES.items()}
    for phase in PHASES:
        if sum(counts.values()) < trials:
            counts[phase] += 1
    while sum(counts.values()) > max(trials, MIN_TRIALS * len(PHASES)):
        counts[max(counts, key=lambda phase: counts[phase])] -= 1
    return dict(counts)


def phase_deadline(phase: str, now: float, end: float) -> float:
    """Return when a phase that starts now must end: its share of the time left until `end`."""
    shares_left = sum(TIME_SHARES[name] for name in PHASES[PHASES.index(phase) :])
    return now + max(0.0, end - now) * TIME_SHARES[phase] / shares_left


def read_start(work: Path, seed: int | None = None) -> Parameters:
    """Return the parameters that a study starts from: those of the last ingest run in `work`.

    `seed` replaces the seed of the training. Raises `MismatchError`.
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
) -> dict[str, Any]:
    """Search for parameters that are better than the current release's on the playlists in `work`.

    The study starts from `start`. Returns the outcome (see `outcome.assess`), and writes it to
    `outcome.json` in the folder `study`. Raises `NoReleaseError`, `MismatchError` or
    `MissingExtraError`.
    """
    _require_optuna()
    began = time.monotonic()
    with study_files.with_scratch(StudyFiles.locate(work, study)) as files:
        start = _resolve_order(work, start)
        start = replace(
            start, workers=start.workers or max(1, start.training_threads() // budget.processes)
        )
        current = tuning_outcome.score_current(location, work, reporter)
        data = files.read_data(start)
        end = None if budget.minutes is None else began + 60 * budget.minutes * (1 - RESERVED_TIME)
        chosen, summary = _run_phases(files, start, data.plays, budget, end, reporter)
        outcome = tuning_outcome.assess(files, data, current, start, chosen, reporter)
    outcome |= summary | {"budget": asdict(budget)}
    write_atomically(files.study / tuning_outcome.FILE, json.dumps(outcome, indent=2) + "\n")
    return outcome


def _run_phases(
    files: StudyFiles,
    start: Parameters,
    plays: int,
    budget: Budget,
    end: float | None,
    reporter: Reporter,
) -> tuple[Parameters, dict[str, Any]]:
    """Run all phases; return the best parameters, and by phase the trials and the study's name."""
    chosen, counts, names = start, {}, {}
    trials = divide_trials(budget.trials)
    for name in PHASES:
        with reporter.task(f"tune {name}") as task:
            phase = Phase.prepare(files, name, chosen, plays)
            deadline = None if end is None else phase_deadline(name, time.monotonic(), end)
            limits = Limits(trials[name], deadline, budget.processes)
            chosen = replace(chosen, **run_phase(files, phase, limits, task, reporter))
            names[name] = phase.study_name
            counts[name] = len(finished_trials(open_study(files, phase.study_name)))
            if name == "train":
                study_files.remove_other_vectors(files, chosen)
    return chosen, {"trials": counts, "studies": names}


def log_payload(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the log of runs keeps of a study, with its figures under the usual names."""
    figures = {f"hr@{k}": outcome["validation"][f"tuned HR@{k}"] for k in (10, 100)}
    return {**outcome, "split": "validation", "figures": figures}


def open_studies(work: Path, study: Path) -> dict[str, Any]:
    """Open the optuna study of each phase of the last outcome in the folder `study`."""
    files = StudyFiles.locate(work, study)
    last = tuning_outcome.read_last(files) or {"studies": {}}
    return {phase: open_study(files, name) for phase, name in last["studies"].items()}


def _resolve_order(work: Path, start: Parameters) -> Parameters:
    if start.order != "auto":
        return start
    return start.with_order(finished_stage(work, "prepare").summary["order"]["found"])


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("trials", "tune") from error
