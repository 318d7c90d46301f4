"""Examples of held-out cases for the report: seeds, recommendations and the rank of the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.relevance import find_label_ranks, match_labels

if TYPE_CHECKING:
    from evaluation.judge.result import Evaluation

EXAMPLES_PER_OUTCOME = 3  # number of examples of early hits, of later hits and of misses

MAX_SUGGESTIONS = 10  # number of recommended songs that an example shows

MAX_SEEDS = 6  # maximum number of seeds that an example shows


@dataclass(frozen=True, slots=True)
class Example:
    """One held-out case, with songs given by name.

    - `name`: name of the playlist.
    - `seeds`, `earlier_seeds`: the last seeds, and the number of seeds before them.
    - `label`: the label with the best rank, or the first label if none is recommended.
    - `rank`: the rank of `label`, from 1, or 0 if no label is among the `depth` recommended songs.
    - `suggestions`: the first recommended songs, and whether each is a label.
    """

    name: str
    seeds: list[str]
    earlier_seeds: int
    label: str
    rank: int
    depth: int
    suggestions: list[tuple[str, bool]]


def draw_examples(result: Evaluation, seed: int = 0) -> list[Example]:
    """Draw random cases of three kinds: label among the first ten songs, label later, and miss."""
    ranks = find_label_ranks(match_labels(result.main.rankings, result.cases.labels))
    is_early = (ranks > 0) & (ranks <= MAX_SUGGESTIONS)
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    for has_outcome in (is_early, ranks > MAX_SUGGESTIONS, ranks == 0):
        rows = random.permutation(np.flatnonzero(has_outcome))
        chosen += sorted(rows[:EXAMPLES_PER_OUTCOME].tolist())
    return [_make_example(result, row, int(ranks[row])) for row in chosen]


def _make_example(result: Evaluation, row: int, rank: int) -> Example:
    cases, songs, ranking = result.cases, result.dataset.songs, result.main.rankings[row]
    seeds = cases.seeds[row]
    labels = set(cases.labels[row].tolist())
    suggestions = [int(song) for song in ranking[:MAX_SUGGESTIONS] if song >= 0]
    return Example(
        name=cases.names[row],
        seeds=[songs.name(int(song)) for song in seeds[-MAX_SEEDS:]],
        earlier_seeds=max(0, len(seeds) - MAX_SEEDS),
        label=songs.name(int(cases.label[row] if rank == 0 else ranking[rank - 1])),
        rank=rank,
        depth=len(ranking),
        suggestions=[(songs.name(song), song in labels) for song in suggestions],
    )
