"""Tuned baselines, compared with dense NumPy computations and with values calculated by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from catalog.console.progress import SilentReporter
from evaluation.baselines import choice, ease
from evaluation.baselines.ease import Ease, EaseSettings
from evaluation.baselines.item_knn import ItemKnn, ItemKnnSettings
from evaluation.baselines.top import weigh_by_age
from evaluation.baselines.tuning import tune
from evaluation.baselines.vstan import Vstan, VstanSettings
from evaluation.protocol.cases import HeldOutCases, load_cases
from evaluation.protocol.dataset import Dataset, SongLists, Songs, load_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evaluation.protocol.dataset import SongNumbers
    from evaluation.systems.release import System
    from tests.support.road import Road


@pytest.fixture(scope="module")
def dataset(road: Road) -> Dataset:
    return load_dataset(road.work, road.outcome.manifest.origin.parameters)


def make_dataset(tmp_path: Path, playlists: list[list[int]], songs: int) -> Dataset:
    train = SongLists.from_lists(playlists)
    counted = np.bincount(train.songs, minlength=songs)
    known = Songs(None, np.arange(songs, dtype=np.int32), counted)  # type: ignore[arg-type]
    return Dataset(tmp_path, known, train, 0)


def make_cases(*seeds: list[int]) -> HeldOutCases:
    lists = SongLists.from_lists
    blank = [""] * len(seeds)
    return HeldOutCases(blank, blank, lists(seeds), lists([[0]] * len(seeds)))


def answer(system: System, *seeds: list[int], limit: int = 4) -> list[list[int]]:
    rankings = np.concatenate(list(system.recommend(make_cases(*seeds), limit)))
    return [[song for song in ranking if song >= 0] for ranking in rankings.tolist()]


PLAYLISTS = [[0, 1, 2], [0, 1, 3], [0, 2], [3, 0], [4, 1, 0], [2, 4]]


def test_weights_by_age() -> None:
    weights = weigh_by_age(SongLists.from_lists([[2, -1, 0], [1]]), 3, 1.0).toarray()
    assert weights.tolist() == [[1, 0, pytest.approx(1 / 3)], [0, 1, 0]]


def test_item_knn_by_hand(tmp_path: Path) -> None:
    """Songs 0 to 4 are in 5, 3, 3, 2 and 2 playlists.

    Song 0 shares 3, 2, 2 and 1 playlists with songs 1, 2, 3 and 4.
    """
    dataset = make_dataset(tmp_path, PLAYLISTS, 5)
    # Similarities of songs 1 to 4: 3 / sqrt(15), 2 / sqrt(15), 2 / sqrt(10), 1 / sqrt(10).
    assert answer(ItemKnn(dataset, ItemKnnSettings()), [0]) == [[1, 3, 2, 4]]
    # Similarities that ignore the popularity of the candidate: 3/5, 2/5, 2/5, 1/5.
    assert answer(ItemKnn(dataset, ItemKnnSettings(alpha=1.0)), [0]) == [[1, 2, 3, 4]]
    # Only the two most similar songs are recommended.
    assert answer(ItemKnn(dataset, ItemKnnSettings(neighbours=2)), [0]) == [[1, 3]]
    # The similarities to seed 4 are .41, .41 and 0 for songs 1, 2 and 3. Those to seed 0 are .77,
    # .52 and .63. Seed 4 has half the weight of seed 0, so the scores are .98, .72 and .63.
    assert answer(ItemKnn(dataset, ItemKnnSettings(recency=1.0)), [4, 0]) == [[1, 2, 3]]


def test_item_knn_agrees_with_dense_matrices(dataset: Dataset) -> None:
    settings = ItemKnnSettings(alpha=0.3, shrinkage=2.0, neighbours=800)
    played = dataset.matrix.toarray()
    plays = np.maximum(played.sum(axis=0), 1)
    similar = played.T @ played / (np.outer(plays**0.3, plays**0.7) + 2.0)
    np.fill_diagonal(similar, 0)
    ranking = answer(ItemKnn(dataset, settings), [3, 8], limit=10)[0]
    scores = similar[3] + similar[8]
    scores[[3, 8]] = 0
    assert scores[ranking] == pytest.approx(np.sort(scores)[::-1][:10], rel=1e-4)


def test_vstan_by_hand(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [[0, 1, 2, 3], [4, 0], [5, 6]], 7)
    # The similarities of the query [0] to the first two playlists are 1/2 and 1/sqrt(2).
    assert answer(Vstan(dataset, VstanSettings()), [0]) == [[4, 1, 2, 3]]
    assert answer(Vstan(dataset, VstanSettings(sessions=1)), [0]) == [[4]]
    # Songs 1, 2 and 3 are 1, 2 and 3 positions away from song 0. Songs 1 and 3 are nearest to
    # song 2.
    near = VstanSettings(distance=1.0)
    assert answer(Vstan(dataset, near), [0]) == [[4, 1, 2, 3]]
    assert answer(Vstan(dataset, near), [2]) == [[1, 3, 0]]
    assert answer(Vstan(dataset, near), [0, 2])[0][:2] == [1, 3]
    assert answer(Vstan(dataset, VstanSettings()), [-1], [5]) == [[], [6]]


def test_rare_songs_count_more(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [[0, 1, 2], [0, 1], [1, 3]], 4)
    assert answer(Vstan(dataset, VstanSettings()), [0]) == [[1, 2]]
    assert answer(Vstan(dataset, VstanSettings(rarity=1.0)), [0]) == [[2, 1]]


def test_ease_is_the_inverse_of_the_gram_matrix(dataset: Dataset) -> None:
    songs = ease.find_songs(dataset)
    assert (dataset.songs.playlists[songs] >= ease.MIN_PLAYLISTS).all()
    gram = dataset.matrix[:, songs].toarray().astype(np.float64)
    inverse = np.linalg.inv(gram.T @ gram + 50 * np.eye(len(songs)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    system = Ease(dataset, EaseSettings(regularisation=50.0))
    seeds = songs[[4, 9]].tolist()
    ranking = answer(system, seeds, limit=10)[0]
    scores = weights[4] + weights[9]
    scores[[4, 9]] = -np.inf
    positions = np.searchsorted(songs, ranking)
    assert scores[positions] == pytest.approx(np.sort(scores)[::-1][:10], rel=1e-3)


def test_ease_is_left_out_if_there_are_too_many_songs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(tmp_path, PLAYLISTS, 5)
    monkeypatch.setattr(ease, "MAX_SONGS", 4)
    cases = make_cases([0])
    (left_out,) = choice.build_baselines(("ease",), dataset, cases, 600, SilentReporter())
    assert isinstance(left_out, choice.SkippedBaseline)
    assert left_out.reason.startswith("ease is left out: 5 songs are in 2 or more")


@dataclass(frozen=True)
class Offsets:
    """Settings of a fake system, which ranks the label higher if the values are larger."""

    first: float = 0.0
    second: float = 2.0


def test_each_parameter_is_tuned_with_the_best_values_of_the_others(dataset: Dataset) -> None:
    tried: list[tuple[float, float]] = []

    def recommend(settings: Offsets, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        tried.append((settings.first, settings.second))
        rankings = np.full((len(cases), limit), -1, np.int32)
        rankings[:, int(4 - settings.first) + int(4 - settings.second)] = cases.label
        yield rankings

    grid = {"first": (0.0, 1.0, 2.0), "second": (1.0, 2.0, 0.0)}
    assert tune(Offsets(), grid, recommend, dataset) == Offsets(2.0, 2.0)
    assert tried == [(0, 2), (1, 2), (2, 2), (2, 1), (2, 0)]


@pytest.mark.parametrize("build", [ItemKnn, Vstan, Ease])
def test_tuning_does_not_lower_the_gain_on_validation(build: Any, dataset: Dataset) -> None:
    cases = load_cases(dataset.work, "validation", "last", dataset.seed)

    def gain(system: System) -> float:
        rankings = np.concatenate(list(system.recommend(cases, 100)))
        ranks = (rankings == cases.label[:, None]) @ np.arange(1, 101)
        return float(np.where(ranks > 0, 1 / np.log2(1 + np.maximum(ranks, 1)), 0).mean())

    tuned = build(dataset)
    start = build(dataset, type(tuned.settings)())
    assert gain(tuned) >= gain(start)


def test_defaults_hold_without_validation_playlists(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, PLAYLISTS, 5)
    assert ItemKnn(dataset).settings == ItemKnnSettings()
