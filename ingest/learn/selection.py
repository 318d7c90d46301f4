"""Model selection: the mode and the dense weight that rank best on cases of validation playlists.

Co-occurrence search, hybrid search at several dense weights and, if there is one, the re-ranker
answer the same cases in memory (see `ingest.learn.retrieval`). Co-occurrence search is among them
because hybrid search can be worse: poor vectors displace songs that co-occurrence finds.
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
"""Number of cases of a playlist. One label is the last song, the others are drawn at random."""

MAX_SIMILARITIES = 1_200_000_000
"""Number of cosines to compute in all, which limits the number of cases if there are many songs."""

DEPTH = 100
"""Number of ranked songs among which the label counts as found."""


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

    - `text`: the result as a line for people.
    - `mode`, `dense_weight`: the selected default mode and dense weight of the release.
    - `figures`: hit rates and mean discounted gains of all alternatives, by name.
    - `queries`: number of validation cases; 0 if nothing was measured.
    """

    text: str
    mode: str
    dense_weight: float
    figures: dict[str, float]
    queries: int = 0


def dense_weights_to_try(parameters: Parameters, given: Collection[str]) -> tuple[float, ...]:
    """Return `DENSE_WEIGHTS`, or only the dense weight of `parameters` if the user has set it.

    `given` holds the names of the parameters that the user has set.
    """
    if "dense_weight" in given or parameters.dense_weight != Parameters.dense_weight:
        return (parameters.dense_weight,)
    return DENSE_WEIGHTS


def select_mode(
    files: StageFiles, alternatives: Alternatives, parameters: Parameters, reporter: Reporter
) -> ChooseSummary:
    """Select the mode and the dense weight, and return the figures of all alternatives.

    The criterion is the mean discounted gain among the first 100 songs. The selected dense weight
    has the largest improvement over co-occurrence search, minus the standard error of the
    improvement. If this difference is not above 0, co-occurrence search is selected, because it
    costs less than hybrid search. The re-ranker is selected if its gain is larger still and it does
    not find fewer of the last songs of playlists.

    Nothing is measured in three cases: `parameters.mode` is not `auto`, which keeps that mode; no
    song has a vector, which selects co-occurrence search; or there are no validation playlists,
    which selects hybrid search.
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
    """Return the alternative that ranks best on cases of validation playlists."""
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
        # The training of the re-ranker has compared it with hybrid search already, on more cases.
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
    """Return cases of at most `MAX_PLAYLISTS` random playlists: all last songs, then other songs.

    At most `most` cases are returned, but the last songs always are.
    """
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
    """Return the mean improvement of the gain over `other`, minus its standard error."""
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
