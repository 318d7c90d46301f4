"""Metrics, compared with values calculated by hand and with the library `ir-measures`."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, P, R, Success, nDCG

from evaluation.metrics import continuation, diversity, popularity, ranking
from evaluation.metrics.relevance import find_label_ranks, match_labels
from evaluation.protocol.dataset import SongLists

ABSENT = -1


def rankings(*rows: list[int]) -> np.ndarray:
    width = max(len(row) for row in rows)
    return np.array([row + [ABSENT] * (width - len(row)) for row in rows], dtype=np.int32)


def matches(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=bool)


def test_ranks_count_from_one_and_a_miss_is_zero() -> None:
    matched = match_labels(
        rankings([5, 6, 7], [6, 5], [7], []), SongLists.from_lists([[5], [5], [5], [5]])
    )
    assert find_label_ranks(matched).tolist() == [1, 2, 0, 0]


def test_an_absent_song_is_not_a_label() -> None:
    assert not match_labels(rankings([1, ABSENT]), SongLists.from_lists([[ABSENT]])).any()


def test_a_label_counts_for_its_own_query_only() -> None:
    matched = match_labels(rankings([1, 2], [1, 2]), SongLists.from_lists([[1], [2]]))
    assert matched.tolist() == [[True, False], [False, True]]


def test_a_label_recommended_twice_counts_once() -> None:
    assert match_labels(rankings([3, 1, 1]), SongLists.from_lists([[1, 2]])).tolist() == [
        [False, True, False]
    ]


def test_a_label_at_rank_k_is_a_hit() -> None:
    matched = matches([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1])
    assert ranking.hits(matched, 2).tolist() == [0, 1, 1, 0]
    assert ranking.hits(matched, 3).tolist() == [0, 1, 1, 1]


def test_the_mean_hit_rate_includes_misses() -> None:
    assert ranking.hits(matches([0], [0], [0], [1]), 1).mean() == 1 / 4


def test_reciprocal_ranks_are_0_for_labels_after_the_first_k() -> None:
    matched = matches([1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0])
    assert ranking.reciprocal_ranks(matched, 4).tolist() == [1, 1 / 2, 1 / 4, 0]
    assert ranking.reciprocal_ranks(matched, 3).tolist() == [1, 1 / 2, 0, 0]


def test_precision_divides_by_k_even_if_the_ranking_is_short() -> None:
    assert ranking.precision(matches([1, 1, 0]), 3).tolist() == [2 / 3]
    assert ranking.precision(matches([1, 1]), 10).tolist() == [2 / 10]


def test_recall_divides_by_the_labels() -> None:
    matched = matches([1, 0, 1], [0, 0, 0])
    assert ranking.recall(matched, np.array([4, 1]), 3).tolist() == [2 / 4, 0]
    assert ranking.recall(matched, np.array([4, 1]), 2).tolist() == [1 / 4, 0]


def test_with_one_label_recall_is_the_hit_rate() -> None:
    matched = matches([0, 1, 0], [0, 0, 0])
    label_counts = np.array([1, 1])
    assert ranking.recall(matched, label_counts, 3).tolist() == ranking.hits(matched, 3).tolist()


def test_ndcg_by_hand() -> None:
    matched = matches([1, 0, 1], [0, 1, 0], [0, 0, 0])
    ideal_gain = 1 + 1 / math.log2(3)
    expected = [(1 + 1 / 2) / ideal_gain, 1 / math.log2(3), 0]
    assert ranking.ndcg(matched, np.array([2, 1, 3]), 3) == pytest.approx(expected)


def test_ndcg_of_a_perfect_ranking_is_1_for_any_number_of_labels() -> None:
    assert ranking.ndcg(matches([1, 1]), np.array([5]), 2).tolist() == [1]


def test_ranking_metrics_agree_with_ir_measures() -> None:
    random = np.random.default_rng(0)
    answers = np.array([random.permutation(60)[:20] for _ in range(50)], dtype=np.int32)
    labels = [random.permutation(60)[: random.integers(1, 8)] for _ in range(50)]
    qrels = {str(q): {str(song): 1 for song in songs} for q, songs in enumerate(labels)}
    run = {
        str(q): {str(song): 100.0 - position for position, song in enumerate(row)}
        for q, row in enumerate(answers)
    }
    measures = [Success @ 5, RR @ 20, P @ 5, R @ 10, nDCG @ 10]
    expected: dict[object, np.ndarray] = {measure: np.zeros(50) for measure in measures}
    for result in ir_measures.iter_calc(measures, qrels, run):
        expected[result.measure][int(result.query_id)] = result.value
    matched = match_labels(answers, SongLists.from_lists(labels))
    count = np.array([len(songs) for songs in labels])
    computed = [
        ranking.hits(matched, 5),
        ranking.reciprocal_ranks(matched, 20),
        ranking.precision(matched, 5),
        ranking.recall(matched, count, 10),
        ranking.ndcg(matched, count, 10),
    ]
    for measure, figures in zip(measures, computed, strict=True):
        assert figures == pytest.approx(expected[measure]), measure
        assert figures.any()


def test_r_precision_counts_as_many_songs_as_there_are_labels() -> None:
    labels = SongLists.from_lists([[1, 2], [3]])
    matched = match_labels(rankings([1, 9, 2], [9, 3]), labels)
    assert continuation.r_precision(matched, labels).tolist() == [1 / 2, 0]


def test_r_precision_with_artists_adds_a_quarter_for_each_artist_of_a_label() -> None:
    artist = np.array([0, 0, 1, 2, 2], dtype=np.int32)  # the same artist: 0 and 1, 3 and 4
    labels = SongLists.from_lists([[0, 2], [3]])
    answers = rankings([1, 2], [4, 3])
    matched = match_labels(answers, labels)
    figures = continuation.r_precision_with_artists(answers, matched, labels, artist)
    # First query: one of two songs is a label, and both artists are artists of labels. Second
    # query: only the artist of the first song is the artist of a label.
    assert figures.tolist() == [1 / 2 + 0.25 * 2 / 2, 0 + 0.25 * 1 / 1]
    nobody = np.array([0, 0, 1, -1, -1], dtype=np.int32)  # songs 3 and 4 have no artist
    figures = continuation.r_precision_with_artists(answers, matched, labels, nobody)
    assert figures.tolist() == [1 / 2 + 0.25 * 2 / 2, 0]


def test_clicks_count_pages_of_ten() -> None:
    matched = np.zeros((5, 500), dtype=bool)
    for row, position in enumerate([0, 9, 10, 499]):
        matched[row, position] = True
    assert continuation.clicks(matched).tolist() == [0, 0, 1, 49, 51]


def test_coverage_counts_each_song_of_the_first_k_once() -> None:
    answers = rankings([1, 2, 3], [2, 1, 4], [5])
    assert popularity.coverage(answers, 1, 10) == 3 / 10
    assert popularity.coverage(answers, 2, 10) == 3 / 10
    assert popularity.coverage(answers, 3, 10) == 5 / 10


def test_a_query_without_a_song_is_not_answered() -> None:
    assert popularity.answer_share(rankings([1], [])).tolist() == [1, 0]


def test_novelty_is_in_bits() -> None:
    playlists = np.array([8, 4, 1, 0])
    figures = popularity.novelty(rankings([0, 1], [2, 3], []), 2, playlists, 8)
    assert figures[:2].tolist() == [(0 + 1) / 2, (3 + 3) / 2]
    assert np.isnan(figures[2])


def test_freshness_is_the_share_of_songs_that_are_not_seeds() -> None:
    figures = popularity.freshness(
        rankings([1, 2, 3, 4], [1, 2]), 4, SongLists.from_lists([[2, 9], [5]]), 10
    )
    assert figures.tolist() == [3 / 4, 1]


def test_popularity_bias_is_positive_if_labels_are_less_popular() -> None:
    popularity_rank = np.array([1, 2, 3, 4, 0])
    figures = popularity.popularity_bias(
        rankings([0, 1], [3, 3], [0, 1]), 2, np.array([3, 0, 4], dtype=np.int32), popularity_rank, 4
    )
    assert figures[:2].tolist() == [(4 - 1.5) / 4, (1 - 4) / 4]
    assert np.isnan(figures[2])  # the label is not in the catalog


def test_intra_list_diversity_by_hand() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], dtype=np.float32)
    figures = diversity.intra_list_diversity(
        rankings([0, 1], [0, 2], [0, 1, 2], [0, 3], [0]), 3, vectors
    )
    assert figures[:3] == pytest.approx([1, 0, 1 - (0 + 1 + 0) / 3])
    assert np.isnan(figures[3:]).all()  # a pair needs two songs with vectors


def test_artist_repetition_by_hand() -> None:
    artist = np.array([7, 7, 8, 9], dtype=np.int32)
    figures = diversity.artist_repetition(rankings([0, 1, 2, 3], [0, 2, 3], [], [0, 1]), 4, artist)
    assert figures[[0, 1, 3]].tolist() == [1 / 4, 0, 1 / 2]
    assert np.isnan(figures[2])
    artist = np.array([7, 7, -1, -1], dtype=np.int32)
    figures = diversity.artist_repetition(rankings([0, 1, 2, 3], [2, 3], [0, 2, 3]), 4, artist)
    assert figures[[0, 2]].tolist() == [1 / 2, 0]
    assert np.isnan(figures[1])
