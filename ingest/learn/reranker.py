"""Training of the re-ranker, and comparison with the retrieval mode that model selection chose.

A quarter of the training playlists is set aside. Co-occurrence is counted again in the other
playlists. In the playlists that were set aside, the model learns to distinguish the song that came
next from the other candidates. If co-occurrence were counted in these playlists as well, each label
would co-occur with the seeds of its query, which is not so for new playlists. For the same reason,
dense vectors, which are trained on all training playlists, are not used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from catalog.content import ARTIST
from catalog.errors import MissingLibraryError, PlaylistError
from catalog.files import storage_errors
from catalog.recency import Recency
from catalog.reranker import (
    CANDIDATES,
    MOST_FIELDS,
    RECENCIES,
    Candidates,
    Keys,
    Reranker,
    build_features,
    feature_names,
    load_lightgbm,
)
from ingest.learn.arrays import (
    ReleaseArrays,
    Songs,
    read_arrays,
    read_content,
    read_playlists,
    seed_mask,
    weight_matrix,
)
from ingest.learn.cases import sample_cases_with_last
from ingest.learn.cooccurrence import WeightScale, compute_weights
from ingest.learn.descent import Trial
from ingest.learn.rank_metrics import compare_ranks, discounted_gains, hit_rate
from ingest.learn.retrieval import find_ranks_in_mode, rank_by_cooccurrence
from ingest.learn.selection import DEPTH, read_cases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from catalog.console.progress import Reporter
    from ingest.learn.arrays import ContentField, StageFiles
    from ingest.learn.cases import Cases
    from ingest.learn.selection import SelectionInputs
    from ingest.parameters import Parameters

    Ranks = NDArray[np.int64]

ENOUGH_PLAYLISTS = 500
"""Minimum number of training playlists for a re-ranker, unless one is requested with `--ranker`."""

SET_ASIDE, MAX_SET_ASIDE = 0.25, 4_000
"""Share and maximum number of the training playlists that are set aside."""

CASES_PER_PLAYLIST = 8
"""Maximum number of random cases per playlist that is set aside.

In addition, each of these playlists gives one case whose label is the last song."""

MAX_EXAMPLES = 3_000
"""Maximum number of cases to learn from. Cases whose label is not a candidate are not counted."""

MAX_SEEDS = 400_000
"""Maximum total number of seeds in the queries of all cases.

With long playlists, fewer cases are used."""

NEGATIVE_SHARE = 0.3
"""Share of the candidates other than the label that are drawn as negative training examples."""

MODEL = "ranker.txt"
"""Name of the file to which the model is written."""

TREES = 100
"""Number of trees of the model."""

SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 200,
    "lambda_l2": 20.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 1,
    "force_row_wise": True,
    "verbose": -1,
    "deterministic": True,
}
"""Training parameters of LightGBM. With one thread, the same data always give the same model."""


@dataclass(frozen=True)
class RankSummary:
    """Result of the `rank` stage.

    - `text`: a one-line summary for display.
    - `examples`: number of cases that the re-ranker was trained on; 0 if none was trained.
    - `is_used`: whether the re-ranker replaces the selected mode.
    - `trials`: the metrics of the selected mode (value 0) and of the re-ranker (value 1).
    - `figures`: the hit rates and the mean discounted gain of the re-ranker, by name.
    """

    text: str
    examples: int = 0
    is_used: bool = False
    trials: list[Trial] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def train_reranker(
    files: StageFiles, folder: Path, inputs: SelectionInputs, given_mode: str, reporter: Reporter
) -> RankSummary:
    """Train a re-ranker, write it to `folder` as `ranker.txt`, and measure it on validation cases.

    `inputs.parameters` must contain the values that model selection chose. `given_mode` is the
    value of `--mode`. If it is "auto", the re-ranker is used if it is better than the selected mode
    (see `compare_ranks`). If no re-ranker can be trained, the summary says why. If, however,
    `inputs.parameters.ranker` is true, `PlaylistError` is raised instead.
    """
    parameters = inputs.parameters
    with reporter.task("rank") as task:
        playlists = read_playlists(files.train)
        random = np.random.default_rng(parameters.seed)
        obstacle = None if parameters.ranker else _find_obstacle(len(playlists))
        if not obstacle:
            tables, labels = collect_examples(files, playlists, inputs, random)
            if not tables:
                obstacle = "no label is among the candidates"
        if obstacle and parameters.ranker:
            raise PlaylistError(
                f"{obstacle} of {len(playlists):,} training playlists, so no re-ranker can be "
                f"trained: add playlists, or leave out --ranker and --mode ranked"
            )
        if obstacle:
            task.result(f"no re-ranker: {obstacle}")
            return RankSummary(f"no re-ranker: {obstacle}")
        task.advance(1, 2)
        model = fit_trees(tables, labels, files.fields[:MOST_FIELDS], random)
        with storage_errors(folder):
            (folder / MODEL).write_text(model, encoding="utf-8")
        reranked = _compare(Reranker(model), files, inputs)
        summary = _summarise(reranked, inputs.parameters.mode, given_mode, len(tables))
        task.result(summary.text)
    return summary


def _find_obstacle(playlists: int) -> str | None:
    if playlists < ENOUGH_PLAYLISTS:
        return f"{playlists:,} training playlists are fewer than {ENOUGH_PLAYLISTS:,}"
    try:
        load_lightgbm()
    except MissingLibraryError as error:
        return str(error)
    return None


def collect_examples(
    files: StageFiles,
    playlists: Sequence[Songs],
    inputs: SelectionInputs,
    random: np.random.Generator,
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.bool_]]]:
    """Return training data for the re-ranker: two lists with one array per case.

    The cases come from training playlists that are set aside, and the candidates from co-occurrence
    weights counted in the other training playlists. The first list contains the features of the
    label and of a random sample of the other candidates, shape (n, features). The second list
    contains masks of the label, shape (n,).
    """
    order = random.permutation(len(playlists))
    count = min(MAX_SET_ASIDE, round(SET_ASIDE * len(playlists)))
    set_aside = [playlists[index] for index in order[:count].tolist()]
    others = [playlists[index] for index in order[count:].tolist()]
    tables, labels = [], []
    if set_aside:
        cases = sample_cases_with_last(set_aside, random, CASES_PER_PLAYLIST)
        cases = cases.take(random.permutation(len(cases.labels)))
        seeds = np.cumsum([len(query) for query in cases.queries])
        cases = cases.take(np.arange(np.searchsorted(seeds, MAX_SEEDS, side="right")))
        arrays = learn_arrays(files, others, cases.queries, inputs)
        for _, is_label, candidates in find_candidates(arrays, cases, inputs.parameters):
            kept = is_label | (random.random(len(is_label)) < NEGATIVE_SHARE)
            tables.append(build_features(candidates)[kept])
            labels.append(is_label[kept])
            if len(tables) == MAX_EXAMPLES:
                break
    return tables, labels


def learn_arrays(
    files: StageFiles,
    playlists: Sequence[Songs],
    queries: Sequence[Songs],
    inputs: SelectionInputs,
) -> ReleaseArrays:
    """Return the arrays of a release that is made from `playlists`, without dense vectors.

    Only the weights of seeds that occur in `queries` are kept.
    """
    parameters = inputs.parameters
    songs = np.concatenate(playlists)
    total = pq.read_metadata(files.songs).num_rows
    plays = np.bincount(songs, minlength=total)
    needed, scale, parts = seed_mask(queries, total), WeightScale(plays), []
    offsets = np.cumsum([0, *map(len, playlists)])
    for _, _, part in compute_weights(offsets, songs, parameters):
        scale.add(part)
        is_needed = needed[part[0]]
        parts.append(tuple(column[is_needed] for column in part))
    weights = weight_matrix([np.concatenate(column) for column in zip(*parts, strict=True)], total)
    counts = np.where(plays < inputs.catalog_min, 0, plays)
    arrays = ReleaseArrays(
        weights,
        np.zeros(0, np.int32),
        np.zeros((0, 1), np.float32),
        counts,
        scale.value,
        read_content(files.songs, files.fields, counts, scale.value),
    )
    return arrays.with_song_exponent(parameters.song_exponent)


def find_candidates(
    arrays: ReleaseArrays, cases: Cases, parameters: Parameters
) -> Iterator[tuple[int, NDArray[np.bool_], Candidates]]:
    """Yield the cases whose label is a candidate: index of the case, label mask, and candidates.

    The mask, shape (candidates,), marks the label. Cases without a seed in the catalog are left
    out, because the service does not re-rank their recommendations.
    """
    rankings = rank_by_cooccurrence(
        arrays, cases.queries, Recency(parameters.recency), CANDIDATES, parameters.content_shares
    )
    for row, (query, (songs, scores)) in enumerate(zip(cases.queries, rankings, strict=True)):
        is_label = songs == cases.labels[row]
        if is_label.any() and arrays.playlists[query].any():
            yield row, is_label, describe_candidates(arrays, query, songs, scores)


def describe_candidates(
    arrays: ReleaseArrays, query: Songs, songs: NDArray[np.int64], scores: NDArray[np.float64]
) -> Candidates:
    """Return `songs`, shape (n,), as candidates with all data from which features are computed.

    `scores`, shape (n,), are the scores of the search that found the songs. The query must contain
    a song of the catalog.
    """
    is_known = arrays.playlists[query] > 0
    ages = np.arange(len(query))[::-1]
    weights = np.array([recency.weights(ages)[is_known] for recency in RECENCIES])
    known = query[is_known]
    return Candidates(
        scores=np.vstack([scores, score_songs(arrays.weights, known, weights, songs)]),
        plays=arrays.playlists[songs],
        seed_plays=arrays.playlists[known],
        keys=[
            _mark_keys(part, query, is_known, songs) for part in arrays.content[: 1 + MOST_FIELDS]
        ],
    )


def score_songs(
    weights: csr_array,
    seeds: Songs,
    seed_weights: NDArray[np.float64],
    songs: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the co-occurrence scores of n songs for k weightings of m seeds, shape (k, n).

    `weights` contains the co-occurrence weights, shape (songs, songs). `seed_weights` contains the
    recency weights of the seeds, shape (k, m).
    """
    rows = weights[seeds]
    order = np.argsort(songs)
    ascending = songs[order]
    at = np.minimum(np.searchsorted(ascending, rows.indices), len(songs) - 1)
    is_wanted = ascending[at] == rows.indices
    position = order[at[is_wanted]]
    seed = np.repeat(np.arange(len(seeds)), np.diff(rows.indptr))[is_wanted]
    values = rows.data[is_wanted]
    return np.array([np.bincount(position, values * own[seed], len(songs)) for own in seed_weights])


def _mark_keys(
    part: ContentField, query: Songs, is_known: NDArray[np.bool_], songs: NDArray[np.int64]
) -> Keys:
    rows = part.keys[np.concatenate([query, songs])]
    keys, columns = np.unique(rows.indices, return_inverse=True)
    marks = np.zeros((rows.shape[0], len(keys)), bool)
    marks[np.repeat(np.arange(len(marks)), np.diff(rows.indptr)), columns] = True
    seeds = marks[: len(query)]
    if part.name != ARTIST:  # the service knows only the artist of a song that the catalog lacks
        seeds &= is_known[:, None]
    return Keys(candidates=marks[len(query) :], seeds=seeds)


def fit_trees(
    tables: Sequence[NDArray[np.float64]],
    labels: Sequence[NDArray[np.bool_]],
    fields: Sequence[str],
    random: np.random.Generator,
) -> str:
    """Train LightGBM to distinguish labels from other candidates, and return the model as text.

    `tables` and `labels` are the training data (see `collect_examples`). `fields` are the keyword
    payload fields from which features were computed. The seed of LightGBM is drawn from `random`.
    """
    lightgbm = load_lightgbm()
    data = lightgbm.Dataset(
        np.concatenate(tables, dtype=np.float32),
        np.concatenate(labels),
        feature_name=feature_names(fields),
    )
    settings = SETTINGS | {"seed": int(random.integers(2**31))}
    model: str = lightgbm.train(settings, data, TREES).model_to_string()
    return model


@dataclass(frozen=True)
class _Comparison:
    """The ranks of the labels of validation cases in the selected mode and with the re-ranker."""

    selected: Ranks
    reranked: Ranks
    is_better: bool


def _compare(reranker: Reranker, files: StageFiles, inputs: SelectionInputs) -> _Comparison:
    parameters = inputs.parameters
    cases = read_cases(files, parameters.seed)
    arrays = read_arrays(files, cases.queries, inputs.scale, inputs.catalog_min)
    arrays = arrays.with_song_exponent(parameters.song_exponent)
    selected = find_ranks_in_mode(arrays, cases, parameters, DEPTH)
    has_seed = [arrays.playlists[query].any() for query in cases.queries]
    reranked = np.where(has_seed, rerank_cases(reranker, arrays, cases, parameters), selected)
    return _Comparison(selected, reranked, compare_ranks(reranked, selected, cases.playlists))


def _summarise(comparison: _Comparison, mode: str, given_mode: str, examples: int) -> RankSummary:
    is_used = comparison.is_better if given_mode == "auto" else given_mode == "ranked"
    cases = len(comparison.selected)
    without, own = (
        Trial(
            "re-ranking",
            value,
            float(discounted_gains(ranks).sum()) / max(1, cases),
            hit_rate(ranks, 10),
            hit_rate(ranks, 100),
            is_selected=bool(value) == is_used,
        )
        for value, ranks in ((0.0, comparison.selected), (1.0, comparison.reranked))
    )
    text = (
        f"re-ranker of {TREES} trees from {examples:,} cases; gain {own.gain:.4f} ({mode} "
        f"{without.gain:.4f}), HR@10 and HR@100 {own.hit_rate_10:.4f} and "
        f"{own.hit_rate_100:.4f} on {cases:,} validation cases: "
        f"{'better' if comparison.is_better else 'not better'} than {mode}, "
        f"{'used' if is_used else 'not used'}"
    )
    figures = {
        "auto, ranked HR@10": own.hit_rate_10,
        "auto, ranked HR@100": own.hit_rate_100,
        "auto, ranked gain": own.gain,
    }
    return RankSummary(text, examples, is_used, [without, own], figures)


def rerank_cases(
    reranker: Reranker, arrays: ReleaseArrays, cases: Cases, parameters: Parameters
) -> Ranks:
    """Return the rank of each label among the first `DEPTH` songs of the re-ranker.

    Ranks have shape (cases,) and are counted from 1. The rank is 0 if the label is missing.
    """
    ranks = np.zeros(len(cases.labels), np.int64)
    rows, labels, tables = [], [], []
    for row, is_label, candidates in find_candidates(arrays, cases, parameters):
        rows.append(row)
        labels.append(int(is_label.argmax()))
        tables.append(build_features(candidates))
    if not rows:
        return ranks
    predicted = reranker.score(np.concatenate(tables))
    ends = np.cumsum([len(table) for table in tables])
    for row, label, scores in zip(rows, labels, np.split(predicted, ends[:-1]), strict=True):
        # Candidates to which the re-ranker gives the same score keep the order of the search.
        better = np.count_nonzero(scores > scores[label])
        ranks[row] = 1 + better + np.count_nonzero(scores[:label] == scores[label])
    return np.where(ranks <= DEPTH, ranks, 0)
