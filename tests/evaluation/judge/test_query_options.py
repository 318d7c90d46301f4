"""Behavioural tests of disliked songs, weighted songs, and versions of songs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from evaluation.judge import query_options
from evaluation.judge.behaviour import measure_overlap
from evaluation.judge.query_options import DISLIKED, EMPHASISED, VERSIONS, run_option_tests
from evaluation.protocol.cases import HeldOutCases, load_cases
from evaluation.protocol.dataset import Dataset, SongLists, Songs, load_dataset
from evaluation.systems.remote import Service
from tests.support.rpc_servers import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evaluation.judge.behaviour import Behaviour
    from evaluation.protocol.dataset import SongNumbers
    from tests.support.road import Road


def lists(*songs: list[int]) -> SongLists:
    return SongLists.from_lists(songs)


class ScriptedSystem:
    """A system that ranks songs by the weighted sum of their cosine similarities to the seeds.

    Song 5 is recommended only if versions are allowed. It is then ranked first, unless it is a
    seed.
    """

    key = name = "scripted"

    def __init__(self, dataset: Dataset, *, with_versions: bool = False) -> None:
        self._dataset = dataset
        self._with_versions = with_versions

    def allow_versions(self) -> ScriptedSystem:
        return ScriptedSystem(self._dataset, with_versions=True)

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        vectors = self._dataset.vectors
        assert vectors is not None
        weights = cases.weights if cases.weights is not None else np.ones(len(cases.seeds.songs))
        for row in range(len(cases)):
            start, end = cases.seeds.offsets[row : row + 2]
            seeds = cases.seeds[row]
            scores = weights[start:end] @ vectors[seeds] @ vectors.T
            scores[seeds] = -9
            scores[5] = 9 if self._with_versions and 5 not in seeds else -9
            ranking = np.argsort(-scores, kind="stable")
            ranking = ranking[scores[ranking] > -9][:limit]
            yield np.append(ranking, np.full(limit - len(ranking), -1))[None].astype(np.int32)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six songs by two artists. Song 5 is a version of song 0.

    Vectors have two dimensions. Their angles are similar for songs by the same artist.
    """
    titles = ["Heroes", "Fame", "Under", "Roar", "Firework", "Heroes - Live"]
    table = pa.table({"song_id": [""] * 6, "artist": [""] * 6, "title": titles})
    train = lists([0, 1], [0, 1], [0, 2], [1, 2], [0, 1, 2], [3, 4])
    playlists = np.bincount(train.songs, minlength=6)
    songs = Songs(table, np.array([0, 0, 0, 1, 1, 0], np.int32), playlists)
    made = Dataset(tmp_path, songs, train, 0)
    angles = np.array([0.0, 0.1, 0.2, 1.3, 1.4, 0.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    object.__setattr__(made, "vectors", vectors)
    return made


def by_name(behaviours: list[Behaviour]) -> dict[str, dict[str, float | None]]:
    named: dict[str, dict[str, float | None]] = {}
    for behaviour in behaviours:
        named.setdefault(behaviour.name, {})[behaviour.figure] = behaviour.value
    return named


def test_a_disliked_song_worked_out_by_hand(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_options, "K", 1)
    monkeypatch.setattr(query_options, "DEPTH", 2)
    # For seed 1, songs 0, 2 and 3 are recommended. Song 0 becomes the disliked song, because song 2
    # is the label. The new score of a song is the cosine with seed 1 minus the cosine with song 0:
    # cos(.1) - cos(.2) for song 2, cos(1.2) - cos(1.3) for song 3, cos(1.3) - cos(1.4) for song 4.
    cases = HeldOutCases(["p"], [""], lists([1]), lists([2]))
    figures = by_name(run_option_tests(ScriptedSystem(dataset), cases, dataset))[DISLIKED]
    assert figures == {
        # Song 2, recommended before, shares two playlists with song 0. Song 4, recommended after,
        # shares none.
        "mean similarity of 1 songs to it by shared playlists, after minus before": pytest.approx(
            0 - 2 / np.sqrt(4 * 3)
        ),
        "share of 1 songs by its artist, after minus before": -1,
        "hit rate at 1, after minus before": -1,
        "hit rate at 2, after minus before": -1,
    }


def test_an_emphasised_song_worked_out_by_hand(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_options, "K", 1)
    # With equal weights, song 2 is ranked first. If song 0 has more weight, the song nearest to it,
    # song 1, is ranked first.
    cases = HeldOutCases(["p"], [""], lists([0, 4]), lists([1]))
    figures = by_name(run_option_tests(ScriptedSystem(dataset), cases, dataset))[EMPHASISED]
    assert figures == {
        "mean similarity of 1 songs to it by shared playlists, after minus before": pytest.approx(
            3 / np.sqrt(4 * 4) - 2 / np.sqrt(4 * 3)
        ),
        "share of 1 songs by its artist, after minus before": 0,
        "hit rate at 1, after minus before": 1,
        "hit rate at 100, after minus before": 0,
    }


def test_versions_are_counted(dataset: Dataset) -> None:
    cases = HeldOutCases(["p", "q"], ["", ""], lists([0], [3]), lists([5], [4]))
    versions = by_name(run_option_tests(ScriptedSystem(dataset), cases, dataset))[VERSIONS]
    assert versions == {
        "share of labels that are versions of a song of the query": 1 / 2,
        # The answer for seed 3 contains songs 0 and 5, which are versions of each other.
        "share of answers of 10 songs with a version": 1,
        "hit rate at 10, allowed minus not allowed": 1 / 2,
        "hit rate at 100, allowed minus not allowed": 1 / 2,
    }


def test_subsets_and_batches_of_cases_keep_the_seed_weights() -> None:
    cases = HeldOutCases(["p", "q", "r"], [""] * 3, lists([0], [1, 2], [3]), lists([4], [4], [4]))
    weighted = cases.with_seeds(cases.seeds, np.array([1, 2, 3, 4], np.float32))
    taken = weighted.take(np.array([2, 1]))
    assert taken.weights is not None
    assert taken.weights.tolist() == [4, 2, 3]
    batches = [batch.weights for batch in weighted.split_batches(2)]
    assert [weights.tolist() for weights in batches if weights is not None] == [[1, 2, 3], [4]]
    assert [len(batch) for batch in cases.split_batches(2)] == [2, 1]


def test_a_release_and_its_service_use_weights_and_allow_versions(road: Road) -> None:
    from evaluation.systems.release import Release

    dataset = load_dataset(road.work, road.outcome.manifest.origin.parameters)
    cases = load_cases(road.work, "validation", "last", 0).take(np.arange(4))
    weights = np.ones(len(cases.seeds.songs), np.float32)
    weights[cases.seeds.offsets[:-1]] = -1
    weighted = replace(cases, weights=weights)
    release = road.home.open()
    in_process = Release(release, dataset)
    loop = Loop()
    try:
        with loop.serve(road.home) as server:
            service = Service(server.address, road.outcome.manifest.release, dataset)
            for system in (in_process, in_process.allow_versions()):
                (plain,) = system.recommend(cases, 20)
                (changed,) = system.recommend(weighted, 20)
                assert (plain != changed).any()
            for mine, theirs in (
                (in_process, service),
                (in_process.allow_versions(), service.allow_versions()),
            ):
                (expected,) = mine.recommend(weighted, 20)
                (answered,) = theirs.recommend(weighted, 20)
                # Songs with equal scores can be in any order.
                assert measure_overlap(expected, answered).mean() > 0.9
    finally:
        loop.close()
        release.close()
