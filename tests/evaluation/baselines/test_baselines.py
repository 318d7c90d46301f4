"""Baselines, compared with dense NumPy computations and with values calculated by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import InputError
from evaluation.baselines import choice, neighbours, word2vec
from evaluation.baselines.neighbours import ItemItem, SessionKnn, keep_highest
from evaluation.baselines.popular import Popularity, Random
from evaluation.baselines.rules import SequentialRules
from evaluation.baselines.top import rank_dense, rank_sparse
from evaluation.protocol.cases import HeldOutCases, load_cases
from evaluation.protocol.dataset import Dataset, SongLists, Songs, load_dataset
from tests.support.road import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.systems.release import System
    from tests.support.road import Road


@pytest.fixture(scope="module")
def dataset(road: Road) -> Dataset:
    return load_dataset(road.work, road.outcome.manifest.origin.parameters)


@pytest.fixture(scope="module")
def cases(road: Road) -> HeldOutCases:
    return load_cases(road.work, "test", "last", 0)


@pytest.fixture(scope="module")
def systems(dataset: Dataset, cases: HeldOutCases) -> dict[str, Any]:
    built = choice.build_baselines(choice.NAMES, dataset, cases, 600, SilentReporter())
    return {
        system.key: system for system in built if not isinstance(system, choice.SkippedBaseline)
    }


def answers(system: System, cases: HeldOutCases, limit: int = 20) -> np.ndarray:
    return np.concatenate(list(system.recommend(cases, limit)))


def train_matrix(dataset: Dataset) -> np.ndarray:
    dense = np.zeros((len(dataset.train), len(dataset.songs)))
    for row in range(len(dataset.train)):
        dense[row, dataset.train[row]] = 1
    return dense


def assert_ranked_by(ranking: np.ndarray, scores: np.ndarray, seeds: Any, limit: int) -> None:
    """Assert that a ranking contains the songs with the highest scores, without the seeds.

    Songs with equal scores may be in any order.
    """
    scores = scores.astype(np.float64).copy()
    scores[seeds] = 0
    best = np.sort(scores)[::-1][:limit]
    kept = ranking[ranking >= 0]
    assert len(kept) == (best > 0).sum()
    assert scores[kept] == pytest.approx(best[best > 0], rel=1e-4)


def test_no_baseline_repeats_a_song_or_leaves_the_catalog(
    systems: dict[str, Any], dataset: Dataset, cases: HeldOutCases
) -> None:
    assert list(systems) == list(choice.NAMES)
    for key, system in systems.items():
        rankings = answers(system, cases, 100)
        assert rankings.shape == (len(cases), 100), key
        for row, songs in enumerate(rankings):
            there = songs[songs >= 0]
            assert len(np.unique(there)) == len(there), key
            assert dataset.songs.in_catalog[there].all(), key
            if key != "tutorial":  # this baseline excludes only the last song
                assert not np.isin(there, cases.seeds[row]).any(), key


def test_rankings_do_not_depend_on_the_batch(systems: dict[str, Any], cases: HeldOutCases) -> None:
    few = cases.take(np.arange(5, 8))
    for key in ("item-item", "session-knn", "rules", "als", "bpr", "word2vec-mean"):
        together, alone = answers(systems[key], cases)[5:8], answers(systems[key], few)
        # Rounding in BLAS may change the order of ties.
        assert (together == alone).mean() > 0.95, key


def test_popularity_recommends_the_most_popular_songs(
    dataset: Dataset, cases: HeldOutCases
) -> None:
    rankings = answers(Popularity(dataset), cases, 10)
    for row in range(len(cases)):
        own = set(cases.seeds[row].tolist())
        expected = [song for song in dataset.songs.by_popularity if song not in own][:10]
        assert rankings[row].tolist() == expected


def test_random_songs_are_drawn_from_the_whole_catalog(
    dataset: Dataset, cases: HeldOutCases
) -> None:
    rankings = answers(Random(dataset), cases, 10)
    assert len(np.unique(rankings)) > 0.6 * len(dataset.songs.by_popularity)
    assert (answers(Random(dataset), cases, 10) == rankings).all()


def test_the_tutorial_recommends_neighbours_of_the_last_song(
    systems: dict[str, Any], dataset: Dataset, cases: HeldOutCases
) -> None:
    system = systems["tutorial"]
    model: word2vec.Model = system._model
    vectors = np.zeros((len(dataset.songs), model.vectors.shape[1]))
    vectors[model.songs] = model.vectors
    rankings = answers(system, cases, 10)
    for row in range(len(cases)):
        last = cases.seeds[row][-1]
        if model.row[last] >= 0:
            assert last not in rankings[row]
            cosine = vectors @ vectors[last]
            cosine[model.row < 0] = -2
            cosine[last] = -2
            assert cosine[rankings[row]] == pytest.approx(np.sort(cosine)[::-1][:10], abs=1e-5)


TRAIN = """
import hashlib, sys
from pathlib import Path
from evaluation.protocol.dataset import load_dataset
from evaluation.baselines import word2vec
model = word2vec.train_tutorial_model(load_dataset(Path(sys.argv[1]), {"seed": 0}))
print(hashlib.sha256(model.songs.tobytes() + model.vectors.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_the_tutorial_model_is_repeatable(road: Road) -> None:
    digests = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", TRAIN, str(road.work)]
        child = subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(child.stdout)
    assert len(digests) == 1


def test_item_item_is_the_cosine_of_columns(dataset: Dataset, cases: HeldOutCases) -> None:
    played = train_matrix(dataset)
    lengths = np.maximum(np.linalg.norm(played, axis=0), 1)
    similar = played.T @ played / np.outer(lengths, lengths)
    np.fill_diagonal(similar, 0)
    if len(dataset.songs) > neighbours.NEIGHBOURS:
        threshold = -np.sort(-similar, axis=1)[:, neighbours.NEIGHBOURS - 1]
        assert ((similar > 0).sum(axis=1) > neighbours.NEIGHBOURS).any()
        similar[similar < threshold[:, None]] = 0
    rankings = answers(ItemItem(dataset), cases, 5)
    right = 0
    for row in range(len(cases)):
        scores = similar[cases.seeds[row]].sum(axis=0)
        scores[cases.seeds[row]] = 0
        best = np.sort(scores)[::-1][:5]
        right += np.allclose(scores[rankings[row]], best, rtol=0.02)
    assert right > 0.9 * len(cases)  # ties at rank 200 are broken arbitrarily, so some cases differ


def test_item_item_is_the_same_in_several_parts(
    dataset: Dataset, cases: HeldOutCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = answers(ItemItem(dataset), cases)
    monkeypatch.setattr(neighbours, "MAX_PAIRS", 2_000)
    assert (answers(ItemItem(dataset), cases) == at_once).all()


def test_session_knn_adds_up_the_most_similar_playlists(
    dataset: Dataset, cases: HeldOutCases
) -> None:
    played = train_matrix(dataset)
    rankings = answers(SessionKnn(dataset), cases, 10)
    compared = 0
    for row in range(len(cases)):
        seeds = cases.seeds[row]
        weights = np.zeros(len(dataset.songs))
        weights[seeds] = 0.9 ** np.arange(len(seeds))[::-1]
        similarity = played @ weights / np.sqrt(played.sum(axis=1))
        order = np.argsort(-similarity, kind="stable")[: neighbours.SESSIONS]
        if similarity[order[-1]] > 0 and np.isclose(similarity, similarity[order[-1]]).sum() > 1:
            continue  # the choice among equally similar playlists is arbitrary
        assert_ranked_by(rankings[row], similarity[order] @ played[order], seeds, 10)
        compared += 1
    assert compared


def make_dataset(tmp_path: Path, playlists: list[list[int]], songs: int = 6) -> Dataset:
    train = SongLists.from_lists(playlists)
    counted = np.bincount(train.songs, minlength=songs)
    known = Songs(None, np.arange(songs, dtype=np.int32), counted)  # type: ignore[arg-type]
    return Dataset(tmp_path, known, train, 0)


def make_cases(*seeds: list[int]) -> HeldOutCases:
    return HeldOutCases(
        [""] * len(seeds),
        [""] * len(seeds),
        SongLists.from_lists(seeds),
        SongLists.from_lists([[0]] * len(seeds)),
    )


def test_sequential_rules_by_hand(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [[0, 1, 2], [0, 2, 3], [4, 0]])
    # Song 0 is followed by song 1 (distance 1), song 2 (distances 2 and 1) and song 3 (distance 2).
    rankings = answers(SequentialRules(dataset), make_cases([0], [4], [1, 5], [5], [2, 0]), 4)
    assert rankings.tolist() == [
        [2, 1, 3, -1],
        [0, -1, -1, -1],
        [2, -1, -1, -1],  # song 5 is unknown, so the rules of song 1 apply
        [-1, -1, -1, -1],
        [1, 3, -1, -1],  # song 2 is in the query, so it is not recommended
    ]


def test_unknown_songs_have_no_recommendations(systems: dict[str, Any], dataset: Dataset) -> None:
    unknown = make_cases([-1], [-1, -1])
    for key in ("item-item", "session-knn", "rules", "als", "bpr", "word2vec-mean"):
        assert (answers(systems[key], unknown) == -1).all(), key
    for key in ("popularity", "random", "tutorial"):
        assert (answers(systems[key], unknown) >= 0).all(), key


def test_trained_baselines_beat_random(
    systems: dict[str, Any], dataset: Dataset, cases: HeldOutCases
) -> None:
    def hits(key: str) -> int:
        return int((answers(systems[key], cases, 50) == cases.label[:, None]).sum())

    for key in ("item-item", "session-knn", "rules", "als", "bpr"):
        assert hits(key) > 1.5 * hits("random"), key


def test_dense_scores_are_ranked() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [1.0, -np.inf, 1.0]], dtype=np.float32)
    assert rank_dense(scores, 2).tolist() == [[1, 2], [0, 2]]
    assert rank_dense(scores, 4).tolist() == [[1, 2, 0, -1], [0, 2, -1, -1]]


def test_sparse_scores_are_ranked() -> None:
    from scipy.sparse import csr_array

    scores = csr_array(np.array([[0.1, 0.9, 0.5, 0.0], [0.0, -1.0, 0.0, 0.2]]))
    rankings = rank_sparse(scores, 2, SongLists.from_lists([[1], []]))
    assert rankings.tolist() == [[2, 0], [3, -1]]
    # The number of an unknown song, -1, does not exclude the last column.
    assert rank_sparse(scores, 2, SongLists.from_lists([[], [-1]])).tolist() == [[1, 2], [3, -1]]


def test_the_highest_values_of_each_row_are_kept() -> None:
    from scipy.sparse import csr_array

    kept = keep_highest(csr_array(np.array([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])), 2)
    assert kept.toarray().tolist() == [[0, 3, 2], [0, 0, 5]]


def test_lists_of_baselines_are_parsed() -> None:
    assert choice.parse_names("none") == ()
    assert choice.parse_names("all") == choice.NAMES
    assert choice.parse_names(" rules, random,rules") == ("rules", "random")
    with pytest.raises(InputError, match="no baseline 'magic'"):
        choice.parse_names("magic")


def test_a_baseline_that_cannot_learn_is_skipped(tmp_path: Path) -> None:
    # No song is in three playlists, the minimum for a vector.
    dataset = make_dataset(tmp_path, [[0, 1], [2, 1], [3, 4]])
    names = ("popularity", "tutorial", "word2vec-mean")
    built = list(choice.build_baselines(names, dataset, make_cases([0]), 600, SilentReporter()))
    assert [isinstance(system, choice.SkippedBaseline) for system in built] == [False, True, True]
    assert built[1] == choice.SkippedBaseline(
        "tutorial is left out: its model needs songs in 3 or more training playlists, and there is "
        "none"
    )


def test_a_baseline_that_would_take_too_long_is_skipped(
    dataset: Dataset, cases: HeldOutCases
) -> None:
    built = list(
        choice.build_baselines(["popularity", "als"], dataset, cases, 1e-4, SilentReporter())
    )
    popularity, als = built
    assert not isinstance(popularity, choice.SkippedBaseline)
    assert isinstance(als, choice.SkippedBaseline)
    assert "als would take about" in als.reason
    assert f"{len(cases)} queries" in als.reason
