"""`nextsong tune`: an optuna study of the parameters, judged on validation playlists.

Its trials are kept in a journal file, so that several processes can share it and a later run goes
on where this one stopped. The test split is asked once, at the end, about each choice that is
significantly better than the current release.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from catalog.errors import MissingExtraError
from catalog.files import write_atomically
from evaluation.tune import files, space
from evaluation.tune import outcome as tune_outcome
from evaluation.tune.files import Places
from evaluation.tune.space import PHASES
from evaluation.tune.trials import Phase, finished, run_phase, study_of
from ingest.last_run import last_parameters
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.progress import Reporter
    from evaluation.systems.location import StoreLocation
    from ingest.parameters import Parameters

SHARES = {"count": 0.4, "train": 0.3, "query": 0.3}
"""Each phase's share of the trials; of the time, `TIMES`."""

TIMES = {"count": 0.35, "train": 0.5, "query": 0.15}

RESERVED = 0.1
"""The share of the time that is kept for scoring what was chosen."""

FEWEST = 2
"""So many trials has each phase: its start, and something else."""


@dataclass(frozen=True)
class Budget:
    """How many trials in all, and how many minutes, None being no bound; in how many processes."""

    trials: int | None = 60
    minutes: float | None = None
    processes: int = 2


def trials_of(trials: int | None) -> dict[str, int | None]:
    """How many trials each phase gets: together just so many, but `FEWEST` each at least."""
    if trials is None:
        return dict.fromkeys(PHASES)
    found = {phase: max(FEWEST, int(trials * share)) for phase, share in SHARES.items()}
    for phase in PHASES:
        if sum(found.values()) < trials:
            found[phase] += 1
    while sum(found.values()) > max(trials, FEWEST * len(PHASES)):
        most = max(found, key=lambda phase: found[phase])
        found[most] -= 1
    return dict(found)


def deadline_of(phase: str, now: float, end: float) -> float:
    """When a phase that begins now is to stop: its share of what is left till `end`."""
    left = sum(TIMES[name] for name in PHASES[PHASES.index(phase) :])
    return now + max(0.0, end - now) * TIMES[phase] / left


def start_of(work: Path, seed: int | None = None) -> Parameters:
    """What a study in this work folder starts from: the parameters of the last ingest run.

    `seed` replaces that of the training. Raises `MismatchError`.
    """
    found = last_parameters(work)
    return found if seed is None else replace(found, seed=seed)


def tune(
    location: StoreLocation,
    work: Path,
    study: Path,
    start: Parameters,
    budget: Budget,
    reporter: Reporter,
) -> dict[str, Any]:
    """Search better parameters than the current release's for the playlists in `work`.

    The study begins at `start`. Returns, and writes to `outcome.json` in the folder `study`, what
    `tune_outcome.outcome` says of the choice. Raises `NoReleaseError`, `MismatchError` or
    `MissingExtraError`.
    """
    _require_optuna()
    began = time.monotonic()
    with files.with_scratch(Places.of(work, study)) as places:
        start = _settled(work, start)
        start = replace(
            start, workers=start.workers or max(1, start.training_threads() // budget.processes)
        )
        current = tune_outcome.score_current(location, work, reporter)
        held = places.held(start)
        end = None if budget.minutes is None else began + 60 * budget.minutes * (1 - RESERVED)
        chosen, ran = _search(places, start, held.plays, budget, end, reporter)
        outcome = tune_outcome.outcome(places, held, current, start, chosen, reporter)
    outcome |= ran | {"budget": asdict(budget)}
    write_atomically(places.study / tune_outcome.FILE, json.dumps(outcome, indent=2) + "\n")
    return outcome


def _search(
    places: Places,
    start: Parameters,
    plays: int,
    budget: Budget,
    end: float | None,
    reporter: Reporter,
) -> tuple[Parameters, dict[str, Any]]:
    """Run all phases: the best choice, and by phase its trials and its study's name."""
    chosen, counts, names = start, {}, {}
    trials = trials_of(budget.trials)
    for name in PHASES:
        with reporter.task(f"tune {name}") as task:
            phase = Phase.of(places, name, chosen, plays)
            deadline = None if end is None else deadline_of(name, time.monotonic(), end)
            best = run_phase(
                places, phase, trials[name], deadline, budget.processes, task, reporter
            )
            names[name], counts[name] = phase.study, len(finished(study_of(places, phase.study)))
            chosen = space.with_chosen(chosen, best)
            if name == "train":
                files.forget_vectors(places, [chosen])
    return chosen, {"trials": counts, "studies": names}


def payload(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What the log of runs keeps of a study, with its figures under the names of evaluations."""
    figures = {f"hr@{k}": outcome["validation"][f"tuned HR@{k}"] for k in (10, 100)}
    return {**outcome, "split": "validation", "figures": figures}


def studies(work: Path, study: Path) -> dict[str, Any]:
    """The study of each phase that led to the last outcome in the folder `study`."""
    places = Places.of(work, study)
    last = tune_outcome.last(places)
    return {
        phase: study_of(places, name)
        for phase, name in (last or {"studies": {}})["studies"].items()
    }


def _settled(work: Path, start: Parameters) -> Parameters:
    if start.order != "auto":
        return start
    return start.in_order(finished_stage(work, "prepare").summary["order"]["found"])


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("trials", "tune") from error
