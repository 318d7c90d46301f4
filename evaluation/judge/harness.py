"""Scores a release, or the service, and baselines on held-out playlists."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from catalog.errors import InputError, MismatchError
from catalog.index_quality import measure_recall_by_filter
from evaluation.baselines import choice
from evaluation.judge import machine
from evaluation.judge.behaviour import behaviours
from evaluation.judge.comparison import METRICS, METRICS_OF_HALVES, compared
from evaluation.judge.intervals import Figure, estimate
from evaluation.judge.result import Conditions, Evaluation, Scored
from evaluation.judge.slices import sliced
from evaluation.metrics import continuation, table
from evaluation.protocol import dataset as datas
from evaluation.protocol.cases import load_queries
from evaluation.protocol.leaks import find_leaks
from evaluation.runs import history, log
from evaluation.systems.adapter import Adapted
from evaluation.systems.release import MODES, Release, distinct_modes
from evaluation.systems.remote import Service, serving_release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from catalog.index_quality import Recall
    from catalog.progress import Reporter
    from catalog.store import OpenRelease
    from evaluation.judge.behaviour import Behaviour
    from evaluation.judge.result import Comparison, Slice
    from evaluation.protocol.cases import Holdout, Queries, Split
    from evaluation.protocol.dataset import Data
    from evaluation.systems.adapter import Recommender
    from evaluation.systems.location import Place
    from evaluation.systems.release import System

DEPTH = 100

MODES_SCORED = ("auto", "dense", "cooccurrence")


@dataclass(frozen=True)
class Plan:
    """What is evaluated, and how.

    `holdout` None takes the last song, or a random one of playlists whose order says nothing;
    `sample` bounds the playlists that are asked; `target` is the address of a service to be scored
    in place of the release; a baseline that takes more than `patience` seconds is left out.
    """

    split: Split = "validation"
    holdout: Holdout | None = None
    baselines: tuple[str, ...] = choice.QUICK
    modes: tuple[str, ...] = MODES_SCORED
    sample: int | None = None
    seed: int = 0
    processes: int | None = None
    target: str | None = None
    behaviours: bool = True
    recall: bool = True
    patience: float = 600.0

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(f"there is no mode '{mode}'; there are {', '.join(MODES)}")
        if not self.modes:
            raise InputError("no mode is left to score")


def evaluate(
    place: Place,
    work: Path,
    plan: Plan,
    reporter: Reporter,
    release: str | None = None,
    own: Mapping[str, Recommender] | None = None,
) -> Evaluation:
    """`measure`, and record the evaluation in the log of runs."""
    result = measure(place, work, plan, reporter, release, own)
    history.keep(place.folder, result, reporter)
    return result


def measure(
    place: Place,
    work: Path,
    plan: Plan,
    reporter: Reporter,
    release: str | None = None,
    own: Mapping[str, Recommender] | None = None,
) -> Evaluation:
    """Score a release, the current one if none is named, and baselines, on a split.

    `work` is the folder that the release was made in. `own` are recommenders of one's own, by the
    names that they shall have, scored beside the release. The caller records the result with
    `past.keep`. Raises `MismatchError` and what reading a release, asking a service and learning a
    baseline raise.
    """
    choice.require_libraries(plan.baselines)
    opened = place.open(_served_release(place, plan.target) if plan.target else release)
    try:
        return _measure(place, opened, work, plan, reporter, own or {})
    finally:
        opened.close()


def _served_release(place: Place, target: str) -> str:
    release = serving_release(target)
    if release not in place.releases():
        raise MismatchError(
            f"the service at {target} answers from release {release}, which is not in "
            f"{place.folder}: name its home with --home or --qdrant-url"
        )
    return release


def _measure(
    place: Place,
    release: OpenRelease,
    work: Path,
    plan: Plan,
    reporter: Reporter,
    own: Mapping[str, Recommender],
) -> Evaluation:
    manifest = release.manifest
    origin, parameters = manifest.origin, manifest.origin.parameters
    modes, skipped = distinct_modes(plan.modes, manifest, here=not plan.target)
    ordered = datas.is_ordered(parameters)
    holdout = plan.holdout or ("last" if ordered else "random")
    every = load_queries(work, plan.split, holdout, plan.seed, manifest)
    queries = every if plan.sample is None else every.sample(plan.sample, plan.seed)
    test_uses = history.test_uses(place.folder, origin.data_fingerprint, int(parameters["seed"]))
    with reporter.task("load") as task:
        data = datas.load(work, parameters)
        leaks = find_leaks(work, ordered=ordered)
        task.result(f"{len(queries):,} {plan.split} playlists, {len(data.songs):,} songs")
    depth = continuation.DEPTH if holdout == "half" else DEPTH
    asked = _in_question(place, release, data, replace(plan, modes=modes))
    asked += [Adapted(name, one, data) for name, one in own.items()]
    systems, left_out = _score(asked, queries, data, depth, plan, reporter)
    comparisons, slices = _compare(systems, queries, data, holdout, reporter)
    conditions = Conditions(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        release=manifest.release,
        data_fingerprint=origin.data_fingerprint,
        split_fingerprint=origin.split_fingerprint,
        code_version=origin.code_version,
        parameters=dict(parameters),
        split=plan.split,
        holdout=holdout,
        seed=plan.seed,
        playlists=len(queries),
        available=len(every),
        depth=depth,
        songs=len(data.songs.by_popularity),
        training_playlists=len(data.train),
        labels_in_catalog=float(data.songs.in_catalog[queries.labels.songs].mean()),
        test_uses=test_uses,
        versions=machine.versions(),
        machine=machine.machine(),
        plan=asdict(plan),
    )
    return Evaluation(
        conditions=conditions,
        systems=systems,
        skipped=skipped + left_out,
        comparisons=comparisons,
        slices=slices,
        behaviours=_behave(asked[0], queries, data, reporter) if plan.behaviours else [],
        recalls=_recall(release, reporter) if plan.recall else [],
        leaks=leaks,
        queries=queries,
        data=data,
        run=log.new_id(),
    )


def _score(
    asked: Sequence[System],
    queries: Queries,
    data: Data,
    depth: int,
    plan: Plan,
    reporter: Reporter,
) -> tuple[list[Scored], list[str]]:
    """Score these systems and the plan's baselines; also say which baselines are left out."""
    systems, left_out = [scored(one, queries, data, depth, reporter) for one in asked], []
    for system in choice.built(plan.baselines, data, queries, plan.patience, reporter):
        if isinstance(system, str):
            left_out.append(system)
        else:
            systems.append(scored(system, queries, data, depth, reporter))
    return systems, left_out


def _compare(
    systems: Sequence[Scored], queries: Queries, data: Data, holdout: Holdout, reporter: Reporter
) -> tuple[list[Comparison], list[Slice]]:
    with reporter.task("compare") as task:
        metrics = METRICS_OF_HALVES if holdout == "half" else METRICS
        others = {one.key: one.per_query for one in systems[1:]}
        comparisons = compared(systems[0].per_query, others, metrics)
        slices = sliced(systems, queries, data)
        task.result(f"{len(comparisons)} paired tests, {len(slices)} kinds of queries")
    return comparisons, slices


def _behave(system: System, queries: Queries, data: Data, reporter: Reporter) -> list[Behaviour]:
    with reporter.task("behave") as task:
        tested = behaviours(system, queries, data)
        failed = sum(one.passed is False for one in tested)
        task.result(f"{len(tested)} figures, {failed} rules broken")
    return tested


def _recall(release: OpenRelease, reporter: Reporter) -> list[Recall]:
    with reporter.task("recall") as task:
        recalls = asyncio.run(measure_recall_by_filter(release))
        task.result(f"{recalls[0].recall:.4f} of what exact search finds, without a filter")
    return recalls


def scored(system: System, queries: Queries, data: Data, depth: int, reporter: Reporter) -> Scored:
    """Ask a system all queries, and measure what it answers, `depth` songs of it."""
    with reporter.task("score") as task:
        start = time.perf_counter()
        parts, done = [], 0
        for part in system.recommend(queries, depth):
            parts.append(part)
            done += len(part)
            task.advance(done, len(queries))
        seconds = time.perf_counter() - start
        rankings = np.concatenate(parts)
        per_query = table.per_query(rankings, queries, data)
        figures = estimate(per_query) | {
            name: Figure(value) for name, value in table.whole(rankings, data).items()
        }
        rate = len(queries) / max(seconds, 1e-9)
        task.result(f"{system.name}: {len(queries):,} playlists, {rate:,.0f} a second")
    return Scored(system.key, system.name, seconds, figures, per_query, rankings)


def _in_question(place: Place, release: OpenRelease, data: Data, plan: Plan) -> list[System]:
    if plan.target:
        served = release.manifest.release
        return [Service(plan.target, served, data, mode) for mode in plan.modes]
    opened = partial(place.open, release.manifest.release)
    return [Release(release, data, mode, opened, plan.processes) for mode in plan.modes]
