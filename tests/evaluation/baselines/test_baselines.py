"""Baselines, beside what a few lines of dense NumPy say."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from catalog.errors import InputError
from catalog.progress import SilentReporter
from evaluation.baselines import choice, neighbours, word2vec
from evaluation.baselines.neighbours import ItemItem, SessionKnn, strongest
from evaluation.baselines.popular import Popularity, Random
from evaluation.baselines.rules import SequentialRules
from evaluation.baselines.top import top_of_dense, top_of_sparse
from evaluation.protocol import dataset as datas
from evaluation.protocol.cases import Queries, load_queries
from evaluation.protocol.dataset import Data, Songs, ragged
from tests.support.road import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.systems.release import System
    from tests.support.road import Road


@pytest.fixture(scope="module")
def data(road: Road) -> Data:
    return datas.load(road.work, road.outcome.manifest.origin.parameters)


@pytest.fixture(scope="module")
def queries(road: Road) -> Queries:
    return load_queries(road.work, "test", "last", 0)


@pytest.fixture(scope="module")
def every(data: Data, queries: Queries) -> dict[str, Any]:
    built = choice.built(choice.NAMES, data, queries, 600, SilentReporter())
    return {system.key: system for system in built if not isinstance(system, str)}


def answers(system: System, queries: Queries, limit: int = 20) -> np.ndarray:
    return np.concatenate(list(system.recommend(queries, limit)))


def train_matrix(data: Data) -> np.ndarray:
    dense = np.zeros((len(data.train), len(data.songs)))
    for row in range(len(data.train)):
        dense[row, data.train[row]] = 1
    return dense


def assert_ranked_by(found: np.ndarray, scores: np.ndarray, seeds: Any, limit: int) -> None:
    """The songs found are the best by these scores, in any order of ties, without the seeds."""
    scores = scores.astype(np.float64).copy()
    scores[seeds] = 0
    best = np.sort(scores)[::-1][:limit]
    kept = found[found >= 0]
    assert len(kept) == (best > 0).sum()
    assert scores[kept] == pytest.approx(best[best > 0], rel=1e-4)


def test_no_baseline_repeats_a_song_or_leaves_the_catalog(
    every: dict[str, Any], data: Data, queries: Queries
) -> None:
    assert list(every) == list(choice.NAMES)
    for key, system in every.items():
        found = answers(system, queries, 100)
        assert found.shape == (len(queries), 100), key
        for row, songs in enumerate(found):
            there = songs[songs >= 0]
            assert len(np.unique(there)) == len(there), key
            assert data.songs.in_catalog[there].all(), key
            if key != "tutorial":  # which leaves out the last song alone
                assert not np.isin(there, queries.seeds[row]).any(), key


def test_answers_do_not_depend_on_the_batch(every: dict[str, Any], queries: Queries) -> None:
    few = queries.take(np.arange(5, 8))
    for key in ("item-item", "session-knn", "rules", "als", "bpr", "word2vec-mean"):
        together, alone = answers(every[key], queries)[5:8], answers(every[key], few)
        assert (together == alone).mean() > 0.95, key  # BLAS may round ties apart


def test_popularity_is_the_most_played(data: Data, queries: Queries) -> None:
    found = answers(Popularity(data), queries, 10)
    for row in range(len(queries)):
        own = set(queries.seeds[row].tolist())
        expected = [song for song in data.songs.by_popularity if song not in own][:10]
        assert found[row].tolist() == expected


def test_random_songs_are_all_alike(data: Data, queries: Queries) -> None:
    found = answers(Random(data), queries, 10)
    assert len(np.unique(found)) > 0.6 * len(data.songs.by_popularity)
    assert (answers(Random(data), queries, 10) == found).all()


def test_the_tutorials_way_is_the_neighbours_of_the_last_song(
    every: dict[str, Any], data: Data, queries: Queries
) -> None:
    system = every["tutorial"]
    model: word2vec.Model = system._model
    vectors = np.zeros((len(data.songs), model.vectors.shape[1]))
    vectors[model.songs] = model.vectors
    found = answers(system, queries, 10)
    for row in range(len(queries)):
        last = queries.seeds[row][-1]
        if model.row[last] >= 0:
            assert last not in found[row]
            cosine = vectors @ vectors[last]
            cosine[model.row < 0] = -2
            cosine[last] = -2
            assert cosine[found[row]] == pytest.approx(np.sort(cosine)[::-1][:10], abs=1e-5)


LEARN = """
import hashlib, sys
from pathlib import Path
from evaluation import data as datas
from evaluation.baselines import word2vec
model = word2vec.tutorial_model(datas.load(Path(sys.argv[1]), {"seed": 0}))
print(hashlib.sha256(model.songs.tobytes() + model.vectors.tobytes()).hexdigest())
"""


def test_the_tutorials_way_learns_the_same_each_time(road: Road) -> None:
    learned = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", LEARN, str(road.work)]
        child = subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        learned.add(child.stdout)
    assert len(learned) == 1


def test_item_item_is_the_cosine_of_columns(data: Data, queries: Queries) -> None:
    played = train_matrix(data)
    lengths = np.maximum(np.linalg.norm(played, axis=0), 1)
    similar = played.T @ played / np.outer(lengths, lengths)
    np.fill_diagonal(similar, 0)
    if len(data.songs) > neighbours.NEIGHBOURS:
        cut = -np.sort(-similar, axis=1)[:, neighbours.NEIGHBOURS - 1]
        assert ((similar > 0).sum(axis=1) > neighbours.NEIGHBOURS).any()
        similar[similar < cut[:, None]] = 0
    found = answers(ItemItem(data), queries, 5)
    right = 0
    for row in range(len(queries)):
        scores = similar[queries.seeds[row]].sum(axis=0)
        scores[queries.seeds[row]] = 0
        best = np.sort(scores)[::-1][:5]
        right += np.allclose(scores[found[row]], best, rtol=0.02)
    assert right > 0.9 * len(queries)  # ties at the 200th neighbour may be cut either way


def test_item_item_in_spans_is_the_same(
    data: Data, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = answers(ItemItem(data), queries)
    monkeypatch.setattr(neighbours, "PAIRS_AT_ONCE", 2_000)
    assert (answers(ItemItem(data), queries) == at_once).all()


def test_session_knn_adds_up_the_playlists_that_are_most_alike(
    data: Data, queries: Queries
) -> None:
    played = train_matrix(data)
    found = answers(SessionKnn(data), queries, 10)
    for row in range(len(queries)):
        seeds = queries.seeds[row]
        weights = np.zeros(len(data.songs))
        weights[seeds] = 0.9 ** np.arange(len(seeds))[::-1]
        alike = played @ weights / np.sqrt(played.sum(axis=1))
        order = np.argsort(-alike, kind="stable")[: neighbours.SESSIONS]
        if alike[order[-1]] > 0 and np.isclose(alike, alike[order[-1]]).sum() > 1:
            continue  # which of several equally alike playlists are kept is nobody's business
        assert_ranked_by(found[row], alike[order] @ played[order], seeds, 10)


def world(tmp_path: Path, playlists: list[list[int]], songs: int = 6) -> Data:
    train = ragged(playlists)
    counted = np.bincount(train.songs, minlength=songs)
    known = Songs(None, np.arange(songs, dtype=np.int32), counted)  # type: ignore[arg-type]
    return Data(tmp_path, known, train, 0, ordered=True)


def asked(*seeds: list[int]) -> Queries:
    return Queries([""] * len(seeds), [""] * len(seeds), ragged(seeds), ragged([[0]] * len(seeds)))


def test_sequential_rules_by_hand(tmp_path: Path) -> None:
    data = world(tmp_path, [[0, 1, 2], [0, 2, 3], [4, 0]])
    # After 0: 1 once at distance 1; 2 at distances 2 and 1; 3 at distance 2.
    found = answers(SequentialRules(data), asked([0], [4], [1, 5], [5], [2, 0]), 4)
    assert found.tolist() == [
        [2, 1, 3, -1],
        [0, -1, -1, -1],
        [2, -1, -1, -1],  # 5 is unknown: the song before it speaks
        [-1, -1, -1, -1],
        [1, 3, -1, -1],  # 2 is in the query
    ]


def test_unknown_songs_ask_for_nothing(every: dict[str, Any], data: Data) -> None:
    nobody = asked([-1], [-1, -1])
    for key in ("item-item", "session-knn", "rules", "als", "bpr", "word2vec-mean"):
        assert (answers(every[key], nobody) == -1).all(), key
    for key in ("popularity", "random", "tutorial"):
        assert (answers(every[key], nobody) >= 0).all(), key


def test_learned_baselines_beat_chance_by_far(
    every: dict[str, Any], data: Data, queries: Queries
) -> None:
    def hits(key: str) -> int:
        return int((answers(every[key], queries, 50) == queries.label[:, None]).sum())

    for key in ("item-item", "session-knn", "rules", "als", "bpr"):
        assert hits(key) > 1.5 * hits("random"), key


def test_top_of_dense_by_hand() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [1.0, -np.inf, 1.0]], dtype=np.float32)
    assert top_of_dense(scores, 2).tolist() == [[1, 2], [0, 2]]
    assert top_of_dense(scores, 4).tolist() == [[1, 2, 0, -1], [0, 2, -1, -1]]


def test_top_of_sparse_by_hand() -> None:
    from scipy.sparse import csr_array

    scores = csr_array(np.array([[0.1, 0.9, 0.5, 0.0], [0.0, -1.0, 0.0, 0.2]]))
    found = top_of_sparse(scores, 2, ragged([[1], []]))
    assert found.tolist() == [[2, 0], [3, -1]]
    # A song that nobody knows is not the last one, which may well be recommended.
    assert top_of_sparse(scores, 2, ragged([[], [-1]])).tolist() == [[1, 2], [3, -1]]


def test_strongest_by_hand() -> None:
    from scipy.sparse import csr_array

    kept = strongest(csr_array(np.array([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])), 2)
    assert kept.toarray().tolist() == [[0, 3, 2], [0, 0, 5]]


def test_a_list_of_baselines() -> None:
    assert choice.chosen("none") == ()
    assert choice.chosen("all") == choice.NAMES
    assert choice.chosen(" rules, random,rules") == ("rules", "random")
    with pytest.raises(InputError, match="no baseline 'magic'"):
        choice.chosen("magic")


def test_what_cannot_be_learned_is_said_and_left_out(tmp_path: Path) -> None:
    data = world(tmp_path, [[0, 1], [2, 1], [3, 4]])  # no song in three playlists
    names = ("popularity", "tutorial", "word2vec-mean")
    found = list(choice.built(names, data, asked([0]), 600, SilentReporter()))
    assert [isinstance(one, str) for one in found] == [False, True, True]
    assert found[1] == (
        "tutorial is left out: no song is in 3 training playlists, as the tutorials' way wants"
    )


def test_what_would_take_too_long_is_said_and_left_out(data: Data, queries: Queries) -> None:
    found = list(choice.built(["popularity", "als"], data, queries, 1e-4, SilentReporter()))
    assert not isinstance(found[0], str)
    assert isinstance(found[1], str)
    assert "als would take about" in found[1]
    assert f"{len(queries)} queries" in found[1]
