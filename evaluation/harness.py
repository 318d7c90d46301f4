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
from catalog.recall import recall_by_filter
from evaluation import data as datas
from evaluation import machine, past
from evaluation.adapter import Adapted
from evaluation.baselines import choice
from evaluation.behaviour import behaviours
from evaluation.comparing import METRICS, METRICS_OF_HALVES, compared
from evaluation.intervals import Figure, bootstrap
from evaluation.leaks import find_leaks
from evaluation.metrics import continuation, table
from evaluation.protocol import load_queries
from evaluation.remote import Service, serving_release
from evaluation.result import Conditions, Evaluation, Scored
from evaluation.slices import sliced
from evaluation.systems import MODES, Release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from catalog.release import OpenRelease
    from catalog.reporting import Reporter
    from evaluation.adapter import Recommender
    from evaluation.data import Data
    from evaluation.place import Place
    from evaluation.protocol import Holdout, Queries, Split
    from evaluation.systems import System

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
    """Score a release, the current one if none is named, and baselines, on a split; and record it.

    `work` is the folder that the release was made in. `own` are recommenders of one's own, by the
    names that they shall have, scored beside the release. Raises `MismatchError` and what reading a
    release, asking a service and learning a baseline raise.
    """
    if plan.target:
        release = serving_release(plan.target)
        if release not in place.releases():
            raise MismatchError(
                f"the service at {plan.target} answers from release {release}, which is not in "
                f"{place.folder}: name its home with --home or --qdrant-url"
            )
    opened = place.open(release)
    try:
        result = _evaluated(place, opened, work, plan, reporter, own or {})
    finally:
        opened.close()
    return replace(result, run=past.keep(place.folder, result))


def _evaluated(
    place: Place,
    release: OpenRelease,
    work: Path,
    plan: Plan,
    reporter: Reporter,
    own: Mapping[str, Recommender],
) -> Evaluation:
    manifest = release.manifest
    parameters = manifest.origin.parameters
    ordered = datas.is_ordered(parameters)
    holdout = plan.holdout or ("last" if ordered else "random")
    every = load_queries(work, plan.split, holdout, plan.seed, manifest)
    queries = every if plan.sample is None else every.sample(plan.sample, plan.seed)
    with reporter.task("load") as task:
        data = datas.load(work, parameters)
        leaks = find_leaks(work, ordered=ordered)
        task.result(f"{len(queries):,} {plan.split} playlists, {len(data.songs):,} songs")
    depth = continuation.DEPTH if holdout == "half" else DEPTH
    systems = [
        scored(system, queries, data, depth, reporter)
        for system in _in_question(place, release, data, plan)
    ]
    systems += [
        scored(Adapted(name, one, data), queries, data, depth, reporter)
        for name, one in own.items()
    ]
    skipped = []
    for system in choice.built(plan.baselines, data, queries, plan.patience, reporter):
        if isinstance(system, str):
            skipped.append(system)
        else:
            systems.append(scored(system, queries, data, depth, reporter))
    with reporter.task("compare") as task:
        metrics = METRICS_OF_HALVES if holdout == "half" else METRICS
        others = {one.key: one.per_query for one in systems[1:]}
        comparisons = compared(systems[0].per_query, others, metrics)
        slices = sliced(systems, queries, data)
        task.result(f"{len(comparisons)} paired tests, {len(slices)} kinds of queries")
    tested = []
    if plan.behaviours:
        with reporter.task("behave") as task:
            tested = behaviours(_in_question(place, release, data, plan)[0], queries, data)
            failed = sum(one.passed is False for one in tested)
            task.result(f"{len(tested)} figures, {failed} rules broken")
    recalls = []
    if plan.recall:
        with reporter.task("recall") as task:
            recalls = asyncio.run(recall_by_filter(release))
            task.result(f"{recalls[0].recall:.4f} of what exact search finds, without a filter")
    in_catalog = data.songs.in_catalog[queries.labels.songs]
    conditions = Conditions(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        release=manifest.release,
        data_fingerprint=manifest.origin.data_fingerprint,
        split_fingerprint=manifest.origin.split_fingerprint,
        code_version=manifest.origin.code_version,
        parameters=dict(parameters),
        split=plan.split,
        holdout=holdout,
        seed=plan.seed,
        playlists=len(queries),
        available=len(every),
        depth=depth,
        songs=len(data.songs.by_popularity),
        training_playlists=len(data.train),
        labels_in_catalog=float(in_catalog.mean()),
        test_uses=past.test_uses(
            place.folder, manifest.origin.data_fingerprint, int(parameters["seed"])
        ),
        versions=machine.versions(),
        machine=machine.machine(),
        plan=asdict(plan),
    )
    return Evaluation(
        conditions=conditions,
        systems=systems,
        skipped=skipped,
        comparisons=comparisons,
        slices=slices,
        behaviours=tested,
        recalls=recalls,
        leaks=leaks,
        queries=queries,
        data=data,
    )


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
        figures = bootstrap(per_query) | {
            name: Figure(value) for name, value in table.whole(rankings, data).items()
        }
        rate = len(queries) / max(seconds, 1e-9)
        task.result(f"{system.name}: {len(queries):,} playlists, {rate:,.0f} a second")
    return Scored(system.key, system.name, seconds, figures, per_query, rankings)


def _in_question(
    place: Place, release: OpenRelease, data: Data, plan: Plan
) -> Sequence[Service] | Sequence[Release]:
    if plan.target:
        return [Service(plan.target, data, mode) for mode in plan.modes]
    opened = partial(place.open, release.manifest.release)
    return [Release(release, data, mode, opened, plan.processes) for mode in plan.modes]
