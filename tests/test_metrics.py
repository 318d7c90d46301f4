"""Ranking metrics, by hand."""

from __future__ import annotations

from uuid import UUID

import numpy as np

from evaluation.metrics import hits, rank_of, reciprocal_ranks

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


def test_rank_counts_from_one() -> None:
    assert rank_of(A, [A, B]) == 1
    assert rank_of(B, [A, B]) == 2


def test_rank_of_a_label_that_was_not_recommended_is_zero() -> None:
    assert rank_of(C, [A, B]) == 0
    assert rank_of(C, []) == 0


def test_hits_at_the_edge_of_k() -> None:
    ranks = np.array([0, 1, 10, 11, 100])
    assert hits(ranks, 10).tolist() == [0, 1, 1, 0, 0]
    assert hits(ranks, 100).tolist() == [0, 1, 1, 1, 1]


def test_a_miss_stays_in_the_denominator() -> None:
    assert hits(np.array([0, 0, 0, 1]), 10).mean() == 1 / 4


def test_reciprocal_ranks_end_at_k() -> None:
    ranks = np.array([0, 1, 2, 4, 10, 11])
    assert reciprocal_ranks(ranks, 10).tolist() == [0, 1, 1 / 2, 1 / 4, 1 / 10, 0]
