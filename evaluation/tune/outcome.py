"""What came of a study: how the choice does beside the current release, as evaluations score both.

The release is asked the validation playlists that `nextsong evaluate` asks, in the same way, and so
are the arrays that a release of the choice would be made of. Test playlists are asked only about a
choice that is significantly better.
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
from evaluation.protocol.cases import load_cases
from evaluation.protocol.dataset import is_ordered, load_dataset
from evaluation.report.headline import format_number
from evaluation.systems.release import BATCH, Release
from evaluation.tune import files, space
from evaluation.tune.space import PHASES
from ingest.learn import retrieval
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from catalog.progress import Reporter
    from evaluation.judge.comparison import Comparison
    from evaluation.judge.scoring import SystemScores
    from evaluation.protocol.cases import HeldOutCases, Holdout
    from evaluation.protocol.dataset import Dataset, SongNumbers
    from evaluation.systems.location import StoreLocation
    from evaluation.tune.files import Places
    from evaluation.tune.space import Held
    from ingest.learn.retrieval import ReleaseArrays

FILE = "outcome.json"

NOT_WRITTEN = ("seed", *files.NO_MATTER)
"""Parameters that a file of what was chosen leaves to the run that reads it."""

KS = (10, 100)

GAIN = "ndcg@100"
"""By this a choice must be better: the gain that trials are judged by, 1 / log2(1 + rank)."""


@dataclass(frozen=True)
class Current:
    """The current release as `nextsong evaluate` scores it on validation: what is to be beaten."""

    release: str
    holdout: Holdout
    queries: HeldOutCases
    data: Dataset
    scored: SystemScores


class Choice:
    """A choice of parameters as a system: what a release of it answers by hybrid search.

    It answers nothing to a playlist of which the catalog knows no song.
    """

    key = name = "tuned"

    def __init__(self, arrays: ReleaseArrays, parameters: Parameters) -> None:
        self._arrays = arrays
        self._parameters = parameters

    def recommend(self, queries: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """For each query in turn, its songs, best first, in batches."""
        for start in range(0, len(queries), BATCH):
            part = queries.seeds.take(slice(start, start + BATCH))
            seeds = [part[row] for row in range(len(part))]
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            pairs = retrieval.rank_for_fusion(self._arrays, seeds, self._parameters, limit)
            for row, pair in enumerate(pairs):
                songs = retrieval.fuse(*pair, self._parameters.dense_weight, limit)
                rankings[row, : len(songs)] = songs
            yield rankings


def score_current(location: StoreLocation, work: Path, reporter: Reporter) -> Current:
    """Score the current release. Raises `NoReleaseError`, or `MismatchError` if `work` is not the
    folder that it was made in.
    """
    release = location.open_release()
    try:
        manifest = release.manifest
        parameters = manifest.origin.parameters
        holdout: Holdout = "last" if is_ordered(parameters) else "random"
        queries = load_cases(work, "validation", holdout, 0, manifest)
        data = load_dataset(work, parameters)
        opened = partial(location.open_release, manifest.release)
        system = Release(release, data, "auto", opened)
        found = score_system(system, queries, data, DEPTH, reporter)
    finally:
        release.close()
    return Current(manifest.release, holdout, queries, data, found)


def outcome(
    places: Places,
    held: Held,
    current: Current,
    start: Parameters,
    chosen: Parameters,
    reporter: Reporter,
) -> dict[str, Any]:
    """Return the figures of the current release and of `chosen`, and whether that is better.

    If it is not, the parameters are those of `start`, and the test playlists are not asked. They
    are not asked either about a choice of which an earlier run of this study did so.
    """
    system = Choice(files.best_arrays(places, held, chosen), chosen)
    tried = score_system(system, current.queries, current.data, DEPTH, reporter)
    comparisons = compare(tried, current.scored)
    better = is_better(comparisons)
    digest, known = files.digest_of(places, chosen), last(places)
    test, used = {}, False
    playlists = {"validation": len(current.queries)}
    if better and known and known["chosen"] == digest and known["test"]:
        test, playlists = known["test"], playlists | {"test": known["playlists"]["test"]}
    elif better:
        work = current.data.work
        queries = load_cases(work, "test", current.holdout, 0)
        test = _figures("tuned", score_system(system, queries, current.data, DEPTH, reporter))
        playlists, used = playlists | {"test": len(queries)}, True
    return {
        "parameters": written(chosen if better else start, held.plays),
        "validation": _figures("tuned", tried if better else current.scored)
        | _figures("start", current.scored),
        "tried": _figures("tuned", tried),
        "p": comparisons[GAIN].p_holm,
        "beyond chance": better,
        "test": test,
        "test_used": used,
        "playlists": playlists,
        "release": current.release,
        "holdout": current.holdout,
        "chosen": digest,
        "split_fingerprint": places.split,
        "split_seed": start.seed,
        "data_fingerprint": places.data,
    }


def compare(tried: SystemScores, current: SystemScores) -> dict[str, Comparison]:
    """Return the paired tests of a choice and the current release, by metric."""
    metrics = (GAIN, *(f"hr@{k}" for k in KS))
    found = compare_systems(tried.per_query, {"current": current.per_query}, metrics)
    return {one.metric: one for one in found}


def is_better(comparisons: Mapping[str, Comparison]) -> bool:
    """Whether a choice gains significantly, and hits significantly less by no hit rate."""
    gain = comparisons[GAIN]
    fewer = any(one.significant and one.difference.mean < 0 for one in comparisons.values())
    return gain.significant and gain.difference.mean > 0 and not fewer


def describe(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Return the figures of an outcome as lines for a terminal."""
    asked, test = outcome["playlists"], outcome["test"]
    held_out = f"{asked['validation']:,} validation playlists"
    current = _text("start", outcome["validation"])
    yield f"current     {current}: release {outcome['release']}, {held_out}"
    tried = _text("tuned", outcome["tried"])
    verdict = "significantly" if outcome["beyond chance"] else "not significantly"
    yield f"tuned       {tried}: {verdict} better ({format_p_equals(outcome['p'])})"
    if test:
        when = "now" if outcome["test_used"] else "by an earlier run"
        yield f"test        {_text('tuned', test)}: {asked['test']:,} test playlists, asked {when}"


def _text(name: str, figures: Mapping[str, float]) -> str:
    return ", ".join(f"HR@{k} {format_number(figures[f'{name} HR@{k}'])}" for k in KS)


def _figures(name: str, found: SystemScores) -> dict[str, float]:
    return {f"{name} HR@{k}": found.figures[f"hr@{k}"].mean for k in KS}


def written(chosen: Parameters, plays: int) -> dict[str, Any]:
    """What makes such a release: all that was tuned, and all else that is not as by default.

    Epochs and window that the playlists would be trained with anyway are left to follow the plays.
    """
    tuned = {name for phase in PHASES for name in space.names(phase)}
    defaults = Parameters()
    found = {
        one.name: getattr(chosen, one.name)
        for one in fields(Parameters)
        if one.name not in NOT_WRITTEN
        and (one.name in tuned or getattr(chosen, one.name) != getattr(defaults, one.name))
    }
    usual = {"epochs": defaults.epochs_for(plays), "window": defaults.window_for(plays)}
    found |= {name: None for name, value in usual.items() if found[name] == value}
    return found


def last(places: Places) -> dict[str, Any] | None:
    """The outcome that the study's folder holds, if it is of these playlists."""
    try:
        found = json.loads((places.study / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("split_fingerprint") == places.split
    return found if same and "chosen" in found else None
