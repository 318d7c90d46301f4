"""The names of all baselines, their expected duration, and their construction by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from catalog.errors import InputError
from evaluation.baselines import ease, factors, word2vec
from evaluation.baselines.factors import ALS_ITERATIONS, BPR_ITERATIONS, FACTORS, Als, Bpr
from evaluation.baselines.item_knn import SIMILARITIES_TO_COMPUTE, ItemKnn
from evaluation.baselines.neighbours import NEIGHBOURS, SESSIONS, ItemItem, SessionKnn
from evaluation.baselines.popular import Popularity, Random
from evaluation.baselines.rules import MAX_DISTANCE, SequentialRules
from evaluation.baselines.tuning import TUNING_CASES
from evaluation.baselines.vstan import SETTINGS_TO_TRY, Vstan, VstanSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from catalog.console.progress import Reporter
    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset
    from evaluation.systems.release import System

NAMES = (
    "random",
    "popularity",
    "tutorial",
    "word2vec-mean",
    "item-item",
    "session-knn",
    "rules",
    "item-knn",
    "vstan",
    "ease",
    "als",
    "bpr",
)

QUICK = ("popularity", "tutorial", "item-item", "session-knn", "rules")
"""Baselines that are scored by default: they are fast and need no optional library."""

_WORD2VEC = ("tutorial", "word2vec-mean")

# Durations of operations, measured on one core.
_SECONDS_PER_SPARSE_OPERATION = 1.5e-8  # multiplying two weights, or sorting one score
_SECONDS_PER_DENSE_MULTIPLICATION = 1.0e-10
_SECONDS_PER_WORD2VEC_PLAY = 4e-6  # one song of a playlist in one epoch
_SECONDS_PER_NEIGHBOUR_SONG = 2e-8  # scoring one song of a similar playlist
_SECONDS_PER_INVERSION = 6e-11  # one of the n^3 operations that invert an n x n matrix
_SECONDS_PER_RULE = 3e-7  # counting one pair of songs of a playlist
_SECONDS_PER_ALS_UPDATE = 2e-8  # one factor, for one song of a playlist in one iteration
_SECONDS_PER_BPR_UPDATE = 4e-7  # one song of a playlist in one iteration


@dataclass(frozen=True, slots=True)
class SkippedBaseline:
    """A baseline that is not scored. `reason` is a sentence for the report."""

    reason: str


def parse_names(text: str) -> tuple[str, ...]:
    """Return the baseline names in a comma-separated list.

    The text can also be `all`, `quick` or `none`, which select a predefined group of baselines.
    Raises `InputError` for an unknown name.
    """
    preset = {"all": NAMES, "quick": QUICK, "none": ()}.get(text)
    if preset is not None:
        return preset
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in NAMES:
            raise InputError(f"there is no baseline '{name}': choose from {', '.join(NAMES)}")
    return names


def require_libraries(names: Sequence[str]) -> None:
    """Raise `MissingExtraError` unless the libraries that these baselines need are installed."""
    if {"als", "bpr"} & {*names}:
        factors.require_installed()


def estimate_seconds(name: str, dataset: Dataset, cases: HeldOutCases) -> float:
    """Return the expected seconds to train a baseline and score all cases on one core."""
    songs, train = len(dataset.songs), dataset.train
    plays = len(train.songs)
    seeds = cases.seeds.songs[cases.seeds.songs >= 0]
    scoring = len(cases) * songs * _SECONDS_PER_SPARSE_OPERATION
    with_vector = int((dataset.songs.playlists >= word2vec.PARAMETERS.min_count).sum())
    tutorial = plays * word2vec.EPOCHS * _SECONDS_PER_WORD2VEC_PLAY + len(cases) * with_vector * (
        word2vec.PARAMETERS.dimensions * _SECONDS_PER_DENSE_MULTIPLICATION
        + _SECONDS_PER_SPARSE_OPERATION
    )
    pairs_of_songs = float((train.lengths.astype(np.float64) ** 2).sum())
    playlists_of_seeds = float(dataset.songs.playlists[seeds].sum())
    mean_length = plays / max(1, len(train))
    return {
        "random": 0.0,
        "popularity": 0.0,
        "tutorial": tutorial,
        "word2vec-mean": tutorial,
        "item-item": (pairs_of_songs * 4 + len(seeds) * NEIGHBOURS) * _SECONDS_PER_SPARSE_OPERATION,
        "session-knn": (playlists_of_seeds * 4 + len(cases) * SESSIONS * mean_length * 2)
        * _SECONDS_PER_SPARSE_OPERATION,
        "rules": plays * MAX_DISTANCE * _SECONDS_PER_RULE,
        "item-knn": pairs_of_songs * 4 * _SECONDS_PER_SPARSE_OPERATION * SIMILARITIES_TO_COMPUTE,
        "vstan": (len(cases) + TUNING_CASES * SETTINGS_TO_TRY)
        * (
            VstanSettings().sessions * mean_length * _SECONDS_PER_NEIGHBOUR_SONG
            + songs * _SECONDS_PER_SPARSE_OPERATION
        ),
        "ease": float(len(ease.find_songs(dataset))) ** 3
        * _SECONDS_PER_INVERSION
        * ease.INVERSIONS,
        "als": plays * ALS_ITERATIONS * FACTORS * _SECONDS_PER_ALS_UPDATE + scoring,
        "bpr": plays * BPR_ITERATIONS * _SECONDS_PER_BPR_UPDATE + scoring,
    }[name]


def build_baselines(
    names: Sequence[str], dataset: Dataset, cases: HeldOutCases, patience: float, reporter: Reporter
) -> Iterator[System | SkippedBaseline]:
    """Yield the named baselines. Each baseline is trained just before it is yielded.

    A baseline is skipped if it is expected to take more than `patience` seconds, or if these
    playlists are too few or too many to train it. Raises `MissingExtraError` if a required library
    is not installed.
    """
    model: word2vec.Model | None = None
    for name in names:
        reason = _reason_to_skip(name, dataset, cases, patience)
        if reason:
            yield SkippedBaseline(reason)
            continue
        with reporter.task("learn") as task:
            if name in _WORD2VEC:
                model = model or word2vec.train_tutorial_model(dataset)
                system = _build_word2vec(name, dataset, model)
            else:
                system = _BUILDERS[name](dataset)
            task.result(system.name)
        yield system


def _reason_to_skip(
    name: str, dataset: Dataset, cases: HeldOutCases, patience: float
) -> str | None:
    if name in _WORD2VEC and not word2vec.has_vocabulary(dataset):
        return (
            f"{name} is left out: its model needs songs in {word2vec.PARAMETERS.min_count} or more "
            f"training playlists, and there is none"
        )
    if name == "ease" and (songs := len(ease.find_songs(dataset))) > ease.MAX_SONGS:
        return (
            f"ease is left out: {songs:,} songs are in {ease.MIN_PLAYLISTS} or more training "
            f"playlists, and it is limited to {ease.MAX_SONGS:,}, because memory grows with the "
            f"square of their number"
        )
    expected = estimate_seconds(name, dataset, cases)
    if expected > patience:
        return (
            f"{name} would take about {expected / 60:,.0f} minutes and is left out: "
            f"{len(cases):,} queries, {len(dataset.songs):,} songs, "
            f"{len(dataset.train.songs):,} training plays (--patience)"
        )
    return None


def _build_word2vec(name: str, dataset: Dataset, model: word2vec.Model) -> System:
    if name == "tutorial":
        return word2vec.LastSong(dataset, model)
    return word2vec.MeanOfAll(model)


_BUILDERS: dict[str, Callable[[Dataset], System]] = {
    "random": Random,
    "popularity": Popularity,
    "item-item": ItemItem,
    "session-knn": SessionKnn,
    "rules": SequentialRules,
    "item-knn": ItemKnn,
    "vstan": Vstan,
    "ease": ease.Ease,
    "als": Als,
    "bpr": Bpr,
}
