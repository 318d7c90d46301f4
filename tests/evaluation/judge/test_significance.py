"""Intervals and paired tests, compared with hand-calculated values, formulas and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evaluation.judge.comparison import compare_systems
from evaluation.judge.intervals import Figure, bootstrap, estimate, estimate_share_difference
from evaluation.judge.significance import (
    format_p_equals,
    format_p_value,
    holm_correction,
    mcnemar_test,
    permutation_test,
)


def test_a_bootstrap_interval_agrees_with_the_standard_error() -> None:
    hits = np.zeros(1_000)
    hits[:200] = 1
    figure = bootstrap({"hr": hits})["hr"]
    assert figure.mean == 0.2
    error = np.sqrt(0.2 * 0.8 / 1_000)
    assert figure.low == pytest.approx(0.2 - 1.96 * error, abs=0.003)
    assert figure.high == pytest.approx(0.2 + 1.96 * error, abs=0.003)


def test_bootstrap_intervals_cover_the_mean_in_about_95_percent() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        figure = bootstrap({"x": random.exponential(1.0, 200)}, seed=trial, resamples=400)["x"]
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= 1.0 <= figure.high
    assert 0.88 <= covered / 200 <= 0.99


def test_constant_values_have_no_width_and_nan_is_left_out() -> None:
    figures = bootstrap({"one": np.ones(5), "none": np.full(5, np.nan)})
    assert (figures["one"].low, figures["one"].high) == (1, 1)
    assert "none" not in figures
    assert bootstrap({}) == {}


def test_a_bootstrapped_mean_ignores_nan() -> None:
    figure = bootstrap({"x": np.array([1.0, 3.0, np.nan, np.nan]), "y": np.ones(4)})["x"]
    assert figure.mean == 2


def test_the_same_seed_gives_the_same_interval() -> None:
    values = {"x": np.random.default_rng(0).random(50)}
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_shares_of_0_and_1_have_a_margin() -> None:
    none, every = estimate({"none": np.zeros(21), "every": np.ones(21)}).values()
    # Wilson's interval for 0 hits in n queries is from 0 to z2 / (n + z2).
    z2 = stats.norm.ppf(0.975) ** 2
    assert (none.mean, none.low) == (0, 0)
    assert none.high == none.margin == pytest.approx(z2 / (21 + z2))
    assert (every.mean, every.high) == (1, 1)
    assert every.low == pytest.approx(21 / (21 + z2))


def test_shares_have_wilson_intervals_and_other_means_bootstrap_intervals() -> None:
    hits = np.zeros(40)
    hits[:7] = 1
    hits[-1] = np.nan
    others = np.linspace(0, 1, 40)
    figures = estimate({"mrr": others, "hr": hits, "nothing": np.full(40, np.nan)})
    assert list(figures) == ["mrr", "hr"]
    wilson = stats.binomtest(7, 39).proportion_ci(method="wilson")
    assert figures["hr"] == Figure(7 / 39, wilson.low, wilson.high)
    assert figures["mrr"] == bootstrap({"mrr": others})["mrr"]
    assert Figure(0.5).margin is None
    assert Figure(0.5, 0.4, 0.7).margin == pytest.approx(0.2)


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, first, second, neither]
    return np.repeat([1.0, 1, 0, 0], counts), np.repeat([1.0, 0, 1, 0], counts)


def test_paired_differences_have_newcombes_interval() -> None:
    # From Newcombe's article: 36 queries are hit by both systems, 12 by only the first system, and
    # 2 by only the second.
    figure = estimate_share_difference(*pairs(36, 12, 2, 0))
    assert figure.mean == pytest.approx(0.2)
    assert (figure.low, figure.high) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    # If neither system has a hit, the ends are plus and minus the upper end of Wilson's interval.
    alike = estimate_share_difference(*pairs(0, 0, 0, 54))
    z2 = stats.norm.ppf(0.975) ** 2
    assert (alike.low, alike.high) == pytest.approx((-z2 / (54 + z2), z2 / (54 + z2)))


def test_newcombe_intervals_cover_the_difference_in_about_95_percent() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        drawn = random.multinomial(60, [0.05, 0.03, 0.02, 0.9])
        figure = estimate_share_difference(*pairs(*drawn))
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= 0.01 <= figure.high
    assert covered / 400 >= 0.94


def test_small_p_values_are_not_printed_as_0() -> None:
    hit, miss = np.ones(20_000), np.zeros(20_000)
    assert mcnemar_test(hit, miss) > 0
    assert format_p_value(mcnemar_test(hit, miss)) == format_p_value(0.000_06) == "< .0001"
    assert [format_p_value(p) for p in (0.0001, 0.0123, 0.5, 1.0)] == [
        ".0001",
        ".0123",
        ".5000",
        "1.0000",
    ]
    assert (format_p_equals(1e-9), format_p_equals(0.04)) == ("p < .0001", "p = .0400")


def test_mcnemar_by_hand() -> None:
    # 6 queries are hit by only the first system, and none by only the second: p = 2 / 2^6.
    first = np.array([1] * 6 + [1, 0], dtype=float)
    second = np.array([0] * 6 + [1, 0], dtype=float)
    assert mcnemar_test(first, second) == pytest.approx(2 / 64)
    assert mcnemar_test(second, first) == pytest.approx(2 / 64)
    assert mcnemar_test(first, first) == 1


def test_permutation_by_hand() -> None:
    # All four differences are 1, so 2 of the 16 possible sign assignments are as extreme.
    assert permutation_test(np.ones(4), np.zeros(4)) == pytest.approx(2 / 16, abs=0.02)
    assert permutation_test(np.ones(4), np.ones(4)) == 1
    assert permutation_test(np.array([1.0, np.nan]), np.array([1.0, 0.0])) == 1


def test_permutation_agrees_with_the_t_test_on_many_queries() -> None:
    random = np.random.default_rng(5)
    first = random.random(300)
    second = first + random.normal(0.02, 0.15, 300)
    assert permutation_test(first, second) == pytest.approx(
        stats.ttest_rel(first, second).pvalue, abs=0.02
    )


def test_equal_systems_seldom_differ_significantly() -> None:
    random = np.random.default_rng(7)
    false_alarms = sum(
        permutation_test(random.random(60), random.random(60), seed=trial, flips=500) < 0.05
        for trial in range(200)
    )
    assert false_alarms <= 20


def test_holm_by_hand() -> None:
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_correction([0.5, 0.9]) == [1, 1]
    assert holm_correction([]) == []


def test_only_a_clear_difference_is_significant() -> None:
    random = np.random.default_rng(1)
    good = (random.random(500) < 0.4).astype(float)
    alike = good.copy()
    bad = (random.random(500) < 0.1).astype(float)
    comparisons = {
        comparison.other: comparison
        for comparison in compare_systems(
            {"hr@10": good}, {"bad": {"hr@10": bad}, "alike": {"hr@10": alike}}, ["hr@10", "mrr@10"]
        )
    }
    assert comparisons["bad"].significant
    assert comparisons["bad"].verdict == "worse"
    assert comparisons["bad"].difference.mean == pytest.approx(good.mean() - bad.mean())
    assert (comparisons["bad"].difference.low or 0) > 0
    assert not comparisons["alike"].significant
    assert comparisons["alike"].verdict == "same"
    assert comparisons["alike"].p == 1
