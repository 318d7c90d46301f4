"""Training playlists -> the second-stage ranker, and whether it ranks better than hybrid search.

A quarter of the training playlists is held in: strengths and vectors are made once more from the
others alone, and songs of the held-in ones are to be found from the songs before them. Otherwise
the trees would learn how well a playlist is remembered, not how well it is foreseen. Where these
are few, the other quarters follow. What was learned is then applied to the vectors of all training
playlists, and measured on validation playlists.
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
    RECENT,
    Reranker,
    feature_names,
    features,
    load_lightgbm,
    merge_candidates,
)
from ingest.learn import retrieval
from ingest.learn.cases import Cases, cut, cut_with_lasts
from ingest.learn.cooccurrence import strengths
from ingest.learn.gains import comparison
from ingest.learn.retrieval import Arrays, Songs
from ingest.learn.word2vec import train_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from catalog.progress import Reporter, Task
    from ingest.parameters import Parameters

PARTS = 4
ENOUGH = 4_000
"""One of so many parts of the training playlists is held in after the other, but not more playlists
than these in all: each part takes as long as training does."""

CUTS, MOST_CUTS, ENOUGH_CUTS = 8, 40, 12_000
"""So many songs of a playlist are to be found, and its last; more where playlists are few."""

LAST = 5.0
"""What the last song of a playlist counts beside another: where playlists end, other songs come
next than within them, and it is the end of a playlist that is to be continued."""

MOST_VALIDATED = 2_000
NOISE = 0.1
"""The share of the candidates that were not the next song that is learned from."""

MODEL = "ranker.txt"

TREES = 200
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
    """What the trees learn from: features of candidates, and which of them came next."""

    tables: list[NDArray[np.float32]]
    right: list[NDArray[np.bool_]]
    weights: list[NDArray[np.float64]]

    def add(
        self,
        next_song: NDArray[np.bool_],
        table: NDArray[Any],
        weight: float,
        random: np.random.Generator,
    ) -> None:
        """Take the candidates of one cut: the next song, and a sample of the others."""
        kept = next_song | (random.random(len(next_song)) < NOISE)
        self.tables.append(table[kept].astype(np.float32))
        self.right.append(next_song[kept])
        self.weights.append(np.full(np.count_nonzero(kept), weight))


@dataclass(frozen=True)
class Places:
    """The files that the ranker is made from; see the stages that write them.

    `fields` are the fields of the songs that it looks at.
    """

    songs: Path
    train: Path
    validation: Path
    strengths: Path
    vectors: Path
    fields: Sequence[str] = ()


def rank(
    places: Places, folder: Path, parameters: Parameters, reporter: Reporter
) -> dict[str, Any]:
    """Write `ranker.txt`, LightGBM's model, to `folder`; returns what it brings on validation.

    `better` in the result says whether it may answer in the place of hybrid search: its gain on
    many cuts must be beyond chance (the discounted gain, 1 / log2(1 + rank) within 100, of the same
    queries, compared in pairs), and it must not find fewer of the playlists' last songs (see
    `ingest.learn.gains.finds_fewer`).
    """
    with reporter.task("rank") as task:
        groups = retrieval.read_groups(places.songs, places.fields)
        playlists = retrieval.read_playlists(places.train)
        random = np.random.default_rng(parameters.seed)
        examples = _examples(playlists, groups, parameters, folder, random, task)
        task.advance(2, 3)
        model = fit(examples, places.fields, random)
        with storage_errors(folder):
            (folder / MODEL).write_text(model, encoding="utf-8")
        figures = _validated(Reranker(model), places, playlists, groups, parameters, random)
        verdict = "better than hybrid search" if figures["better"] else "no better than hybrid"
        text = (
            f"ranker of {TREES} trees from {len(examples.right):,} cuts; HR@100 on validation cuts "
            f"{figures['cuts, ranked HR@100']:.4f}, hybrid {figures['cuts, hybrid HR@100']:.4f}: "
            f"{verdict}"
        )
        task.result(text)
    return {"text": text, "cuts": len(examples.right), **figures}


def arrays_of(
    playlists: Sequence[Songs],
    queries: Sequence[Songs],
    groups: NDArray[np.int64],
    parameters: Parameters,
    folder: Path,
) -> Arrays:
    """Count and train on these playlists; strengths only of seeds of these queries."""
    songs = np.concatenate(playlists)
    offsets = np.cumsum([0, *map(len, playlists)])
    total = groups.shape[1]
    needed = np.zeros(total, bool)
    needed[np.concatenate([np.zeros(0, np.int32), *queries])] = True
    parts = []
    for _, _, (seeds, predicted, strength) in strengths(offsets, songs, parameters):
        wanted = needed[seeds]
        parts.append((seeds[wanted], predicted[wanted], strength[wanted]))
    pairs = [np.concatenate(column) for column in zip(*parts, strict=True)]
    having, vectors = vectors_of(playlists, parameters, folder)
    counts = retrieval.playlists_of(playlists, total, parameters)
    return Arrays(retrieval.strengths_of(pairs, total), having, vectors, counts, groups)


def vectors_of(
    playlists: Sequence[Songs], parameters: Parameters, folder: Path
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Train Word2Vec on these playlists: songs and vectors, as `train_vectors` gives them."""
    plays = sum(map(len, playlists))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        corpus = Path(name) / "corpus.txt"
        with storage_errors(corpus), corpus.open("w", encoding="ascii") as file:
            file.writelines(" ".join(map(str, some.tolist())) + "\n" for some in playlists)
        return train_vectors(corpus, parameters.epochs_for(plays), parameters)


def tables(arrays: Arrays, queries: Sequence[Songs]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """For each query its candidates' numbers, shape (n,), and features."""
    found = zip(
        *(retrieval.searched(arrays, queries, channel) for channel in CHANNELS), strict=True
    )
    for query, lists in zip(queries, found, strict=True):
        songs, scores = merge_candidates(lists)
        known = query[arrays.playlists[query] > 0]
        if not len(known):
            songs, scores, known = songs[:0], scores[:, :0], query
        similarities = retrieval.similarities(arrays, query, songs, RECENT)
        yield songs, features(scores, similarities, arrays.traits(songs), arrays.traits(known))


def _examples(
    playlists: Sequence[Songs],
    groups: NDArray[np.int64],
    parameters: Parameters,
    folder: Path,
    random: np.random.Generator,
    task: Task,
) -> Examples:
    """What there is to learn from in the playlists, part after part until it is enough."""
    part_of = random.integers(PARTS, size=len(playlists))
    examples = Examples([], [], [])
    cuts = min(max(CUTS, ENOUGH_CUTS // max(1, len(playlists))), MOST_CUTS)
    enough = ENOUGH
    for part in range(PARTS):
        held_in = [songs for songs, own in zip(playlists, part_of, strict=True) if own == part]
        others = [songs for songs, own in zip(playlists, part_of, strict=True) if own != part]
        held_in = held_in[:enough]
        if not held_in or not others:
            continue
        cases = cut_with_lasts(held_in, random, cuts)
        task.advance(part * 2, PARTS * 3)
        arrays = arrays_of(others, cases.queries, groups, parameters, folder)
        for place, (songs, table) in enumerate(tables(arrays, cases.queries)):
            weight = LAST if place < len(held_in) else 1.0
            examples.add(songs == cases.labels[place], table, weight, random)
            if place % 500 == 0:
                task.advance(part * 2 + 1 + place / len(cases.labels), PARTS * 3)
        enough -= len(held_in)
        if enough <= 0:
            break
    if not examples.right:
        raise PlaylistError(
            f"{len(playlists)} training playlists are too few for a ranker: give more, or leave "
            f"out --ranker"
        )
    return examples


def fit(examples: Examples, fields: Sequence[str], random: np.random.Generator) -> str:
    """LightGBM's model as text: which of a query's candidates came next."""
    lightgbm = load_lightgbm()
    data = lightgbm.Dataset(
        np.concatenate(examples.tables),
        np.concatenate(examples.right),
        weight=np.concatenate(examples.weights),
        feature_name=feature_names(fields),
    )
    settings = SETTINGS | {"seed": int(random.integers(2**31))}
    model: str = lightgbm.train(settings, data, TREES).model_to_string()
    return model


def _validated(
    ranker: Reranker,
    places: Places,
    playlists: Sequence[Songs],
    groups: NDArray[np.int64],
    parameters: Parameters,
    random: np.random.Generator,
) -> dict[str, Any]:
    held_out = retrieval.read_playlists(places.validation)[:MOST_VALIDATED]
    cuts = cut(held_out, random, CUTS)
    lasts = Cases(
        [songs[:-1] for songs in held_out], np.array([songs[-1] for songs in held_out], np.int64)
    )
    seeds = np.unique(np.concatenate([np.zeros(0, np.int32), *cuts.queries, *lasts.queries]))
    total = groups.shape[1]
    arrays = Arrays(
        retrieval.read_strengths(places.strengths, total, seeds),
        *retrieval.read_vectors(places.vectors),
        retrieval.playlists_of(playlists, total, parameters),
        groups,
    )
    on_cuts, on_lasts = (
        comparison(ranked_ranks(ranker, arrays, cases), hybrid_ranks(arrays, cases, parameters))
        for cases in (cuts, lasts)
    )
    return verdict_of(on_cuts, on_lasts)


def verdict_of(on_cuts: dict[str, Any], on_lasts: dict[str, Any]) -> dict[str, Any]:
    """One result of two comparisons: see `rank`."""
    named = {"cuts": on_cuts, "last songs": on_lasts}
    return {"better": on_cuts["better"] and not on_lasts["fewer"]} | {
        f"{kind}, {name}": value
        for kind, figures in named.items()
        for name, value in figures.items()
        if " HR@" in name
    }


def ranked_ranks(ranker: Reranker, arrays: Arrays, cases: Cases) -> NDArray[np.int64]:
    """The place of each label in the ranker's answer, from 1 to 100, or 0."""
    ranked = np.zeros(len(cases.labels), np.int64)
    for place, (songs, table) in enumerate(tables(arrays, cases.queries)):
        if len(songs):
            order = np.argsort(-ranker.score(table), kind="stable")[:100]
            ranked[place] = retrieval.rank_in(songs[order], int(cases.labels[place]))
    return ranked


def hybrid_ranks(arrays: Arrays, cases: Cases, parameters: Parameters) -> NDArray[np.int64]:
    """The place of each label in the answer of hybrid search, from 1 to 100, or 0."""
    pairs = retrieval.both(arrays, cases.queries, parameters, 100)
    return np.array(
        [
            retrieval.rank_in(retrieval.fused(*pair, parameters.dense_weight, 100), int(label))
            for pair, label in zip(pairs, cases.labels, strict=True)
        ],
        np.int64,
    )
