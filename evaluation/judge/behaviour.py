"""Behavioural tests: effects of changes to the query, and answers to unusual queries.

The answer to a query is the list of recommended songs. Each test measures one or more figures. If
some values of a figure would show a fault, a rule defines which values pass. The tests are based on
the ideas of Chia et al., "Beyond NDCG: behavioral testing of recommender systems with RecList",
2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.judge.significance import ALPHA, format_p_equals, permutation_test
from evaluation.metrics.ranking import hits
from evaluation.metrics.relevance import find_label_ranks, match_labels
from evaluation.protocol.dataset import SongLists

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers
    from evaluation.systems.release import System

K = 10  # number of songs in an answer

SAMPLE = 400  # maximum number of cases for the tests

LONG_QUERY = 1_000  # number of songs in a long query

UNKNOWN_CASES = 20  # number of cases for the test of queries with only unknown songs

MIN_ARTIST_RECURRENCE = 0.1
"""Minimum artist recurrence (see `Dataset.artist_recurrence`) at which songs by the same artist are
expected to have similar recommendations."""

MAX_RANK_DIFFERENCE = 50
"""Maximum difference between the popularity ranks of two songs that count as similarly popular."""

SAME_SONGS = "share of recommended songs that stay"
CLEAN_ANSWERS = "share of answers without a repeated song or a seed"
REPLACED = "the last song is replaced by another song of its artist"
REPLACED_DIFFERENCE = f"{SAME_SONGS}, minus that share if the new song is of another artist"
NEAR_MISSES = "near misses: the answer lacks the label"


@dataclass(frozen=True)
class Behaviour:
    """The result of a behavioural test.

    - `name`: a description of the change to the query.
    - `figure`: a description of the measured figure.
    - `value`: the value of the figure, or None if it cannot be measured.
    - `rule`: the condition that the value must meet, or None if any value is acceptable.
    - `passed`: whether the value meets the condition, or None if there is no condition.
    """

    name: str
    figure: str
    value: float | None
    rule: str | None = None
    passed: bool | None = None


@dataclass(frozen=True)
class _Trial:
    """The inputs of all tests: a system, cases, and the answers to the unchanged queries."""

    system: System
    cases: HeldOutCases
    dataset: Dataset
    answers: SongNumbers  # shape (cases, K)
    random: np.random.Generator

    def recommend(self, seeds: SongLists) -> SongNumbers:
        """Return the answers to the cases with `seeds` as their queries, shape (cases, K)."""
        return recommend_songs(self.system, self.cases.with_seeds(seeds))


def run_behaviour_tests(
    system: System, cases: HeldOutCases, dataset: Dataset, seed: int = 0
) -> list[Behaviour]:
    """Run all behavioural tests on a random sample of at most `SAMPLE` cases.

    Tests that compare artists are omitted if no song has an artist.
    """
    sample = cases.sample(SAMPLE, seed)
    answers = recommend_songs(system, sample)
    trial = _Trial(system, sample, dataset, answers, np.random.default_rng(seed))
    return [
        _test_clean_answers(trial),
        *_test_shuffled_query(trial),
        *_test_replaced_song(trial),
        *_test_duplicated_songs(trial),
        _test_added_unknown_song(trial),
        _test_unknown_songs(trial),
        *_test_single_song(trial),
        _test_long_query(trial),
        *_test_near_misses(trial),
    ]


def recommend_songs(system: System, cases: HeldOutCases) -> SongNumbers:
    """Return the answer of the system to each case, shape (cases, K)."""
    return np.concatenate(list(system.recommend(cases, K)))


def measure_overlap(first: SongNumbers, second: SongNumbers) -> NDArray[np.float64]:
    """Return the share of songs that two answers to each case have in common, shape (cases,).

    `first` and `second` have shape (cases, K). The share is the number of common songs divided by
    the length of the longer answer, or 1 if both answers are empty.
    """
    is_shared = (first[:, :, None] == second[:, None, :]) & (first >= 0)[:, :, None]
    shared = is_shared.sum(axis=(1, 2))
    longest = np.maximum((first >= 0).sum(axis=1), (second >= 0).sum(axis=1))
    return np.where(longest > 0, shared / np.maximum(longest, 1), 1.0)


def _test_clean_answers(trial: _Trial) -> Behaviour:
    share = _measure_clean_share(trial.answers, trial.cases.seeds)
    name = "no answer repeats a song or contains a seed"
    return Behaviour(name, CLEAN_ANSWERS, share, "is 1", share == 1)


def _measure_clean_share(answers: SongNumbers, seeds: SongLists) -> float:
    """Return the share of answers that neither repeat a song nor contain a seed."""
    is_clean = []
    for row, answer in enumerate(answers):
        songs = answer[answer >= 0]
        has_seed = np.isin(songs, seeds[row]).any()
        is_clean.append(len(np.unique(songs)) == len(songs) and not has_seed)
    return float(np.mean(is_clean))


def _test_shuffled_query(trial: _Trial) -> list[Behaviour]:
    seeds = trial.cases.seeds
    shuffled = [trial.random.permutation(seeds[row]) for row in range(len(seeds))]
    answers = trial.recommend(SongLists.from_lists(shuffled))
    change = _measure_hit_rate(answers, trial.cases) - _measure_hit_rate(trial.answers, trial.cases)
    name = "the query's songs are shuffled"
    return [
        Behaviour(name, SAME_SONGS, float(measure_overlap(trial.answers, answers).mean())),
        Behaviour(name, "hit rate at 10, shuffled minus in order", change),
    ]


def _test_replaced_song(trial: _Trial) -> list[Behaviour]:
    """Replace the last seed by a song of the same artist, and by a song of another artist.

    Returns an empty list if no song has an artist.
    """
    if not trial.dataset.songs.has_artists:
        return []
    rows, same_artist, other_artist = _replace_last_songs(trial)
    if not rows:
        return [Behaviour(REPLACED, "no artist of a last song has another song", None)]
    cases = trial.cases.take(np.array(rows))
    answers = trial.answers[rows]
    same, other = (
        measure_overlap(answers, recommend_songs(trial.system, cases.with_seeds(seeds)))
        for seeds in (same_artist, other_artist)
    )
    share = Behaviour(REPLACED, SAME_SONGS, float(same.mean()))
    difference = float((same - other).mean())
    # If playlists seldom repeat an artist, as on radio stations that avoid repetition, two songs by
    # an artist need not have similar recommendations, so any difference is acceptable.
    if trial.dataset.artist_recurrence < MIN_ARTIST_RECURRENCE:
        figure = f"{REPLACED_DIFFERENCE}; artists seldom recur here"
        return [share, Behaviour(REPLACED, figure, difference)]
    p = permutation_test(same, other)
    rule = f"is above 0, or not significantly below (p = {p:.3f})"
    passed = difference >= 0 or p >= ALPHA
    return [share, Behaviour(REPLACED, REPLACED_DIFFERENCE, difference, rule, passed)]


def _replace_last_songs(trial: _Trial) -> tuple[list[int], SongLists, SongLists]:
    """Return the rows of the cases whose last song can be replaced, and two sets of new queries.

    In the first set, the last seed of each query is another song of the same artist. In the second
    set, it is a similarly popular song of another artist.
    """
    cases, songs = trial.cases, trial.dataset.songs
    by_artist: dict[int, list[int]] = {}
    for song in songs.by_popularity[songs.artist[songs.by_popularity] >= 0]:
        by_artist.setdefault(int(songs.artist[song]), []).append(int(song))
    rows, same_artist, other_artist = [], [], []
    for row in range(len(cases)):
        seeds = cases.seeds[row]
        if not len(seeds) or seeds[-1] < 0:
            continue
        excluded = {*seeds.tolist(), int(cases.label[row])}
        artist = int(songs.artist[seeds[-1]])
        substitutes = [song for song in by_artist.get(artist, []) if song not in excluded]
        if not substitutes:
            continue
        substitute = trial.random.choice(substitutes)
        rows.append(row)
        same_artist.append(np.append(seeds[:-1], substitute))
        similar = _draw_similarly_popular(substitute, excluded, trial)
        other_artist.append(np.append(seeds[:-1], similar))
    return rows, SongLists.from_lists(same_artist), SongLists.from_lists(other_artist)


def _draw_similarly_popular(song: int, excluded: set[int], trial: _Trial) -> int:
    """Draw a song of another artist that is about as popular as `song`.

    Songs in `excluded` are not drawn. Returns `song` itself if no other song can be drawn.
    """
    songs = trial.dataset.songs
    position = int(songs.popularity_rank[song]) - 1
    low = max(0, position - MAX_RANK_DIFFERENCE)
    candidates = [
        int(candidate)
        for candidate in songs.by_popularity[low : position + MAX_RANK_DIFFERENCE + 1]
        if songs.artist[candidate] != songs.artist[song] and candidate not in excluded
    ]
    return int(trial.random.choice(candidates or [song]))


def _test_duplicated_songs(trial: _Trial) -> list[Behaviour]:
    seeds = trial.cases.seeds
    twice = SongLists.from_lists([np.repeat(seeds[row], 2) for row in range(len(seeds))])
    answers = trial.recommend(twice)
    share = _measure_clean_share(answers, seeds)
    name = "each song of the query occurs twice"
    return [
        Behaviour(name, SAME_SONGS, float(measure_overlap(trial.answers, answers).mean())),
        Behaviour(name, CLEAN_ANSWERS, share, "is 1", share == 1),
    ]


def _test_added_unknown_song(trial: _Trial) -> Behaviour:
    # The unknown song makes every seed one song older, which changes their weights by recency a
    # little.
    seeds = trial.cases.seeds
    longer = [np.append(seeds[row], np.int32(-1)) for row in range(len(seeds))]
    answers = trial.recommend(SongLists.from_lists(longer))
    share = float(measure_overlap(trial.answers, answers).mean())
    name = "an unknown song is added at the end"
    return Behaviour(name, SAME_SONGS, share, "is at least 0.9", share >= 0.9)


def _test_unknown_songs(trial: _Trial) -> Behaviour:
    lengths = trial.cases.seeds.lengths[:UNKNOWN_CASES]
    unknown = SongLists.from_lists([np.full(length, -1, np.int32) for length in lengths])
    cases = trial.cases.take(np.arange(len(unknown))).with_seeds(unknown)
    return _require_answers("no song of the query is known", recommend_songs(trial.system, cases))


def _test_single_song(trial: _Trial) -> list[Behaviour]:
    seeds = trial.cases.seeds
    answers = trial.recommend(SongLists.from_lists([seeds[row][-1:] for row in range(len(seeds))]))
    name = "the query is the last song alone"
    return [
        _require_answers(name, answers),
        Behaviour(name, "hit rate at 10", _measure_hit_rate(answers, trial.cases)),
    ]


def _test_long_query(trial: _Trial) -> Behaviour:
    # Use at most half of the songs, so that other songs can be recommended.
    distinct = np.unique(trial.cases.seeds.songs)[: max(1, len(trial.dataset.songs) // 2)]
    songs = np.resize(distinct, LONG_QUERY)
    case = trial.cases.take(np.arange(1)).with_seeds(SongLists.from_lists([songs]))
    name = f"a query of {LONG_QUERY:,} songs"
    return _require_answers(name, recommend_songs(trial.system, case))


def _test_near_misses(trial: _Trial) -> list[Behaviour]:
    """Measure how similar the recommended songs are to the label in answers without the label."""
    dataset, cases, answers = trial.dataset, trial.cases, trial.answers
    if dataset.vectors is None:
        return [Behaviour(NEAR_MISSES, "the work folder has no vectors", None)]
    is_miss = find_label_ranks(match_labels(answers, cases.labels)) == 0
    is_miss &= dataset.has_vector[cases.label] & (answers >= 0).any(axis=1)
    if not is_miss.any():
        return [Behaviour(NEAR_MISSES, "there is no miss with a vector", None)]
    misses, label = answers[is_miss], cases.label[is_miss]
    popular = np.tile(dataset.songs.by_popularity[:K], (len(misses), 1))
    cosine = _measure_cosine(misses, label, dataset)
    popular_cosine = _measure_cosine(popular, label, dataset)
    p = permutation_test(cosine, popular_cosine, int(trial.random.integers(1 << 31)))
    difference = float(np.nanmean(cosine) - np.nanmean(popular_cosine))
    behaviours = [
        Behaviour(
            NEAR_MISSES,
            "mean cosine similarity of recommended songs and label",
            float(np.nanmean(cosine)),
        ),
        Behaviour(
            NEAR_MISSES,
            "mean cosine similarity, minus that of the most popular songs and the label",
            difference,
            f"is above 0 ({format_p_equals(p)})",
            difference > 0 and p < ALPHA,
        ),
    ]
    if dataset.songs.has_artists:
        artist = dataset.songs.artist
        artists = np.where(misses >= 0, artist[misses], -1)
        has_artist = ((artists >= 0) & (artists == artist[label][:, None])).any(axis=1)
        figure = "share of answers with a song of the label's artist"
        behaviours.append(Behaviour(NEAR_MISSES, figure, float(has_artist.mean())))
    return behaviours


def _measure_cosine(
    rankings: SongNumbers, label: SongNumbers, dataset: Dataset
) -> NDArray[np.float64]:
    """Return the mean cosine similarity between the label and the songs of each ranking.

    The result has shape (n,). Songs without a vector are omitted. The mean is 0 if no song of a
    ranking has a vector.
    """
    assert dataset.vectors is not None
    vectors = dataset.vectors
    has_vector = (rankings >= 0) & dataset.has_vector[rankings]
    cosine = np.einsum("nkd,nd->nk", vectors[np.maximum(rankings, 0)], vectors[label])
    count = has_vector.sum(axis=1)
    total = np.where(has_vector, cosine, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), 0.0)


def _measure_hit_rate(answers: SongNumbers, cases: HeldOutCases) -> float:
    return float(hits(match_labels(answers, cases.labels), K).mean())


def _require_answers(name: str, answers: SongNumbers) -> Behaviour:
    share = float((answers >= 0).any(axis=1).mean())
    return Behaviour(name, "share of queries with an answer", share, "is 1", share == 1)
