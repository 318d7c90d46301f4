"""Behavioural tests of query options: disliked songs, weighted songs, and versions of songs.

The answer to a query is the list of recommended songs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.sparse import csr_array

from catalog.song import normalise
from evaluation.judge.behaviour import SAMPLE, Behaviour
from evaluation.judge.significance import ALPHA, format_p_equals, permutation_test
from evaluation.metrics.ranking import hits
from evaluation.metrics.relevance import match_labels
from evaluation.protocol.dataset import SongLists
from evaluation.systems.release import System
from service.recommend.recordings import identify_recording

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers

DEPTH = 100  # number of songs in an answer
K = 10  # number of songs whose similarity is measured
DISLIKE = -1.0  # weight of a disliked song, the same as in `nextsong recommend --unlike`
EMPHASIS = 10.0  # weight of an emphasised song
VERSION_SAMPLE = 2_000
"""Maximum number of cases for the test of versions. Versions are rare, so it needs more cases."""

DISLIKED = "the best recommended song is disliked"
EMPHASISED = f"the first song of the query has the weight {EMPHASIS:g}"
VERSIONS = "versions of songs are allowed"


class ConfigurableSystem(System, Protocol):
    """A system that supports query options: a release or a service."""

    def allow_versions(self) -> System:
        """Return a copy of this system whose answers may contain several versions of a song."""


def run_option_tests(
    system: ConfigurableSystem, cases: HeldOutCases, dataset: Dataset, seed: int = 0
) -> list[Behaviour]:
    """Run the tests of query options on random samples of the cases."""
    sample = cases.sample(SAMPLE, seed)
    return [
        *measure_dislike(system, sample, dataset),
        *measure_emphasis(system, sample, dataset),
        *measure_versions(system, cases.sample(VERSION_SAMPLE, seed), dataset),
    ]


def measure_dislike(
    system: System, cases: HeldOutCases, dataset: Dataset, weight: float = DISLIKE
) -> list[Behaviour]:
    """Mark the best recommended song that is not the label as disliked, and compare the answers.

    Returns the change in the similarity of the answers to the disliked song, and the changes in the
    hit rates. `weight` is the weight of the disliked song in the query.
    """
    before = _recommend(system, cases, DEPTH + 1)
    is_candidate = (before >= 0) & ~match_labels(before, cases.labels)
    rows = np.flatnonzero(is_candidate.any(axis=1))
    if not len(rows):
        return [Behaviour(DISLIKED, "no song is recommended", None)]
    cases, before = cases.take(rows), before[rows]
    disliked = before[np.arange(len(rows)), is_candidate[rows].argmax(axis=1)]
    seeds = _append(cases, disliked)
    weights = np.ones(len(seeds.songs), np.float32)
    weights[seeds.offsets[1:] - 1] = weight
    after = _recommend(system, cases.with_seeds(seeds, weights), DEPTH)
    return _compare(DISLIKED, _remove(before, disliked), after, disliked, cases, dataset)


def measure_emphasis(
    system: System, cases: HeldOutCases, dataset: Dataset, weight: float = EMPHASIS
) -> list[Behaviour]:
    """Give the first song of each query the weight `weight`, and compare the answers.

    Returns the change in the similarity of the answers to the song, and the changes in the hit
    rates. Queries with a single song are omitted.
    """
    rows = np.flatnonzero((cases.seeds.lengths > 1) & (_take_first(cases) >= 0))
    if not len(rows):
        return [Behaviour(EMPHASISED, "no query has two songs", None)]
    cases = cases.take(rows)
    weights = np.ones(len(cases.seeds.songs), np.float32)
    weights[cases.seeds.offsets[:-1]] = weight
    before = _recommend(system, cases, DEPTH)
    after = _recommend(system, cases.with_seeds(cases.seeds, weights), DEPTH)
    return _compare(EMPHASISED, before, after, _take_first(cases), cases, dataset, sign=1)


def measure_versions(
    system: ConfigurableSystem, cases: HeldOutCases, dataset: Dataset
) -> list[Behaviour]:
    """Allow versions of songs in the answers, and compare the answers.

    A version is another recording of a song in the query or of another song in the answer. Returns
    the shares of labels and of answers with a version, and the changes in the hit rates.
    """
    without = _recommend(system, cases, DEPTH)
    allowed = _recommend(system.allow_versions(), cases, DEPTH)
    recordings = _identify_recordings(dataset, cases.seeds.songs, cases.label, allowed.ravel())
    seeds = [{recordings.get(int(song)) for song in cases.seeds[row]} for row in range(len(cases))]
    is_version = [
        label not in cases.seeds[row] and _has_version([recordings.get(label)], seeds[row])
        for row, label in enumerate(cases.label.tolist())
    ]
    has_version = [
        _has_version([recordings.get(int(song)) for song in answer[:K]], seeds[row])
        for row, answer in enumerate(allowed)
    ]
    return [
        Behaviour(
            VERSIONS,
            "share of labels that are versions of a song of the query",
            float(np.mean(is_version)),
        ),
        Behaviour(
            VERSIONS, f"share of answers of {K} songs with a version", float(np.mean(has_version))
        ),
        *(
            Behaviour(VERSIONS, f"hit rate at {k}, allowed minus not allowed", difference)
            for k, difference in _compare_hit_rates(without, allowed, cases).items()
        ),
    ]


def _compare(
    name: str,
    before: SongNumbers,
    after: SongNumbers,
    song: SongNumbers,
    cases: HeldOutCases,
    dataset: Dataset,
    *,
    sign: int = -1,
) -> list[Behaviour]:
    """Return the changes in hit rates, and in the similarity between `song` and the answers.

    `song`, shape (cases,), has one song for each case. The rule is that the similarity must not
    decrease if `sign` is 1, and must not increase if `sign` is -1.
    """
    behaviours = [_compare_similarity(name, before, after, song, dataset, sign)]
    if dataset.songs.has_artists:
        shares = [_measure_artist_share(answers, song, dataset) for answers in (before, after)]
        figure = f"share of {K} songs by its artist, after minus before"
        behaviours.append(Behaviour(name, figure, float((shares[1] - shares[0]).mean())))
    return behaviours + [
        Behaviour(name, f"hit rate at {k}, after minus before", difference)
        for k, difference in _compare_hit_rates(before, after, cases).items()
    ]


def _compare_similarity(
    name: str,
    before: SongNumbers,
    after: SongNumbers,
    song: SongNumbers,
    dataset: Dataset,
    sign: int,
) -> Behaviour:
    before_and_after = [_measure_similarity(answers, song, dataset) for answers in (before, after)]
    difference = float((before_and_after[1] - before_and_after[0]).mean())
    p = permutation_test(before_and_after[1], before_and_after[0])
    directions = ("above", "below") if sign > 0 else ("below", "above")
    return Behaviour(
        name,
        f"mean similarity of {K} songs to it by shared playlists, after minus before",
        difference,
        f"is {directions[0]} 0, or not significantly {directions[1]} ({format_p_equals(p)})",
        sign * difference >= 0 or p >= ALPHA,
    )


def _measure_similarity(
    answers: SongNumbers, song: SongNumbers, dataset: Dataset
) -> NDArray[np.float64]:
    """Return the mean similarity between `song` and the first `K` songs of each answer, shape (n,).

    The similarity of two songs is the cosine of their sets of training playlists. The mean is 0 for
    an empty answer.
    """
    first = answers[:, :K]
    rows, ranks = np.nonzero(first >= 0)
    others, songs = first[rows, ranks], song[rows]
    by_song = csr_array(dataset.matrix.T)
    shared = by_song[others].multiply(by_song[songs]).sum(axis=1)
    plays = np.maximum(dataset.songs.playlists, 1)
    cosines = shared / np.sqrt(plays[others] * plays[songs])
    counts = np.bincount(rows, minlength=len(first))
    total = np.bincount(rows, cosines, minlength=len(first))
    return np.asarray(total / np.maximum(counts, 1))


def _compare_hit_rates(
    before: SongNumbers, after: SongNumbers, cases: HeldOutCases
) -> dict[int, float]:
    """Return the hit rate at k of `after` minus that of `before`, for each k in (`K`, `DEPTH`)."""
    matches = [match_labels(answers, cases.labels) for answers in (before, after)]
    return {k: float(hits(matches[1], k).mean() - hits(matches[0], k).mean()) for k in (K, DEPTH)}


def _measure_artist_share(
    answers: SongNumbers, song: SongNumbers, dataset: Dataset
) -> NDArray[np.float64]:
    """Return the share of the first `K` songs of each answer that are by the artist of `song`.

    The result has shape (cases,).
    """
    first, artist = answers[:, :K], dataset.songs.artist
    wanted = artist[song][:, None]
    is_same = (first >= 0) & (wanted >= 0) & (artist[first] == wanted)
    share: NDArray[np.float64] = is_same.sum(axis=1) / np.maximum((first >= 0).sum(axis=1), 1)
    return share


def _identify_recordings(dataset: Dataset, *songs: SongNumbers) -> dict[int, Hashable]:
    """Return the artist and bare title of each song that has an artist, by song number.

    Versions of a song have the same value.
    """
    numbers = np.unique(np.concatenate(songs))
    numbers = numbers[numbers >= 0]
    titles = dataset.songs.table["title"].take(numbers).to_pylist()
    artists = dataset.songs.artist[numbers].tolist()
    return {
        number: identify_recording(str(artist), normalise(title))
        for number, artist, title in zip(numbers.tolist(), artists, titles, strict=True)
        if artist >= 0
    }


def _has_version(recordings: list[Hashable], seeds: set[Hashable]) -> bool:
    """Return whether two songs, or a song and a seed, are versions of each other.

    `recordings` and `seeds` have a value of `_identify_recordings` for each song, or None.
    """
    known = [recording for recording in recordings if recording is not None]
    return len(set(known)) < len(known) or not seeds.isdisjoint(known)


def _recommend(system: System, cases: HeldOutCases, limit: int) -> SongNumbers:
    return np.concatenate(list(system.recommend(cases, limit)))


def _append(cases: HeldOutCases, songs: SongNumbers) -> SongLists:
    lists = [np.append(cases.seeds[row], song) for row, song in enumerate(songs)]
    return SongLists.from_lists(lists)


def _take_first(cases: HeldOutCases) -> SongNumbers:
    return cases.seeds.songs[cases.seeds.offsets[:-1]]


def _remove(answers: SongNumbers, songs: SongNumbers) -> SongNumbers:
    """Remove one song from each answer, and cut each answer to `DEPTH` songs.

    `songs`, shape (cases,), contains the song to remove for each case.
    """
    kept = [answer[answer != song][:DEPTH] for answer, song in zip(answers, songs, strict=True)]
    return np.array(kept)
