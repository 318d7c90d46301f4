"""The outcome of a study: its choice compared with the current release, as `evaluate` scores both.

The release answers the validation queries of `nextsong evaluate`, and so do the arrays that a
release with the chosen parameters would have. The test playlists are scored only for a choice that
is significantly better.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.judge.comparison import compare_systems
from evaluation.judge.scoring import DEPTH, score_system
from evaluation.judge.significance import format_p_equals
from evaluation.protocol import dataset
from evaluation.protocol.cases import load_cases
from evaluation.report.headline import format_number
from evaluation.systems.release import BATCH, Release
from evaluation.tune import files as study_files
from evaluation.tune.space import PHASES, parameter_names
from ingest.learn import retrieval
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from catalog.console.progress import Reporter
    from evaluation.judge.comparison import Comparison
    from evaluation.judge.scoring import SystemScores
    from evaluation.protocol.cases import HeldOutCases, Holdout
    from evaluation.protocol.dataset import Dataset, SongNumbers
    from evaluation.systems.location import StoreLocation
    from evaluation.tune.files import StudyFiles
    from evaluation.tune.space import TuningData
    from ingest.learn.retrieval import ReleaseArrays

FILE = "outcome.json"

UNWRITTEN = ("seed", *study_files.UNTUNED)
"""Parameters that the file of the choice leaves to the ingest run that reads it."""

KS = (10, 100)

GAIN = "ndcg@100"
"""The metric by which a choice must be better: the objective of trials, 1 / log2(1 + rank)."""


@dataclass(frozen=True)
class Current:
    """The current release, scored on the validation playlists as `nextsong evaluate` does."""

    release: str
    holdout: Holdout
    queries: HeldOutCases
    data: Dataset
    scored: SystemScores


class Choice:
    """Chosen parameters as a system: the hybrid search of a release with these parameters.

    A query gets no songs if the catalog has none of its seeds.
    """

    key = name = "tuned"

    def __init__(self, arrays: ReleaseArrays, parameters: Parameters) -> None:
        self._arrays = arrays
        self._parameters = parameters

    def recommend(self, queries: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield rankings in batches, shape (queries, limit), best song first; -1 is no song."""
        for start in range(0, len(queries), BATCH):
            batch = queries.seeds.take(slice(start, start + BATCH))
            seeds = [batch[row] for row in range(len(batch))]
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            pairs = retrieval.rank_for_fusion(self._arrays, seeds, self._parameters, limit)
            for row, pair in enumerate(pairs):
                songs = retrieval.fuse(*pair, self._parameters.dense_weight, limit)
                rankings[row, : len(songs)] = songs
            yield rankings


def score_current(location: StoreLocation, work: Path, reporter: Reporter) -> Current:
    """Score the current release.

    Raises `NoReleaseError`, or `MismatchError` if it was not made in the folder `work`.
    """
    release = location.open_release()
    try:
        manifest = release.manifest
        parameters = manifest.origin.parameters
        holdout: Holdout = "last" if dataset.is_ordered(parameters) else "random"
        queries = load_cases(work, "validation", holdout, 0, manifest)
        data = dataset.load_dataset(work, parameters)
        system = Release(release, data, "auto", partial(location.open_release, manifest.release))
        result = score_system(system, queries, data, DEPTH, reporter)
    finally:
        release.close()
    return Current(manifest.release, holdout, queries, data, result)


def assess(
    files: StudyFiles,
    data: TuningData,
    current: Current,
    start: Parameters,
    chosen: Parameters,
    reporter: Reporter,
) -> dict[str, Any]:
    """Return the figures of the current release and of `chosen`, and whether `chosen` is better.

    If it is not, the parameters are those of `start`, and the test playlists are not scored. They
    are not scored either if an earlier run of this study did so for the same choice.
    """
    system = Choice(study_files.read_best_arrays(files, data, chosen), chosen)
    tried = score_system(system, current.queries, current.data, DEPTH, reporter)
    comparisons = compare(tried, current.scored)
    better = is_better(comparisons)
    digest, known = files.digest(chosen), read_last(files)
    test: dict[str, float] = {}
    test_used = False
    playlists = {"validation": len(current.queries)}
    if better and known and known["chosen"] == digest and known["test"]:
        test = known["test"]
        playlists["test"] = known["playlists"]["test"]
    elif better:
        queries = load_cases(current.data.work, "test", current.holdout, 0)
        test = _hit_rates("tuned", score_system(system, queries, current.data, DEPTH, reporter))
        playlists["test"] = len(queries)
        test_used = True
    return {
        "parameters": parameters_to_write(chosen if better else start, data.plays),
        "validation": _hit_rates("tuned", tried if better else current.scored)
        | _hit_rates("start", current.scored),
        "tried": _hit_rates("tuned", tried),
        "p": comparisons[GAIN].p_holm,
        "beyond chance": better,
        "test": test,
        "test_used": test_used,
        "playlists": playlists,
        "release": current.release,
        "holdout": current.holdout,
        "chosen": digest,
        "split_fingerprint": files.split,
        "split_seed": start.seed,
        "data_fingerprint": files.data,
    }


def compare(tried: SystemScores, current: SystemScores) -> dict[str, Comparison]:
    """Return the paired tests of a choice against the current release, by metric."""
    metrics = (GAIN, *(f"hr@{k}" for k in KS))
    comparisons = compare_systems(tried.per_query, {"current": current.per_query}, metrics)
    return {comparison.metric: comparison for comparison in comparisons}


def is_better(comparisons: Mapping[str, Comparison]) -> bool:
    """Return whether the gain is significantly higher and no hit rate significantly lower."""
    gain = comparisons[GAIN]
    is_worse = any(
        comparison.significant and comparison.difference.mean < 0
        for comparison in comparisons.values()
    )
    return gain.significant and gain.difference.mean > 0 and not is_worse


def describe(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures of an outcome as lines for a terminal."""
    playlists, test = outcome["playlists"], outcome["test"]
    validation = f"{playlists['validation']:,} validation playlists"
    current = _format("start", outcome["validation"])
    yield f"current     {current}: release {outcome['release']}, {validation}"
    tried = _format("tuned", outcome["tried"])
    verdict = "significantly" if outcome["beyond chance"] else "not significantly"
    yield f"tuned       {tried}: {verdict} better ({format_p_equals(outcome['p'])})"
    if test:
        when = "now" if outcome["test_used"] else "by an earlier run"
        scored_on = f"{playlists['test']:,} test playlists, scored {when}"
        yield f"test        {_format('tuned', test)}: {scored_on}"


def _format(name: str, figures: Mapping[str, float]) -> str:
    return ", ".join(f"HR@{k} {format_number(figures[f'{name} HR@{k}'])}" for k in KS)


def _hit_rates(name: str, result: SystemScores) -> dict[str, float]:
    return {f"{name} HR@{k}": result.figures[f"hr@{k}"].mean for k in KS}


def parameters_to_write(chosen: Parameters, plays: int) -> dict[str, Any]:
    """Return the parameters that were tuned, and all others that differ from the defaults.

    Epochs and window are None, which follows the number of plays, if they equal the defaults for
    this number.
    """
    tuned = {name for phase in PHASES for name in parameter_names(phase)}
    defaults = Parameters()
    values = {
        field.name: getattr(chosen, field.name)
        for field in fields(Parameters)
        if field.name not in UNWRITTEN
        and (field.name in tuned or getattr(chosen, field.name) != getattr(defaults, field.name))
    }
    by_plays = {"epochs": defaults.epochs_for(plays), "window": defaults.window_for(plays)}
    return values | {name: None for name, value in by_plays.items() if values[name] == value}


def read_last(files: StudyFiles) -> dict[str, Any] | None:
    """Return the outcome in the study's folder, or None if it is of other playlists."""
    try:
        outcome = json.loads((files.study / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_same = isinstance(outcome, dict) and outcome.get("split_fingerprint") == files.split
    return outcome if is_same and "chosen" in outcome else None
