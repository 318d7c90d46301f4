"""The trials of one phase of a study, done in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import MismatchError
from evaluation.tune import files
from evaluation.tune import space as tune_space
from ingest.parameters import Parameters
from ingest.stages import fingerprint_of

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore

    from catalog.progress import Reporter, Task
    from evaluation.tune.files import Places
    from evaluation.tune.space import Held

LOOK_S = 0.3
CHUNKS = 4
"""A trial is judged in so many steps, after each of which a weak one is ended."""

UNLIMITED = 1_000_000


@dataclass(frozen=True)
class Phase:
    """One phase: which parameters it changes (`space`), from what, and what it depends on.

    `made_of` is the digest of what does not change; trials of another one say nothing of this.
    `plays` are those of the training playlists.
    """

    name: str
    start: Parameters
    space: dict[str, Any]
    plays: int
    made_of: str

    @staticmethod
    def of(places: Places, name: str, start: Parameters, plays: int) -> Phase:
        """The phase as it begins at `start`; for `query`, makes what its trials are judged with."""
        space = tune_space.space(name, start, plays)
        # What is tuned here is no condition of the trials, all else is.
        rest = replace(start, **{one: getattr(Parameters, one) for one in space})
        stages = ("count", "train", "query") if name == "query" else (name,)
        made_of = [
            files.digest_of(places, rest, *stages),
            start.catalog_min,
            {one: list(v) for one, v in space.items() if not tune_space.is_range(v)},
        ]
        if name == "query":
            made_of.append(files.make_best(places, start))
        return Phase(name, start, space, plays, fingerprint_of(made_of)[:16])

    @property
    def study(self) -> str:
        """The name of its study in the journal."""
        return f"{self.name} {self.made_of}"


def study_of(places: Places, name: str, seed: int = 0) -> Any:
    """The optuna study of this name, created if need be. It maximises the mean discounted gain.

    `seed` is that of its sampler: each process has its own.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = JournalFileBackend(str(places.study / "trials.journal"))
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


def finished(study: Any) -> list[Any]:
    """The trials that came to an end, by themselves or early, or that failed by themselves."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED")
        or (trial.state.name == "FAIL" and "error" in trial.user_attrs)
    ]


def complete(study: Any) -> list[Any]:
    """The trials that have a figure."""
    return [trial for trial in finished(study) if trial.state.name == "COMPLETE"]


def run_phase(
    places: Places,
    phase: Phase,
    wanted: int | None,
    deadline: float | None,
    processes: int,
    task: Task,
    reporter: Reporter,
) -> dict[str, Any]:
    """Have trials done until there are `wanted` in all, or until the deadline: the best choice.

    At the deadline, a time of `time.monotonic`, trials under way are given up, but for the first
    one. Raises `MismatchError` where none has a figure.
    """
    study = study_of(places, phase.study)
    first = tune_space.start_of(phase.start, phase.space, phase.plays)
    if all(trial.params != first for trial in study.get_trials(deepcopy=False)):
        study.enqueue_trial(first, skip_if_exists=True)
    left = UNLIMITED if wanted is None else max(0, wanted - len(finished(study)))
    context = multiprocessing.get_context("spawn")
    # A process takes one of these before each trial: together they do no more than is wanted.
    turns = context.Semaphore(left)
    workers = [
        context.Process(target=_work, args=(places, phase, turns, deadline, number), daemon=True)
        for number in range(min(processes, left))
    ]
    for worker in workers:
        worker.start()
    best = -1.0
    try:
        while any(worker.is_alive() for worker in workers):
            time.sleep(LOOK_S)
            task.advance(len(finished(study)), wanted)
            best = _say_if_better(study, phase.name, best, reporter)
            if deadline is not None and time.monotonic() > deadline and complete(study):
                break
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
            worker.join()
        _give_up(study)
    _say_if_better(study, phase.name, best, reporter)
    chosen = complete(study)
    if not chosen:
        raise MismatchError(_why_none(study, phase.name, in_time=deadline is not None))
    ended = finished(study)
    counts = {state: sum(t.state.name == state for t in ended) for state in ("PRUNED", "FAIL")}
    failed = f", {counts['FAIL']} failed" if counts["FAIL"] else ""
    task.result(
        f"{len(ended)} trials, {counts['PRUNED']} ended early{failed}; best gain "
        f"{study.best_value:.5f}"
    )
    found: dict[str, Any] = study.best_trial.params
    return found


def _give_up(study: Any) -> None:
    """Take trials that nobody works on any more for failed: the sampler would wait for them."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)


def _why_none(study: Any, phase: str, *, in_time: bool) -> str:
    failed = [trial for trial in finished(study) if trial.state.name == "FAIL"]
    if failed:
        why = failed[-1].user_attrs["error"]
        return f"all {len(failed)} trials of '{phase}' failed, the last one so: {why}"
    if in_time:
        return f"no trial of '{phase}' ended in time: give more --minutes"
    return f"no trial of '{phase}' has a figure: start it anew in another --study"


def _say_if_better(study: Any, phase: str, best: float, reporter: Reporter) -> float:
    values = [trial.value for trial in complete(study)]
    found = max(values, default=-1.0)
    if found > best:
        reporter.say(f"  {phase:<10} best so far: gain {found:.5f}, trial {len(values)}")
    return float(max(found, best))


def _work(
    places: Places, phase: Phase, turns: Semaphore, deadline: float | None, number: int
) -> None:
    """Do trials, in a process of its own, as long as there are turns, and time for one more."""
    done = len(finished(study_of(places, phase.study)))
    study = study_of(places, phase.study, seed=phase.start.seed + 7_919 * done + number)
    trial = Trials(places, phase)
    while turns.acquire(block=False):
        if deadline is not None and complete(study):
            durations = [one.duration.total_seconds() for one in finished(study) if one.duration]
            if time.monotonic() + float(np.median(durations)) > deadline:
                return
        study.optimize(trial.value_of, n_trials=1, catch=(Exception,))


class Trials:
    """What a process needs for its trials, read once."""

    def __init__(self, places: Places, phase: Phase) -> None:
        self._places = places
        self._phase = phase
        self._held = places.held(phase.start)
        self._ready = (
            files.best_arrays(places, self._held, phase.start) if phase.name == "query" else None
        )

    def value_of(self, trial: Any) -> float:
        """Make and judge what a trial chooses; why one fails is kept with it."""
        try:
            return self._value_of(trial)
        except Exception as error:
            import optuna

            if not isinstance(error, optuna.TrialPruned):
                trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise

    def _value_of(self, trial: Any) -> float:
        held, places, phase = self._held, self._places, self._phase
        chosen = tune_space.suggest(trial, phase.space)
        these = tune_space.with_chosen(phase.start, chosen)
        arrays: Any
        if phase.name == "count":
            arrays = tune_space.arrays_of(held, tune_space.counted(held, these))
        elif phase.name == "train":
            quarter = replace(these, epochs=max(1, these.epochs_for(held.plays) // 4))
            short = files.vectors_of(places, held, quarter, keep=False)
            early = tune_space.arrays_of(held, vectors=short)
            trial.report(tune_space.value_of(early, held, these, phase.name), 0)
            _end_if_weak(trial)
            vectors = files.vectors_of(places, held, these, keep=False)
            arrays = tune_space.arrays_of(held, vectors=vectors)
        else:
            arrays = self._ready
        value = judged(trial, arrays, held, these, phase.name)
        if phase.name == "train":
            figures = [one.value for one in complete(trial.study)]
            if value >= max(figures, default=-1.0):
                files.keep_vectors(places, these, vectors)
        return value


def judged(trial: Any, arrays: Any, held: Held, parameters: Parameters, phase: str) -> float:
    """The mean gain over all queries, in steps after each of which a weak trial is ended.

    Raises `optuna.TrialPruned`.
    """
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
            _end_if_weak(trial)
    return total / max(1, seen)


def _end_if_weak(trial: Any) -> None:
    import optuna

    if trial.should_prune():
        raise optuna.TrialPruned
