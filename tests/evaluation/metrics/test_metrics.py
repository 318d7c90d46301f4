"""Metrics, by hand, and beside an implementation that others wrote."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, P, R, Success, nDCG

from evaluation.metrics import continuation, diversity, popularity, ranking
from evaluation.metrics.relevance import ranks, relevant
from evaluation.protocol.dataset import ragged

ABSENT = -1


def rankings(*rows: list[int]) -> np.ndarray:
    width = max(len(row) for row in rows)
    return np.array([row + [ABSENT] * (width - len(row)) for row in rows], dtype=np.int32)


def matches(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=bool)


def test_ranks_count_from_one_and_a_miss_is_zero() -> None:
    found = relevant(rankings([5, 6, 7], [6, 5], [7], []), ragged([[5], [5], [5], [5]]))
    assert ranks(found).tolist() == [1, 2, 0, 0]


def test_an_absent_song_is_no_label() -> None:
    assert not relevant(rankings([1, ABSENT]), ragged([[ABSENT]])).any()


def test_a_label_counts_for_its_own_query_alone() -> None:
    found = relevant(rankings([1, 2], [1, 2]), ragged([[1], [2]]))
    assert found.tolist() == [[True, False], [False, True]]


def test_a_label_recommended_twice_counts_once() -> None:
    assert relevant(rankings([3, 1, 1]), ragged([[1, 2]])).tolist() == [[False, True, False]]


def test_hits_at_the_edge_of_k() -> None:
    found = matches([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1])
    assert ranking.hits(found, 2).tolist() == [0, 1, 1, 0]
    assert ranking.hits(found, 3).tolist() == [0, 1, 1, 1]


def test_a_miss_stays_in_the_denominator() -> None:
    assert ranking.hits(matches([0], [0], [0], [1]), 1).mean() == 1 / 4


def test_reciprocal_ranks_end_at_k() -> None:
    found = matches([1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0])
    assert ranking.reciprocal_ranks(found, 4).tolist() == [1, 1 / 2, 1 / 4, 0]
    assert ranking.reciprocal_ranks(found, 3).tolist() == [1, 1 / 2, 0, 0]


def test_precision_divides_by_k_even_where_the_ranking_is_short() -> None:
    assert ranking.precision(matches([1, 1, 0]), 3).tolist() == [2 / 3]
    assert ranking.precision(matches([1, 1]), 10).tolist() == [2 / 10]


def test_recall_divides_by_the_labels() -> None:
    found = matches([1, 0, 1], [0, 0, 0])
    assert ranking.recall(found, np.array([4, 1]), 3).tolist() == [2 / 4, 0]
    assert ranking.recall(found, np.array([4, 1]), 2).tolist() == [1 / 4, 0]


def test_with_one_label_recall_is_the_hit_rate() -> None:
    found = matches([0, 1, 0], [0, 0, 0])
    one = np.array([1, 1])
    assert ranking.recall(found, one, 3).tolist() == ranking.hits(found, 3).tolist()


def test_ndcg_by_hand() -> None:
    found = matches([1, 0, 1], [0, 1, 0], [0, 0, 0])
    best_of_two = 1 + 1 / math.log2(3)
    expected = [(1 + 1 / 2) / best_of_two, 1 / math.log2(3), 0]
    assert ranking.ndcg(found, np.array([2, 1, 3]), 3) == pytest.approx(expected)


def test_ndcg_of_a_perfect_ranking_is_one_however_many_labels() -> None:
    assert ranking.ndcg(matches([1, 1]), np.array([5]), 2).tolist() == [1]


def test_ranking_metrics_agree_with_ir_measures() -> None:
    random = np.random.default_rng(0)
    answers = np.array([random.permutation(60)[:20] for _ in range(50)], dtype=np.int32)
    labels = [random.permutation(60)[: random.integers(1, 8)] for _ in range(50)]
    qrels = {str(q): {str(song): 1 for song in wanted} for q, wanted in enumerate(labels)}
    run = {
        str(q): {str(song): 100.0 - place for place, song in enumerate(row)}
        for q, row in enumerate(answers)
    }
    measures = [Success @ 5, RR @ 20, P @ 5, R @ 10, nDCG @ 10]
    theirs: dict[object, np.ndarray] = {measure: np.zeros(50) for measure in measures}
    for one in ir_measures.iter_calc(measures, qrels, run):
        theirs[one.measure][int(one.query_id)] = one.value
    found = relevant(answers, ragged(labels))
    count = np.array([len(one) for one in labels])
    ours = [
        ranking.hits(found, 5),
        ranking.reciprocal_ranks(found, 20),
        ranking.precision(found, 5),
        ranking.recall(found, count, 10),
        ranking.ndcg(found, count, 10),
    ]
    for measure, figures in zip(measures, ours, strict=True):
        assert figures == pytest.approx(theirs[measure]), measure
        assert figures.any()


def test_r_precision_looks_at_as_many_songs_as_there_are_labels() -> None:
    labels = ragged([[1, 2], [3]])
    found = relevant(rankings([1, 9, 2], [9, 3]), labels)
    assert continuation.r_precision(found, labels).tolist() == [1 / 2, 0]


def test_r_precision_gives_a_quarter_for_a_right_artist() -> None:
    artist = np.array([0, 0, 1, 2, 2], dtype=np.int32)  # songs 0 and 1 share one, 3 and 4 another
    labels = ragged([[0, 2], [3]])
    answers = rankings([1, 2], [4, 3])
    found = relevant(answers, labels)
    figures = continuation.r_precision_with_artists(answers, found, labels, artist)
    # First: one of two songs is right, and both artists. Second: only the artist of the first song.
    assert figures.tolist() == [1 / 2 + 0.25 * 2 / 2, 0 + 0.25 * 1 / 1]


def test_clicks_turn_pages_of_ten() -> None:
    found = np.zeros((5, 500), dtype=bool)
    for row, place in enumerate([0, 9, 10, 499]):
        found[row, place] = True
    assert continuation.clicks(found).tolist() == [0, 0, 1, 49, 51]


def test_coverage_counts_songs_once_and_by_place() -> None:
    answers = rankings([1, 2, 3], [2, 1, 4], [5])
    assert popularity.coverage(answers, 1, 10) == 3 / 10
    assert popularity.coverage(answers, 2, 10) == 3 / 10
    assert popularity.coverage(answers, 3, 10) == 5 / 10


def test_a_query_without_a_song_is_not_answered() -> None:
    assert popularity.answered(rankings([1], [])).tolist() == [1, 0]


def test_novelty_in_bits() -> None:
    playlists = np.array([8, 4, 1, 0])
    figures = popularity.novelty(rankings([0, 1], [2, 3], []), 2, playlists, 8)
    assert figures[:2].tolist() == [(0 + 1) / 2, (3 + 3) / 2]
    assert np.isnan(figures[2])


def test_fresh_songs_are_not_in_the_query() -> None:
    figures = popularity.fresh(rankings([1, 2, 3, 4], [1, 2]), 4, ragged([[2, 9], [5]]), 10)
    assert figures.tolist() == [3 / 4, 1]


def test_popularity_bias_is_positive_where_labels_are_rarer() -> None:
    place = np.array([1, 2, 3, 4, 0])
    figures = popularity.popularity_bias(
        rankings([0, 1], [3, 3], [0, 1]), 2, np.array([3, 0, 4], dtype=np.int32), place, 4
    )
    assert figures[:2].tolist() == [(4 - 1.5) / 4, (1 - 4) / 4]
    assert np.isnan(figures[2])  # the label is not in the catalog


def test_intra_list_diversity_by_hand() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], dtype=np.float32)
    figures = diversity.intra_list_diversity(
        rankings([0, 1], [0, 2], [0, 1, 2], [0, 3], [0]), 3, vectors
    )
    assert figures[:3] == pytest.approx([1, 0, 1 - (0 + 1 + 0) / 3])
    assert np.isnan(figures[3:]).all()  # songs without a vector are left out: one is no pair


def test_artist_repetition_by_hand() -> None:
    artist = np.array([7, 7, 8, 9], dtype=np.int32)
    figures = diversity.artist_repetition(rankings([0, 1, 2, 3], [0, 2, 3], [], [0, 1]), 4, artist)
    assert figures[[0, 1, 3]].tolist() == [1 / 4, 0, 1 / 2]
    assert np.isnan(figures[2])
