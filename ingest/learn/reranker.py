"""Training of the re-ranker, and a comparison of the re-ranker with the selected retrieval mode.

A quarter of the training playlists is set aside. Co-occurrence weights and vectors are learned
again from the other three quarters alone, and the model is trained to rank the next songs of the
playlists that were set aside. If the weights included these playlists, the model would learn to
recognise the playlists instead. If one quarter has too few playlists, other quarters are set aside
in turn, and the model is trained on the examples from all of them. Finally, the model is measured
on validation playlists, with the weights and vectors learned from all training playlists.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import PlaylistError
from catalog.files import storage_errors
from catalog.reranker import (
    CHANNELS,
    MOST_FIELDS,
    RECENT,
    Reranker,
    feature_names,
    features,
    load_lightgbm,
    merge_candidates,
)
from ingest.learn import retrieval
from ingest.learn.arrays import (
    ReleaseArrays,
    Songs,
    count_playlists,
    read_arrays,
    read_groups,
    read_playlists,
    seed_mask,
    weight_matrix,
)
from ingest.learn.cases import Cases, last_song_cases, sample_cases, sample_cases_with_last
from ingest.learn.cooccurrence import compute_weights
from ingest.learn.rank_metrics import RankComparison, compare_ranks
from ingest.learn.retrieval import find_ranks_in_mode
from ingest.learn.word2vec import train_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from catalog.console.progress import Reporter, Task
    from ingest.learn.arrays import StageFiles
    from ingest.learn.selection import SelectionInputs
    from ingest.parameters import Parameters

FOLDS = 4
"""Number of parts of the training playlists. One part at a time is set aside."""

ENOUGH_PLAYLISTS = 4_000
"""Number of playlists that are enough: when as many have been set aside, no other part is used.

This saves time, because each part needs new weights and vectors.
"""

CASES_PER_PLAYLIST, MAX_CASES_PER_PLAYLIST, ENOUGH_CASES = 8, 40, 12_000
"""Number of cases per playlist in addition to the last-song case.

At least 8. If there are few playlists, up to 40, to get about 12,000 cases in total.
"""

LAST_SONG_WEIGHT = 5.0
"""Weight of a case whose label is the last song of a playlist; all other cases have weight 1.

The last song matters more, because a request asks for the song after the end of a playlist."""

MAX_VALIDATION_PLAYLISTS = 2_000
"""Maximum number of validation playlists on which the model is measured."""

NEGATIVE_SHARE = 0.1
"""Share of the candidates other than the label that are used as training data."""

MODEL = "ranker.txt"
"""File name of the model."""

DEPTH = 100
"""Number of first songs of a ranking in which the label is searched."""

TREES = 200
"""Number of trees of the model."""

SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.04,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "verbose": -1,
    "deterministic": True,
}


@dataclass
class Examples:
    """Training data of the re-ranker. Each list contains one array per case.

    - `tables`: the features of the candidates, shape (candidates, features).
    - `is_label`: whether each candidate is the label, shape (candidates,).
    - `weights`: the weight of each candidate in training, shape (candidates,).
    """

    tables: list[NDArray[np.float32]]
    is_label: list[NDArray[np.bool_]]
    weights: list[NDArray[np.float64]]

    def add(
        self,
        is_label: NDArray[np.bool_],
        table: NDArray[Any],
        weight: float,
        random: np.random.Generator,
    ) -> None:
        """Add one case: the label, and a random sample of the other candidates."""
        kept = is_label | (random.random(len(is_label)) < NEGATIVE_SHARE)
        self.tables.append(table[kept].astype(np.float32))
        self.is_label.append(is_label[kept])
        self.weights.append(np.full(np.count_nonzero(kept), weight))


@dataclass(frozen=True)
class RankSummary:
    """Result of the `rank` stage.

    - `text`: a one-line summary for display.
    - `cuts`: the number of held-out cases on which the re-ranker was trained.
    - `better`: whether the re-ranker may replace the selected mode. The mean discounted gain must
      be significantly higher, and there must not be clearly fewer hits among last-song cases (see
      `ingest.learn.rank_metrics`).
    - `figures`: the hit rates of the re-ranker and of the selected mode on validation cases, by
      name.
    """

    text: str
    cuts: int
    better: bool
    figures: dict[str, float]


def train_reranker(
    files: StageFiles, folder: Path, inputs: SelectionInputs, reporter: Reporter
) -> RankSummary:
    """Train a re-ranker, write it to `folder` as `ranker.txt`, and measure it on validation cases.

    `inputs.parameters` must contain the selected values. Raises `PlaylistError` if there are too
    few playlists.
    """
    parameters = inputs.parameters
    with reporter.task("rank") as task:
        fields = files.fields[:MOST_FIELDS]
        groups = read_groups(files.songs, fields)
        playlists = read_playlists(files.train)
        random = np.random.default_rng(parameters.seed)
        examples = _collect_examples(playlists, groups, parameters, folder, random, task)
        task.advance(2, 3)
        model = fit_trees(examples, fields, random)
        with storage_errors(folder):
            (folder / MODEL).write_text(model, encoding="utf-8")
        better, figures = _validate(Reranker(model), files, inputs, random)
        text = (
            f"re-ranker of {TREES} trees from {len(examples.is_label):,} cases; HR@100 on "
            f"validation cases {figures['cuts, ranked HR@100']:.4f}, {parameters.mode} "
            f"{figures[f'cuts, {parameters.mode} HR@100']:.4f}: "
            f"{'better' if better else 'not better'} than {parameters.mode}"
        )
        task.result(text)
    return RankSummary(text, len(examples.is_label), better, figures)


def learn_arrays(
    playlists: Sequence[Songs],
    queries: Sequence[Songs],
    groups: NDArray[np.int64],
    parameters: Parameters,
    folder: Path,
) -> ReleaseArrays:
    """Learn co-occurrence weights and vectors from `playlists`.

    Only weights of seeds that occur in `queries` are kept. For `groups`, see `ReleaseArrays`.
    Temporary files are written to `folder`.
    """
    songs = np.concatenate(playlists)
    offsets = np.cumsum([0, *map(len, playlists)])
    total = groups.shape[1]
    needed = seed_mask(queries, total)
    parts = []
    for _, _, part in compute_weights(offsets, songs, parameters):
        selected = needed[part[0]]
        parts.append(tuple(column[selected] for column in part))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    vector_songs, vectors = learn_vectors(playlists, parameters, folder)
    counts = count_playlists(playlists, total, parameters)
    weights = weight_matrix(columns, total)
    arrays = ReleaseArrays(weights, vector_songs, vectors, counts, groups)
    return arrays.with_song_exponent(parameters.song_exponent)


def learn_vectors(
    playlists: Sequence[Songs], parameters: Parameters, folder: Path
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Train Word2Vec on `playlists`. Return song numbers and vectors, as `train_vectors` does."""
    plays = sum(map(len, playlists))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        corpus = Path(name) / "corpus.txt"
        with storage_errors(corpus), corpus.open("w", encoding="ascii") as file:
            file.writelines(" ".join(map(str, songs.tolist())) + "\n" for songs in playlists)
        return train_vectors(corpus, parameters.epochs_for(plays), parameters)


def candidate_features(
    arrays: ReleaseArrays, queries: Sequence[Songs]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield the candidates of each query: song numbers, shape (n,), and features.

    The features have shape (n, features), in the order of `catalog.reranker.feature_names`.
    """
    rankings = zip(
        *(retrieval.search_channel(arrays, queries, channel) for channel in CHANNELS), strict=True
    )
    for query, by_channel in zip(queries, rankings, strict=True):
        songs, scores = merge_candidates(by_channel)
        known = query[arrays.playlists[query] > 0]
        if not len(known):
            songs, scores, known = songs[:0], scores[:, :0], query
        similarities = retrieval.recent_similarities(arrays, query, songs, RECENT)
        yield songs, features(scores, similarities, arrays.traits(songs), arrays.traits(known))


def _collect_examples(
    playlists: Sequence[Songs],
    groups: NDArray[np.int64],
    parameters: Parameters,
    folder: Path,
    random: np.random.Generator,
    task: Task,
) -> Examples:
    """Collect training data, setting aside one part of the playlists after another.

    Stops when `ENOUGH_PLAYLISTS` playlists have been set aside in total. Raises `PlaylistError` if
    there are no cases.
    """
    fold_of = random.integers(FOLDS, size=len(playlists))
    examples = Examples([], [], [])
    count = min(
        max(CASES_PER_PLAYLIST, ENOUGH_CASES // max(1, len(playlists))), MAX_CASES_PER_PLAYLIST
    )
    missing = ENOUGH_PLAYLISTS
    for fold in range(FOLDS):
        in_fold = fold_of == fold
        set_aside = [playlists[i] for i in np.flatnonzero(in_fold)[:missing].tolist()]
        learned_from = [playlists[i] for i in np.flatnonzero(~in_fold).tolist()]
        if not set_aside or not learned_from:
            continue
        cases = sample_cases_with_last(set_aside, random, count)
        task.advance(fold * 2, FOLDS * 3)
        arrays = learn_arrays(learned_from, cases.queries, groups, parameters, folder)
        for index, (songs, table) in enumerate(candidate_features(arrays, cases.queries)):
            weight = LAST_SONG_WEIGHT if index < len(set_aside) else 1.0
            examples.add(songs == cases.labels[index], table, weight, random)
            if index % 500 == 0:
                task.advance(fold * 2 + 1 + index / len(cases.labels), FOLDS * 3)
        missing -= len(set_aside)
        if missing <= 0:
            break
    if not examples.is_label:
        raise PlaylistError(
            f"{len(playlists)} training playlists are too few to train a re-ranker: add "
            f"playlists, or leave out --ranker"
        )
    return examples


def fit_trees(examples: Examples, fields: Sequence[str], random: np.random.Generator) -> str:
    """Train LightGBM to distinguish labels from other candidates, and return the model as text."""
    lightgbm = load_lightgbm()
    data = lightgbm.Dataset(
        np.concatenate(examples.tables),
        np.concatenate(examples.is_label),
        weight=np.concatenate(examples.weights),
        feature_name=feature_names(fields),
    )
    settings = SETTINGS | {"seed": int(random.integers(2**31))}
    model: str = lightgbm.train(settings, data, TREES).model_to_string()
    return model


def _validate(
    reranker: Reranker, files: StageFiles, inputs: SelectionInputs, random: np.random.Generator
) -> tuple[bool, dict[str, float]]:
    parameters = inputs.parameters
    validation = read_playlists(files.validation)[:MAX_VALIDATION_PLAYLISTS]
    sampled = sample_cases(validation, random, CASES_PER_PLAYLIST)
    last = last_song_cases(validation)
    queries = [*sampled.queries, *last.queries]
    arrays = read_arrays(files, queries, inputs.scale, inputs.catalog_min)
    arrays = arrays.with_song_exponent(parameters.song_exponent)
    on_sampled, on_last = (
        compare_ranks(
            rerank_cases(reranker, arrays, cases),
            find_ranks_in_mode(arrays, cases, parameters, DEPTH),
            parameters.mode,
        )
        for cases in (sampled, last)
    )
    return combine_comparisons(on_sampled, on_last)


def combine_comparisons(
    on_sampled: RankComparison, on_last: RankComparison
) -> tuple[bool, dict[str, float]]:
    """Combine the comparisons on two sets of cases into `better` and `figures` of `RankSummary`.

    `on_sampled` is the comparison on cases at random positions, and `on_last` is the comparison on
    last-song cases.
    """
    figures = {f"cuts, {name}": rate for name, rate in on_sampled.hit_rates.items()}
    figures |= {f"last songs, {name}": rate for name, rate in on_last.hit_rates.items()}
    return on_sampled.better and not on_last.fewer, figures


def rerank_cases(reranker: Reranker, arrays: ReleaseArrays, cases: Cases) -> NDArray[np.int64]:
    """Return each label's rank in the re-ranker's first `DEPTH` songs, or 0 if it is missing."""
    return retrieval.ranks_of_labels(
        (
            songs[np.argsort(-reranker.score(table), kind="stable")[:DEPTH]]
            if len(songs)
            else songs
            for songs, table in candidate_features(arrays, cases.queries)
        ),
        cases.labels,
    )
