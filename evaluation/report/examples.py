"""A few playlists of the evaluation: what was asked, what was suggested, where the label came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.relevance import ranks, relevant

if TYPE_CHECKING:
    from evaluation.judge.result import Evaluation

OF_EACH = 3

SHOWN = 10

ASKED = 6


@dataclass(frozen=True, slots=True)
class Example:
    """One playlist. `place` is that of the label, from 1, or 0 where it was not recommended."""

    name: str
    asked: list[tuple[str, str]]
    before: int
    label: tuple[str, str]
    place: int
    depth: int
    suggested: list[tuple[str, str, bool]]


def examples(result: Evaluation, seed: int = 0) -> list[Example]:
    """Playlists drawn at random: some with the label among the first ten, some later, some not."""
    main, queries = result.main, result.queries
    place = ranks(relevant(main.rankings, queries.labels))
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    for kind in ((place > 0) & (place <= SHOWN), place > SHOWN, place == 0):
        found = np.flatnonzero(kind)
        chosen += sorted(random.permutation(found)[:OF_EACH].tolist())
    return [_example(result, at, int(place[at])) for at in chosen]


def _example(result: Evaluation, at: int, place: int) -> Example:
    songs, queries = result.data.songs, result.queries
    seeds = queries.seeds[at]
    label = int(queries.label[at]) if place == 0 else int(result.main.rankings[at][place - 1])
    labels = {int(one) for one in queries.labels[at]}
    first = [int(one) for one in result.main.rankings[at][:SHOWN] if 0 <= one < len(songs)]
    return Example(
        name=queries.names[at],
        asked=[_name(result, int(one)) for one in seeds[-ASKED:]],
        before=max(0, len(seeds) - ASKED),
        label=_name(result, label),
        place=place,
        depth=result.main.rankings.shape[1],
        suggested=[(*_name(result, one), one in labels) for one in first],
    )


def _name(result: Evaluation, song: int) -> tuple[str, str]:
    seed = result.data.songs.seed(song)
    return seed.artist, seed.title
