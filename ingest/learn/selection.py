"""How a release answers where nothing is asked for: as finds most in validation playlists.

Co-occurrence alone, hybrid search at several weights of Word2Vec, and the ranker, where there is
one, are worked out for the same queries (see `ingest.learn.retrieval`). Fusing is not always a
gain: weak vectors beside good co-occurrence lose what that alone would find.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from catalog.reranker import Reranker
from ingest.learn import retrieval
from ingest.learn.cases import Cases, cut_with_lasts
from ingest.learn.gains import KS, finds_fewer, gains, hit_rate
from ingest.learn.reranker import ranked_ranks
from ingest.learn.retrieval import Arrays
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from catalog.progress import Reporter
    from ingest.learn.reranker import Places

WEIGHTS = (0.05, 0.1, 0.2, 0.35, 0.6)
"""What Word2Vec counts beside co-occurrence: the weights that are tried."""

MOST_PLAYLISTS = 1_000
CUTS = 4
"""A playlist is asked about its last song, and about so many others less one."""

SIMILARITIES = 1_200_000_000
"""About so many are worked out at most: with many songs, fewer places are asked about."""

DEPTH = 100


@dataclass(frozen=True)
class Choice:
    """What is chosen from: `weights` of hybrid search, and the `model` of a ranker, if it is good.

    `least` is in how many training playlists a song of the catalog must be.
    """

    weights: Sequence[float]
    least: int
    model: Path | None = None


def weights_of(parameters: Parameters, told: Collection[str]) -> tuple[float, ...]:
    """The weights to be tried: the one that was given, or else several."""
    if "dense_weight" in told or parameters.dense_weight != Parameters.dense_weight:
        return (parameters.dense_weight,)
    return WEIGHTS


def choose(
    places: Places, choice: Choice, parameters: Parameters, reporter: Reporter
) -> dict[str, Any]:
    """Say how to answer: `mode`, `dense_weight`, and the `figures` by which they were chosen.

    By the discounted gain, 1 / log2(1 + rank) within 100: the weight is the one by which hybrid
    search gains most over co-occurrence, less a standard error of the difference. Where that is not
    above 0, co-occurrence answers, which costs less. The ranker must gain more than the better of
    the two, and not find fewer of the playlists' last songs.
    A mode that `parameters` name is taken as it is. If no song has a vector, co-occurrence
    answers; else if no playlist falls to validation, hybrid search does, unmeasured. Reads only the
    strengths that the queries' seeds need.
    """
    asked_for = {"mode": parameters.mode, "dense_weight": parameters.dense_weight, "figures": {}}
    with reporter.task("choose") as task:
        if parameters.mode != "auto":
            text = f"{parameters.mode}, as asked for"
            task.result(text)
            return asked_for | {"text": text}
        having, vectors = retrieval.read_vectors(places.vectors)
        if not len(having):
            text = "cooccurrence, as no song has a vector"
            task.result(text)
            return asked_for | {"mode": "cooccurrence", "text": text}
        held_out = retrieval.read_playlists(places.validation)
        if not held_out:
            text = "hybrid, unmeasured: no playlist falls to validation"
            task.result(text)
            return asked_for | {"mode": "hybrid", "text": text}
        cases = _cases(held_out, SIMILARITIES // max(1, len(having)), parameters.seed)
        arrays = _arrays(places, choice, having, vectors, cases)
        task.advance(1, 3)
        pairs = list(retrieval.both(arrays, cases.queries, parameters, DEPTH))
        task.advance(2, 3)
        found = {"cooccurrence": _ranks([songs[:DEPTH] for (songs, _), _ in pairs], cases)}
        by_weight = {}
        for weight in choice.weights:
            answers = [retrieval.fused(*pair, weight, DEPTH) for pair in pairs]
            by_weight[weight] = _ranks(answers, cases)
        surely = {
            weight: _surely_gained(ranks, found["cooccurrence"])
            for weight, ranks in by_weight.items()
        }
        best = max(surely, key=lambda weight: surely[weight])
        found["hybrid"] = by_weight[best]
        mode = "hybrid" if surely[best] > 0 else "cooccurrence"
        if choice.model:
            # The stage that made it has compared it with hybrid search on more queries than these.
            ranker = Reranker(choice.model.read_text(encoding="utf-8"))
            arrays = replace(arrays, groups=retrieval.read_groups(places.songs, ranker.fields))
            found["ranked"] = ranked_ranks(ranker, arrays, cases)
            lasts = min(len(held_out), MOST_PLAYLISTS, len(cases.labels))
            if _is_better(found["ranked"], found[mode], lasts):
                mode = "ranked"
        figures = {
            f"auto, {name} HR@{k}": hit_rate(ranks, k) for name, ranks in found.items() for k in KS
        }
        figures |= {f"auto, {name} gain": _gain(ranks) for name, ranks in found.items()}
        figures |= {
            f"auto, hybrid at {weight:g} gain": _gain(ranks) for weight, ranks in by_weight.items()
        }
        text = _text(mode, best, found, cases)
        task.result(text)
    return {
        "text": text,
        "mode": mode,
        "dense_weight": best,
        "figures": figures,
        "queries": len(cases.labels),
    }


def _cases(held_out: Sequence[retrieval.Songs], most: int, seed: int) -> Cases:
    """The last songs of a sample of the playlists, and then other places of them."""
    random = np.random.default_rng(seed)
    some = [held_out[place] for place in random.permutation(len(held_out))[:MOST_PLAYLISTS]]
    cases = cut_with_lasts(some, random, CUTS - 1)
    most = max(most, MOST_PLAYLISTS)
    return Cases(cases.queries[:most], cases.labels[:most])


def _arrays(
    places: Places,
    choice: Choice,
    having: NDArray[np.int32],
    vectors: NDArray[np.float32],
    cases: Cases,
) -> Arrays:
    total = pq.read_metadata(places.songs).num_rows
    lists = pq.read_table(places.train, columns=["songs"])["songs"].combine_chunks()
    playlists = np.bincount(lists.flatten().to_numpy(), minlength=total)
    playlists[playlists < choice.least] = 0
    needed = np.zeros(total, bool)
    needed[np.concatenate(cases.queries)] = True
    return Arrays(
        read_strengths(places.strengths, needed),
        having,
        vectors,
        playlists,
        np.zeros((1, total), np.int64),
    )


def read_strengths(path: Path, needed: NDArray[np.bool_]) -> csr_array:
    """The strengths of the `needed` seeds, shape (songs,), in a `cooccurrence.parquet`.

    Memory holds a row group at a time beside them; seeds ascend in the file, so that many groups
    need not be read where few seeds are needed.
    """
    parts: list[tuple[NDArray[Any], ...]] = [
        (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    ]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            seeds_of = file.metadata.row_group(group).column(0).statistics
            if seeds_of and seeds_of.has_min_max:
                span = slice(int(seeds_of.min), int(seeds_of.max) + 1)
                if not needed[span].any():
                    continue
            table = file.read_row_group(group, columns=["seed", "song", "strength"])
            seeds = table["seed"].to_numpy()
            wanted = needed[seeds]
            parts.append(
                (
                    seeds[wanted],
                    table["song"].to_numpy()[wanted],
                    table["strength"].to_numpy()[wanted],
                )
            )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return retrieval.strengths_of(columns, len(needed))


def _ranks(answers: Sequence[NDArray[np.int64]], cases: Cases) -> NDArray[np.int64]:
    return np.array(
        [
            retrieval.rank_in(songs, int(label))
            for songs, label in zip(answers, cases.labels, strict=True)
        ],
        np.int64,
    )


def _is_better(ranked: NDArray[np.int64], other: NDArray[np.int64], lasts: int) -> bool:
    return _gain(ranked) > _gain(other) and not finds_fewer(ranked[:lasts], other[:lasts])


def _surely_gained(ranks: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The mean gain over another answer to the same queries, less its standard error."""
    gained = gains(ranks) - gains(other)
    return float(gained.mean() - gained.std() / len(gained) ** 0.5)


def _gain(ranks: NDArray[np.int64]) -> float:
    return float(gains(ranks).mean())


def _text(mode: str, weight: float, found: dict[str, NDArray[np.int64]], cases: Cases) -> str:
    figures = "; ".join(
        f"{name}{f' at {weight:g}' if name == 'hybrid' else ''} "
        f"{hit_rate(ranks, 10):.4f} and {hit_rate(ranks, 100):.4f}"
        for name, ranks in found.items()
    )
    return f"{mode}; HR@10 and 100 at {len(cases.labels):,} places of validation: {figures}"
