"""Model selection: the mode and the dense weight that rank best on cases of validation playlists.

Co-occurrence alone, hybrid search at several dense weights, and the re-ranker, if there is one,
answer the same cases in memory (see `ingest.learn.retrieval`). Fusion is not always a gain: weak
vectors beside good co-occurrence lose songs that co-occurrence alone finds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from catalog.reranker import Reranker
from ingest.learn import retrieval
from ingest.learn.cases import Cases, sample_cases_with_last
from ingest.learn.rank_metrics import KS, discounted_gains, finds_fewer, hit_rate
from ingest.learn.reranker import rerank_cases
from ingest.learn.retrieval import ReleaseArrays
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.console.progress import Reporter, Task
    from ingest.learn.reranker import StageFiles

DENSE_WEIGHTS = (0.05, 0.1, 0.2, 0.35, 0.6)
"""Dense weights of hybrid search that are tried."""

MAX_PLAYLISTS = 1_000
"""Number of validation playlists that cases are made from."""

CASES_PER_PLAYLIST = 4
"""The last song of a playlist, and three others."""

MAX_SIMILARITIES = 1_200_000_000
"""Number of cosines computed; with many songs, fewer cases are used."""

DEPTH = 100


@dataclass(frozen=True)
class Alternatives:
    """The alternatives to select from.

    - `dense_weights`: those of hybrid search.
    - `catalog_min`: training playlists that a song of the catalog must be in.
    - `model`: file of the re-ranker, if it won against hybrid search in training.
    """

    dense_weights: Sequence[float]
    catalog_min: int
    model: Path | None = None


@dataclass(frozen=True)
class ChooseSummary:
    """Result of the stage `choose`.

    - `mode`, `dense_weight`: those of the release.
    - `figures`: hit rates and mean discounted gains of all alternatives, by name.
    - `queries`: number of validation cases; 0 if nothing was measured.
    """

    text: str
    mode: str
    dense_weight: float
    figures: dict[str, float]
    queries: int = 0


def dense_weights_to_try(parameters: Parameters, given: Collection[str]) -> tuple[float, ...]:
    """Return the dense weight of the parameters if it was given, else `DENSE_WEIGHTS`."""
    if "dense_weight" in given or parameters.dense_weight != Parameters.dense_weight:
        return (parameters.dense_weight,)
    return DENSE_WEIGHTS


def select_mode(
    files: StageFiles, alternatives: Alternatives, parameters: Parameters, reporter: Reporter
) -> ChooseSummary:
    """Select the mode and the dense weight, and return the figures of all alternatives.

    The criterion is the mean discounted gain within 100. The dense weight is the one whose gain
    over co-occurrence, minus its standard error, is largest; if that is not above 0, co-occurrence
    is selected, which costs less. The re-ranker must have a larger gain than the better of the two
    and must not find fewer of the last songs of the playlists. A mode that the parameters name is
    kept. If no song has a vector, co-occurrence is selected, and without validation playlists
    hybrid search, both unmeasured. Only the co-occurrence weights of the seeds of the cases are
    read.
    """
    with reporter.task("choose") as task:
        summary = _select_unmeasured(files, parameters) or _select_measured(
            files, alternatives, parameters, task
        )
        task.result(summary.text)
    return summary


def _select_unmeasured(files: StageFiles, parameters: Parameters) -> ChooseSummary | None:
    """Return the mode if there is nothing to select from or to measure with, else None."""
    if parameters.mode != "auto":
        mode, text = parameters.mode, f"{parameters.mode}, as requested"
    elif not pq.read_metadata(files.vectors).num_rows:
        mode, text = "cooccurrence", "cooccurrence, because no song has a vector"
    elif not pq.read_metadata(files.validation).num_rows:
        mode, text = "hybrid", "hybrid, unmeasured: no validation playlist"
    else:
        return None
    return ChooseSummary(text, mode, parameters.dense_weight, {})


def _select_measured(
    files: StageFiles, alternatives: Alternatives, parameters: Parameters, task: Task
) -> ChooseSummary:
    """Rank the alternatives on cases of validation playlists."""
    playlists = retrieval.read_playlists(files.validation)
    cases, arrays = _load(files, alternatives, playlists, parameters.seed)
    task.advance(1, 3)
    pairs = list(retrieval.rank_for_fusion(arrays, cases.queries, parameters, DEPTH))
    task.advance(2, 3)
    ranks = {
        "cooccurrence": retrieval.ranks_of_labels(
            [songs[:DEPTH] for (songs, _), _ in pairs], cases.labels
        )
    }
    by_weight = {
        weight: retrieval.ranks_of_labels(
            [retrieval.fuse(*pair, weight, DEPTH) for pair in pairs], cases.labels
        )
        for weight in alternatives.dense_weights
    }
    mode, weight = _select_weight(ranks["cooccurrence"], by_weight)
    ranks["hybrid"] = by_weight[weight]
    if alternatives.model:
        # Training has compared it with hybrid search already, on more cases than these.
        ranks["ranked"] = _rerank(alternatives.model, files, arrays, cases)
        last = min(len(playlists), MAX_PLAYLISTS, len(cases.labels))
        if _is_better(ranks["ranked"], ranks[mode], last):
            mode = "ranked"
    count = len(cases.labels)
    text = _describe(mode, weight, ranks, count)
    return ChooseSummary(text, mode, weight, _figures(ranks, by_weight), count)


def _load(
    files: StageFiles, alternatives: Alternatives, playlists: Sequence[retrieval.Songs], seed: int
) -> tuple[Cases, ReleaseArrays]:
    vector_songs, vectors = retrieval.read_vectors(files.vectors)
    cases = _sample(playlists, MAX_SIMILARITIES // max(1, len(vector_songs)), seed)
    total = pq.read_metadata(files.songs).num_rows
    lists = pq.read_table(files.train, columns=["songs"])["songs"].combine_chunks()
    counts = np.bincount(lists.flatten().to_numpy(), minlength=total)
    counts[counts < alternatives.catalog_min] = 0
    weights = retrieval.read_weights(files.cooccurrence, retrieval.seed_mask(cases.queries, total))
    no_groups = np.zeros((1, total), np.int64)
    return cases, ReleaseArrays(weights, vector_songs, vectors, counts, no_groups)


def _sample(playlists: Sequence[retrieval.Songs], most: int, seed: int) -> Cases:
    """Return the last-song cases of a sample of the playlists, and then other cases of them."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(playlists))[:MAX_PLAYLISTS]
    sample = [playlists[index] for index in order]
    cases = sample_cases_with_last(sample, random, CASES_PER_PLAYLIST - 1)
    most = max(most, MAX_PLAYLISTS)
    return Cases(cases.queries[:most], cases.labels[:most])


def _select_weight(
    cooccurrence: NDArray[np.int64], by_weight: Mapping[float, NDArray[np.int64]]
) -> tuple[str, float]:
    """Return `hybrid` or `cooccurrence`, and the best dense weight."""
    lower_bounds = {
        weight: _gain_lower_bound(ranks, cooccurrence) for weight, ranks in by_weight.items()
    }
    best = max(lower_bounds, key=lambda weight: lower_bounds[weight])
    return "hybrid" if lower_bounds[best] > 0 else "cooccurrence", best


def _gain_lower_bound(ranks: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return the mean gain over another ranking of the same cases, minus its standard error."""
    gain = discounted_gains(ranks) - discounted_gains(other)
    return float(gain.mean() - gain.std() / len(gain) ** 0.5)


def _rerank(
    model: Path, files: StageFiles, arrays: ReleaseArrays, cases: Cases
) -> NDArray[np.int64]:
    reranker = Reranker(model.read_text(encoding="utf-8"))
    groups = retrieval.read_groups(files.songs, reranker.fields)
    return rerank_cases(reranker, replace(arrays, groups=groups), cases)


def _is_better(reranked: NDArray[np.int64], other: NDArray[np.int64], last: int) -> bool:
    is_fewer = finds_fewer(reranked[:last], other[:last])
    return _mean_gain(reranked) > _mean_gain(other) and not is_fewer


def _mean_gain(ranks: NDArray[np.int64]) -> float:
    return float(discounted_gains(ranks).mean())


def _figures(
    ranks: Mapping[str, NDArray[np.int64]], by_weight: Mapping[float, NDArray[np.int64]]
) -> dict[str, float]:
    figures = {f"auto, {name} HR@{k}": hit_rate(own, k) for name, own in ranks.items() for k in KS}
    figures |= {f"auto, {name} gain": _mean_gain(own) for name, own in ranks.items()}
    return figures | {
        f"auto, hybrid at {weight:g} gain": _mean_gain(own) for weight, own in by_weight.items()
    }


def _describe(mode: str, weight: float, ranks: Mapping[str, NDArray[np.int64]], cases: int) -> str:
    figures = "; ".join(
        f"{name}{f' at {weight:g}' if name == 'hybrid' else ''} "
        f"{hit_rate(own, 10):.4f} and {hit_rate(own, 100):.4f}"
        for name, own in ranks.items()
    )
    return f"{mode}; HR@10 and HR@100 on {cases:,} validation cases: {figures}"
