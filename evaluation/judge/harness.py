"""The evaluation of a release or a service, and of baselines, on held-out cases."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from catalog.errors import InputError, MismatchError
from catalog.search.index_quality import measure_recall_by_filter
from evaluation.baselines import choice
from evaluation.baselines.choice import SkippedBaseline
from evaluation.judge.behaviour import run_behaviour_tests
from evaluation.judge.comparison import METRICS, METRICS_OF_HALVES, compare_systems
from evaluation.judge.environment import describe_machine, find_library_versions
from evaluation.judge.new_songs import NewSongsPlan, measure_new_songs
from evaluation.judge.query_options import run_option_tests
from evaluation.judge.result import Conditions, Evaluation
from evaluation.judge.scoring import get_depth, score_system
from evaluation.judge.slices import measure_slices
from evaluation.protocol.cases import load_cases
from evaluation.protocol.dataset import is_ordered, load_dataset
from evaluation.protocol.leaks import find_leaks
from evaluation.runs import history, log
from evaluation.systems.adapter import AdaptedSystem
from evaluation.systems.release import MODES, Release, find_distinct_modes
from evaluation.systems.remote import Service, get_served_release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.manifest import Manifest
    from catalog.search.index_quality import Recall
    from catalog.store import OpenRelease
    from evaluation.judge.behaviour import Behaviour
    from evaluation.judge.comparison import Comparison
    from evaluation.judge.new_songs import NewSongs
    from evaluation.judge.query_options import ConfigurableSystem
    from evaluation.judge.scoring import SystemScores
    from evaluation.judge.slices import Slice
    from evaluation.protocol.cases import HeldOutCases, Holdout, Split
    from evaluation.protocol.dataset import Dataset
    from evaluation.protocol.leaks import Leaks
    from evaluation.systems.adapter import Recommender
    from evaluation.systems.location import StoreLocation
    from evaluation.systems.release import System

DEFAULT_MODES = ("auto", "dense", "cooccurrence")
"""Modes of a release that are scored by default. All systems are compared with the first mode."""

NO_ARTISTS = (
    "no song has an artist, so these do not apply: the metrics of artists (artist_repetition, "
    "r_precision_artists), the slices by artist, and the behavioural tests that compare songs of "
    "an artist"
)
"""Note on the metrics, slices and tests that are omitted if no song has an artist."""


@dataclass(frozen=True)
class Plan:
    """The options of an evaluation.

    - `split`, `holdout`: the split, and the songs that are held out from each playlist. If
      `holdout` is None, the last song is held out, or a random song if playlists are not in play
      order.
    - `baselines`, `modes`: names of the baselines and modes to score.
    - `sample`: maximum number of cases.
    - `seed`: seed of random holdouts and of the sample.
    - `processes`: number of processes that search the release, by default one for each core.
    - `target`: address of a service to score instead of the release.
    - `behaviours`: whether to run the behavioural tests (see `evaluation.judge.behaviour`).
    - `recall`: whether to measure the recall of the index.
    - `new_songs`: whether to measure how often new songs are recommended, which trains again (see
      `evaluation.judge.new_songs`).
    - `patience`: maximum expected duration of a baseline in seconds. Slower baselines are skipped.

    Raises `InputError` for unknown modes, and if `new_songs` and `target` are both set.
    """

    split: Split = "validation"
    holdout: Holdout | None = None
    baselines: tuple[str, ...] = choice.QUICK
    modes: tuple[str, ...] = DEFAULT_MODES
    sample: int | None = None
    seed: int = 0
    processes: int | None = None
    target: str | None = None
    behaviours: bool = True
    recall: bool = True
    new_songs: bool = False
    patience: float = 600.0

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(f"there is no mode '{mode}': choose from {', '.join(MODES)}")
        if not self.modes:
            raise InputError("no mode to score: name at least one")
        if self.new_songs and self.target:
            raise InputError(
                "new songs are measured with a release that is made for this purpose, and not with "
                "a service: leave out --target or --new-songs"
            )


@dataclass(frozen=True)
class _Inputs:
    """The cases to score and the dataset.

    - `available`: number of cases of the split before sampling.
    - `leaks`: held-out playlists that are also training playlists.
    - `test_uses`: number of logged runs that scored the test playlists.
    """

    cases: HeldOutCases
    available: int
    holdout: Holdout
    dataset: Dataset
    leaks: Leaks
    test_uses: int


def evaluate(
    location: StoreLocation,
    work: Path,
    plan: Plan,
    reporter: Reporter,
    release: str | None = None,
    own: Mapping[str, Recommender] | None = None,
) -> Evaluation:
    """Evaluate as `measure` does, and record the evaluation in the log of runs."""
    result = measure(location, work, plan, reporter, release, own)
    history.record_evaluation(location.folder, result, reporter)
    return result


def measure(
    location: StoreLocation,
    work: Path,
    plan: Plan,
    reporter: Reporter,
    release: str | None = None,
    own: Mapping[str, Recommender] | None = None,
) -> Evaluation:
    """Score a release, by default the current one, and baselines on held-out cases.

    `work` is the work folder of the release, with the results of the ingest stages. `own` maps
    names to custom recommenders, which are also scored. Unlike `evaluate`, this function does not
    record the evaluation in the log of runs. Raises `MismatchError` if the release was not made in
    `work`, and the errors of stores, services and baselines.
    """
    choice.require_libraries(plan.baselines)
    opened = location.open_release(
        _find_served_release(location, plan.target) if plan.target else release
    )
    try:
        return _measure_release(location, opened, work, plan, reporter, own or {})
    finally:
        opened.close()


def _find_served_release(location: StoreLocation, target: str) -> str:
    release = get_served_release(target)
    if release not in location.release_ids():
        raise MismatchError(
            f"the service at {target} uses release {release}, which is not in {location.folder}: "
            f"name the release store of the service with --home or --qdrant-url"
        )
    return release


def _measure_release(
    location: StoreLocation,
    release: OpenRelease,
    work: Path,
    plan: Plan,
    reporter: Reporter,
    own: Mapping[str, Recommender],
) -> Evaluation:
    modes, skipped = find_distinct_modes(plan.modes, release.manifest, in_process=not plan.target)
    inputs = _load_inputs(location.folder, work, plan, release.manifest, reporter)
    by_mode = _open_modes(location, release, inputs.dataset, plan, modes)
    systems: list[System] = [
        *by_mode,
        *(AdaptedSystem(name, recommender, inputs.dataset) for name, recommender in own.items()),
    ]
    scores, skipped_baselines = _score_systems(systems, inputs, plan, reporter)
    comparisons, slices = _compare_scores(scores, inputs, reporter)
    return Evaluation(
        conditions=_describe_conditions(release.manifest, inputs, plan),
        systems=scores,
        skipped=skipped
        + skipped_baselines
        + ([] if inputs.dataset.songs.has_artists else [NO_ARTISTS]),
        comparisons=comparisons,
        slices=slices,
        behaviours=_test_behaviour(by_mode[0], inputs, reporter) if plan.behaviours else [],
        recalls=_measure_recall(release, reporter) if plan.recall else [],
        leaks=inputs.leaks,
        cases=inputs.cases,
        dataset=inputs.dataset,
        run=log.make_id(),
        new_songs=_measure_new_songs(release, inputs, replace(plan, modes=modes), reporter)
        if plan.new_songs
        else None,
    )


def _load_inputs(
    home: Path, work: Path, plan: Plan, manifest: Manifest, reporter: Reporter
) -> _Inputs:
    parameters = manifest.origin.parameters
    ordered = is_ordered(parameters)
    holdout = plan.holdout or ("last" if ordered else "random")
    cases = load_cases(work, plan.split, holdout, plan.seed, manifest)
    available = len(cases)
    if plan.sample is not None:
        cases = cases.sample(plan.sample, plan.seed)
    test_uses = history.count_test_uses(
        home, manifest.origin.data_fingerprint, int(parameters["seed"])
    )
    with reporter.task("load") as task:
        dataset = load_dataset(work, parameters)
        leaks = find_leaks(work, ordered=ordered)
        task.result(f"{len(cases):,} {plan.split} playlists, {len(dataset.songs):,} songs")
    return _Inputs(cases, available, holdout, dataset, leaks, test_uses)


def _open_modes(
    location: StoreLocation,
    release: OpenRelease,
    dataset: Dataset,
    plan: Plan,
    modes: Sequence[str],
) -> Sequence[ConfigurableSystem]:
    """Return a system for each mode: the release or, if the plan has a target, the service."""
    release_id = release.manifest.release
    if plan.target:
        return [Service(plan.target, release_id, dataset, mode) for mode in modes]
    open_release = partial(location.open_release, release_id)
    return [Release(release, dataset, mode, open_release, plan.processes) for mode in modes]


def _score_systems(
    systems: Sequence[System], inputs: _Inputs, plan: Plan, reporter: Reporter
) -> tuple[list[SystemScores], list[str]]:
    """Return the scores of the systems and baselines, and a note on each skipped baseline."""
    cases, dataset, depth = inputs.cases, inputs.dataset, get_depth(inputs.holdout)
    scores = [score_system(system, cases, dataset, depth, reporter) for system in systems]
    skipped = []
    for baseline in choice.build_baselines(plan.baselines, dataset, cases, plan.patience, reporter):
        if isinstance(baseline, SkippedBaseline):
            skipped.append(baseline.reason)
        else:
            scores.append(score_system(baseline, cases, dataset, depth, reporter))
    return scores, skipped


def _compare_scores(
    scores: Sequence[SystemScores], inputs: _Inputs, reporter: Reporter
) -> tuple[list[Comparison], list[Slice]]:
    main, *others = scores
    metrics = METRICS_OF_HALVES if inputs.holdout == "half" else METRICS
    with reporter.task("compare") as task:
        comparisons = compare_systems(
            main.per_query, {system.key: system.per_query for system in others}, metrics
        )
        slices = measure_slices(scores, inputs.cases, inputs.dataset)
        task.result(f"{len(comparisons)} paired tests, {len(slices)} slices")
    return comparisons, slices


def _test_behaviour(
    system: ConfigurableSystem, inputs: _Inputs, reporter: Reporter
) -> list[Behaviour]:
    with reporter.task("behaviour") as task:
        behaviours = [
            *run_behaviour_tests(system, inputs.cases, inputs.dataset),
            *run_option_tests(system, inputs.cases, inputs.dataset),
        ]
        failed = sum(behaviour.passed is False for behaviour in behaviours)
        task.result(f"{len(behaviours)} figures, {failed} rules broken")
    return behaviours


def _measure_recall(release: OpenRelease, reporter: Reporter) -> list[Recall]:
    with reporter.task("recall") as task:
        recalls = asyncio.run(measure_recall_by_filter(release))
        task.result(f"{recalls[0].recall:.4f} at 10 songs, without a filter")
    return recalls


def _measure_new_songs(
    release: OpenRelease, inputs: _Inputs, plan: Plan, reporter: Reporter
) -> NewSongs:
    new_songs_plan = NewSongsPlan(plan.split, plan.modes, plan.sample, plan.seed, plan.processes)
    return measure_new_songs(release, inputs.dataset, new_songs_plan, reporter)


def _describe_conditions(manifest: Manifest, inputs: _Inputs, plan: Plan) -> Conditions:
    origin, songs = manifest.origin, inputs.dataset.songs
    return Conditions(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        release=manifest.release,
        data_fingerprint=origin.data_fingerprint,
        split_fingerprint=origin.split_fingerprint,
        code_version=origin.code_version,
        parameters=dict(origin.parameters),
        split=plan.split,
        holdout=inputs.holdout,
        seed=plan.seed,
        playlists=len(inputs.cases),
        available=inputs.available,
        depth=get_depth(inputs.holdout),
        songs=len(songs.by_popularity),
        training_playlists=len(inputs.dataset.train),
        labels_in_catalog=float(songs.in_catalog[inputs.cases.labels.songs].mean()),
        test_uses=inputs.test_uses,
        versions=find_library_versions(),
        machine=describe_machine(),
        plan=asdict(plan),
    )
