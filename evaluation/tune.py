"""`nextsong tune`: an optuna study of the parameters, judged on validation playlists.

Its trials are kept in a journal file, so that several processes can share it and a later run goes
on where this one stopped. The test split is looked at once, for what was chosen.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import MismatchError, MissingExtraError
from catalog.storage import make_folder, write_atomically
from evaluation import tune_space
from evaluation.tune_space import PHASES
from ingest.ranker import comparison
from ingest.work import finished_stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.reporting import Reporter, Task
    from evaluation.tune_space import Held
    from ingest.parameters import Parameters

SHARES = {"count": 0.4, "train": 0.3, "query": 0.3}
"""Each phase's share of the trials; of the time, `TIMES`."""

TIMES = {"count": 0.35, "train": 0.5, "query": 0.15}
LOOK_S = 0.5
CHUNKS = 4
"""A trial is judged in so many steps, after each of which a weak one is ended."""


@dataclass(frozen=True)
class Budget:
    """How many trials in all, how many minutes at most, if any, and in how many processes."""

    trials: int = 60
    minutes: float | None = None
    processes: int = 2


@dataclass(frozen=True)
class Places:
    """Files of the ingest run whose playlists are tuned for, and the study's own folder."""

    songs: Path
    train: Path
    validation: Path
    test: Path
    study: Path
    split: str

    @staticmethod
    def of(work: Path, study: Path) -> Places:
        """The files in a work folder. Raises `MismatchError`."""
        splits = finished_stage(work, "split")
        if not (splits.summary["validation"] and splits.summary["test"]):
            raise MismatchError("no playlist falls to validation or test: give more playlists")
        folder = splits.folder
        return Places(
            finished_stage(work, "prepare").folder / "songs.parquet",
            folder / "train.parquet",
            folder / "validation.parquet",
            folder / "test.parquet",
            make_folder(study),
            splits.fingerprint,
        )


def tune(
    work: Path, study: Path, start: Parameters, budget: Budget, reporter: Reporter
) -> dict[str, Any]:
    """Search better parameters than `start`'s for the playlists in `work`.

    Returns, and writes to `outcome.json` in the folder `study`: `parameters`, those that differ;
    `validation` and `test`, figures of the last songs of those playlists, by hybrid search, of the
    start and of what was chosen. Raises `MismatchError` or `MissingExtraError`.
    """
    _require_optuna()
    places = Places.of(work, study)
    ordered = finished_stage(work, "prepare").summary["order"]["found"] != "none"
    if start.order == "auto":
        start = start.in_order("played" if ordered else "none")
    threads = max(1, start.training_threads() // budget.processes)
    start = replace(start, workers=start.workers or threads)
    began, chosen = time.monotonic(), start
    for phase in PHASES:
        with reporter.task(f"tune {phase}") as task:
            deadline = _deadline(budget, phase, began)
            best = _run_phase(places, phase, chosen, ordered, budget, deadline, task, reporter)
            chosen = tune_space.with_chosen(chosen, best)
    with reporter.task("judge") as task:
        outcome = _outcome(places, start, chosen, budget)
        figures = outcome["validation"]
        task.result(
            f"HR@10 {figures['tuned HR@10']:.4f} and HR@100 {figures['tuned HR@100']:.4f} on "
            f"validation; before, {figures['start HR@10']:.4f} and {figures['start HR@100']:.4f}"
        )
    write_atomically(places.study / "outcome.json", json.dumps(outcome, indent=2) + "\n")
    return outcome


def study_of(places: Places, phase: str) -> Any:
    """The optuna study of a phase, created if need be. It maximises the mean discounted gain."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = JournalFileBackend(str(places.study / "trials.journal"))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(journal),
        study_name=f"{phase} {places.split[:12]}",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(n_startup_trials=8, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("trials", "tune") from error


def _deadline(budget: Budget, phase: str, began: float) -> float | None:
    if budget.minutes is None:
        return None
    upto = sum(TIMES[name] for name in PHASES[: PHASES.index(phase) + 1])
    return began + 60 * budget.minutes * upto


def _run_phase(
    places: Places,
    phase: str,
    parameters: Parameters,
    ordered: bool,
    budget: Budget,
    deadline: float | None,
    task: Task,
    reporter: Reporter,
) -> dict[str, Any]:
    """Have the phase's trials done, and return the best one's choice."""
    study = study_of(places, phase)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(tune_space.start_of(parameters, phase, ordered=ordered))
    wanted = max(2, round(budget.trials * SHARES[phase]))
    # A query trial is judged with the best arrays of the phases before: made once, here.
    _prepare(places, phase, parameters)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=_work, args=(places, phase, parameters, ordered, wanted, deadline), daemon=True
        )
        for _ in range(min(budget.processes, wanted - len(_finished(study))))
    ]
    for worker in workers:
        worker.start()
    try:
        best = -1.0
        while any(worker.is_alive() for worker in workers):
            time.sleep(LOOK_S)
            done = _finished(study)
            task.advance(len(done), wanted)
            best = _say_if_better(study, phase, best, reporter)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
            worker.join()
    _say_if_better(study, phase, best, reporter)
    done = _finished(study)
    pruned = sum(trial.state.name == "PRUNED" for trial in done)
    complete = [trial for trial in done if trial.state.name == "COMPLETE"]
    if not complete:
        raise MismatchError(f"no trial of '{phase}' ended in time: give more --minutes")
    task.result(f"{len(done)} trials, {pruned} ended early; best gain {study.best_value:.5f}")
    chosen: dict[str, Any] = study.best_trial.params
    return chosen


def _finished(study: Any) -> list[Any]:
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _say_if_better(study: Any, phase: str, best: float, reporter: Reporter) -> float:
    values = [t.value for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    found = max(values, default=-1.0)
    if found > best:
        reporter.say(f"  {phase:<10} best so far: gain {found:.5f}, trial {len(values)}")
    return float(max(found, best))


def _prepare(places: Places, phase: str, parameters: Parameters) -> None:
    if phase != "query":
        return
    held = _held(places, parameters)
    strengths = tune_space.counted(held, parameters)
    having, vectors = tune_space.trained(held, parameters, places.study)
    np.savez(
        places.study / "best.npz",
        data=strengths.data,
        indices=strengths.indices,
        indptr=strengths.indptr,
        having=having,
        vectors=vectors,
    )


def _best_arrays(places: Places, held: Held) -> Any:
    from scipy.sparse import csr_array

    with np.load(places.study / "best.npz") as best:
        total = len(held.artists)
        strengths = csr_array((best["data"], best["indices"], best["indptr"]), shape=(total, total))
        return tune_space.arrays_of(held, strengths, (best["having"], best["vectors"]))


def _held(places: Places, parameters: Parameters) -> Held:
    return tune_space.load(places.songs, places.train, places.validation, parameters)


def _work(
    places: Places,
    phase: str,
    parameters: Parameters,
    ordered: bool,
    wanted: int,
    deadline: float | None,
) -> None:
    """Do trials, in a process of its own, until all processes together have done `wanted`."""
    import optuna
    from optuna.trial import TrialState

    study = study_of(places, phase)
    held = _held(places, parameters)
    ready = _best_arrays(places, held) if phase == "query" else None

    def objective(trial: Any) -> float:
        arrays: Any
        chosen = tune_space.suggest(trial, phase, ordered=ordered)
        these = tune_space.with_chosen(parameters, chosen)
        if phase == "count":
            arrays = tune_space.arrays_of(held, tune_space.counted(held, these))
        elif phase == "train":
            short = replace(these, epochs=max(1, these.epochs_for(int(held.playlists.sum())) // 4))
            arrays = _trained(held, short, places)
            trial.report(tune_space.value_of(arrays, held, these, phase), 0)
            if trial.should_prune():
                raise optuna.TrialPruned
            arrays = _trained(held, these, places)
        else:
            arrays = ready
        return _judged(trial, arrays, held, these, phase)

    done = optuna.study.MaxTrialsCallback(wanted, states=(TrialState.COMPLETE, TrialState.PRUNED))
    if len(_finished(study)) >= wanted:
        return
    timeout = None if deadline is None else max(1.0, deadline - time.monotonic())
    study.optimize(objective, timeout=timeout, callbacks=[done])


def _trained(held: Held, parameters: Parameters, places: Places) -> Any:
    return tune_space.arrays_of(held, vectors=tune_space.trained(held, parameters, places.study))


def _judged(trial: Any, arrays: Any, held: Held, parameters: Parameters, phase: str) -> float:
    import optuna

    order = np.random.default_rng(0).permutation(len(held.cases.labels))
    total, seen = 0.0, 0
    for step, some in enumerate(np.array_split(order, CHUNKS), start=1):
        if not len(some):
            continue
        part = replace(
            held,
            cases=type(held.cases)(
                [held.cases.queries[place] for place in some], held.cases.labels[some]
            ),
        )
        total += tune_space.value_of(arrays, part, parameters, phase) * len(some)
        seen += len(some)
        if step < CHUNKS:
            trial.report(total / seen, step)
            if trial.should_prune():
                raise optuna.TrialPruned
    return total / max(1, seen)


def _outcome(
    places: Places, start: Parameters, chosen: Parameters, budget: Budget
) -> dict[str, Any]:
    held = _held(places, start)
    before = tune_space.arrays_of(
        held,
        tune_space.counted(held, start),
        tune_space.trained(held, start, places.study),
    )
    after = _best_arrays(places, held)
    first = tune_space.ranks(before, held.lasts, start, "query")
    second = tune_space.ranks(after, held.lasts, chosen, "query")
    better = tune_space.value_of(after, held, chosen, "query") > tune_space.value_of(
        before, held, start, "query"
    )
    if not better:
        after, chosen, second = before, start, first
    tested = tune_space.load(places.songs, places.train, places.test, start)
    test = tune_space.ranks(after, tested.lasts, chosen, "query")
    names = {name for phase in PHASES for name in tune_space.SPACE[phase]}
    return {
        "parameters": {name: getattr(chosen, name) for name in sorted(names)},
        "validation": _figures("tuned", second) | _figures("start", first),
        "test": _figures("tuned", test),
        "playlists": {"validation": len(second), "test": len(test)},
        "beyond chance": comparison(second, first)["better"],
        "trials": {phase: len(_finished(study_of(places, phase))) for phase in PHASES},
        "split": places.split,
        "budget": asdict(budget),
    }


def _figures(name: str, ranks: Any) -> dict[str, float]:
    return {
        f"{name} HR@{k}": float(((ranks > 0) & (ranks <= k)).sum()) / max(1, len(ranks))
        for k in (10, 100)
    }


def studies(work: Path, study: Path) -> Mapping[str, Any]:
    """The study of each phase that has a finished trial."""
    places = Places.of(work, study)
    found = {phase: study_of(places, phase) for phase in PHASES}
    return {phase: one for phase, one in found.items() if _finished(one)}
