"""Which baselines there are, and what each is expected to cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from catalog.errors import InputError
from evaluation.baselines import factors, word2vec
from evaluation.baselines.factors import FACTORS, ITERATIONS, Als, Bpr
from evaluation.baselines.neighbours import NEIGHBOURS, SESSIONS, ItemItem, SessionKnn
from evaluation.baselines.popular import Popularity, Random
from evaluation.baselines.rules import STEPS, SequentialRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.progress import Reporter
    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data
    from evaluation.systems.release import System

NAMES = (
    "random",
    "popularity",
    "tutorial",
    "word2vec-mean",
    "item-item",
    "session-knn",
    "rules",
    "als",
    "bpr",
)

QUICK = ("popularity", "tutorial", "item-item", "session-knn", "rules")
"""Those that need no optional library and little time."""

OF_WORD2VEC = ("tutorial", "word2vec-mean")

_SCALAR = 1.5e-8  # seconds for each step of sparse arithmetic, each score that is sorted
_VECTOR = 1.0e-10  # seconds for each multiplication of dense matrices


def chosen(text: str) -> tuple[str, ...]:
    """The baselines that a list names: with commas, or `all`, `quick` or `none`.

    Raises `InputError`.
    """
    named = {"all": NAMES, "quick": QUICK, "none": ()}.get(text)
    if named is not None:
        return named
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in NAMES:
            raise InputError(f"there is no baseline '{name}'; there are {', '.join(NAMES)}")
    return names


def require_libraries(names: Sequence[str]) -> None:
    """Raise `MissingExtraError` unless the libraries that these baselines need are installed."""
    if {"als", "bpr"} & {*names}:
        factors.require_installed()


def seconds(name: str, data: Data, queries: Queries) -> float:
    """Roughly how long a baseline takes to learn and to answer, on one core."""
    songs, train = len(data.songs), data.train
    asked = queries.seeds.songs[queries.seeds.songs >= 0]
    scores = len(queries) * songs * _SCALAR
    plays = len(train.songs)
    tutorial = plays * word2vec.EPOCHS * 4e-6
    known = int((data.songs.playlists >= word2vec.PARAMETERS.min_count).sum())
    nearest = len(queries) * known * (48 * _VECTOR + _SCALAR)
    length = plays / max(1, len(train))
    held = data.songs.playlists[asked].sum()
    return {
        "random": 0.0,
        "popularity": 0.0,
        "tutorial": tutorial + nearest,
        "word2vec-mean": tutorial + nearest,
        "item-item": (
            float((train.lengths.astype(np.float64) ** 2).sum()) * 4 + len(asked) * NEIGHBOURS
        )
        * _SCALAR,
        "session-knn": float(held * 4 + len(queries) * SESSIONS * length * 2) * _SCALAR,
        "rules": plays * STEPS * 3e-7,
        "als": plays * ITERATIONS * FACTORS * 2e-8 + scores,
        "bpr": plays * 100 * 4e-7 + scores,
    }[name]


def built(
    names: Sequence[str], data: Data, queries: Queries, patience: float, reporter: Reporter
) -> Iterator[System | str]:
    """The baselines of these names, each learned when its turn comes.

    One that would take more than `patience` seconds, or that cannot be learned from these
    playlists, is left out: a line says so instead. Raises `MissingExtraError`.
    """
    model: word2vec.Model | None = None
    for name in names:
        if name in OF_WORD2VEC and not word2vec.has_vocabulary(data):
            yield (
                f"{name} is left out: no song is in {word2vec.PARAMETERS.min_count} training "
                f"playlists, as the tutorials' way wants"
            )
            continue
        expected = seconds(name, data, queries)
        if expected > patience:
            yield (
                f"{name} would take about {expected / 60:,.0f} minutes and is left out: "
                f"{len(queries):,} queries, {len(data.songs):,} songs, "
                f"{len(data.train.songs):,} training plays (--patience)"
            )
            continue
        with reporter.task("learn") as task:
            if name in OF_WORD2VEC and model is None:
                model = word2vec.tutorial_model(data)
            system = _system(name, data, model)
            task.result(system.name)
        yield system


def _system(name: str, data: Data, model: word2vec.Model | None) -> System:
    if name in OF_WORD2VEC:
        assert model is not None
        return word2vec.LastSong(data, model) if name == "tutorial" else word2vec.MeanOfAll(model)
    kinds: dict[str, type[System]] = {
        "random": Random,
        "popularity": Popularity,
        "item-item": ItemItem,
        "session-knn": SessionKnn,
        "rules": SequentialRules,
        "als": Als,
        "bpr": Bpr,
    }
    system: System = kinds[name](data)  # type: ignore[call-arg]
    return system
