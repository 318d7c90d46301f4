"""Co-occurrence weights, checked against values calculated by hand and against a naive loop."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.console.progress import SilentReporter
from ingest.learn import cooccurrence
from ingest.learn.arrays import measure_scale, weight_matrix
from ingest.parameters import Parameters

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Parameters(distance_power=0.0, backward=0.0, seed_exponent=0.0)


def strengths_of(
    playlists: list[list[int]], parameters: Parameters
) -> dict[tuple[int, int], float]:
    offsets = np.cumsum([0, *map(len, playlists)])
    songs = np.array([song for songs in playlists for song in songs], dtype=np.int32)
    result = {}
    for _, _, (seeds, predicted, strength) in cooccurrence.compute_weights(
        offsets, songs, parameters
    ):
        for seed, song, value in zip(seeds, predicted, strength, strict=True):
            result[int(seed), int(song)] = float(value)
    return result


def test_a_later_song_counts_for_an_earlier_one() -> None:
    assert strengths_of([[0, 1, 2]], PLAIN) == {(0, 1): 1, (0, 2): 1, (1, 2): 1}


def test_an_earlier_song_counts_less() -> None:
    parameters = Parameters(distance_power=0.0, backward=0.25, seed_exponent=0.0)
    assert strengths_of([[0, 1]], parameters) == {(0, 1): 1, (1, 0): 0.25}


def test_the_weight_decreases_with_distance() -> None:
    parameters = Parameters(distance_power=1.0, backward=0.0, seed_exponent=0.0)
    result = strengths_of([[0, 1, 2, 3]], parameters)
    assert result[0, 1] == 1
    assert result[0, 2] == 1 / 2
    assert result[0, 3] == pytest.approx(1 / 3, rel=1e-4)


def test_songs_beyond_the_window_do_not_count() -> None:
    parameters = Parameters(cooccurrence_window=1, backward=0.0)
    assert set(strengths_of([[0, 1, 2]], parameters)) == {(0, 1), (1, 2)}


def test_playlists_are_added_and_kept_apart() -> None:
    result = strengths_of([[0, 1], [0, 1], [2, 3]], PLAIN)
    assert result == {(0, 1): 2, (2, 3): 1}


def test_popularity_is_divided_out() -> None:
    playlists = [[0, 1], [0, 2], [0, 3], [0, 4]]
    of_seed = Parameters(distance_power=0.0, backward=0.0, seed_exponent=0.5)
    assert strengths_of(playlists, of_seed)[0, 1] == 1 / 2


def test_each_seed_keeps_its_largest_weights() -> None:
    parameters = Parameters(distance_power=1.0, backward=0.0, seed_exponent=0.0, neighbours=2)
    result = strengths_of([[0, 1, 2, 3, 4]], parameters)
    assert [song for seed, song in result if seed == 0] == [1, 2]


def test_songs_that_share_one_playlist_are_limited() -> None:
    # Song 0 shares two playlists with song 1, at large distances, and one playlist with each other
    # song, at smaller distances.
    playlists = [[0, 2, 3, 4, 1], [5, 0, 6, 7, 1]]
    parameters = Parameters(
        distance_power=1.0, backward=0.0, seed_exponent=0.0, lone_neighbours=2, neighbours=2
    )
    result = strengths_of(playlists, parameters)
    assert [song for seed, song in result if seed == 0] == [2, 6]
    result = strengths_of(playlists, replace(parameters, lone_neighbours=1))
    assert [song for seed, song in result if seed == 0] == [2, 1]
    result = strengths_of(playlists, replace(parameters, lone_neighbours=0))
    assert list(result) == [(0, 1)]


def plain_double_loop(
    playlists: list[list[int]], parameters: Parameters
) -> dict[tuple[int, int], float]:
    plays: dict[int, int] = defaultdict(int)
    counts: dict[tuple[int, int], float] = defaultdict(float)
    for songs in playlists:
        for place, seed in enumerate(songs):
            plays[seed] += 1
            for other, song in enumerate(songs):
                distance = abs(other - place)
                if other == place or distance > parameters.cooccurrence_window:
                    continue
                direction = 1.0 if other > place else parameters.backward
                counts[seed, song] += distance**-parameters.distance_power * direction
    return {
        (seed, song): count / plays[seed] ** parameters.seed_exponent
        for (seed, song), count in counts.items()
        if count > 0
    }


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True), min_size=1),
    st.integers(1, 12),
    st.floats(0, 2),
    st.floats(0, 1),
    st.integers(1, 40),
)
def test_the_weights_equal_those_of_a_plain_loop(
    playlists: list[list[int]], window: int, power: float, backward: float, pairs: int
) -> None:
    parameters = Parameters(
        cooccurrence_window=window,
        distance_power=power,
        backward=backward,
        neighbours=10_000,
        lone_neighbours=10_000,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "PAIRS_PER_PART", pairs)  # small parts, so that there are many
        result = strengths_of(playlists, parameters)
    expected = plain_double_loop(playlists, parameters)
    assert result.keys() >= {pair for pair, value in expected.items() if value > 1e-6}
    for pair, value in result.items():
        assert value == pytest.approx(expected[pair], rel=1e-4, abs=1e-6)


def test_the_stage_writes_what_was_counted(tmp_path: Path) -> None:
    train = pa.table({"songs": pa.array([[0, 1, 2], [1, 2]], pa.list_(pa.int32()))})
    pq.write_table(train, tmp_path / "train.parquet")
    summary = cooccurrence.count_cooccurrence(
        tmp_path / "train.parquet", tmp_path, PLAIN, SilentReporter()
    )
    rows = pq.read_table(tmp_path / "cooccurrence.parquet").to_pylist()
    assert [(row["seed"], row["song"], row["strength"]) for row in rows] == [
        (0, 1, 1.0),
        (0, 2, 1.0),
        (1, 2, 2.0),
    ]
    assert summary.strengths == 3
    # The largest weights are 1 for song 0 (one play), 2 for song 1 (two plays), and none for song 2
    # (two plays).
    assert summary.scale == pytest.approx((1 * 1 + 2 * 2 + 2 * 0) / 5)


def test_the_scale_is_the_same_whether_weights_are_read_in_parts_or_at_once() -> None:
    random = np.random.default_rng(0)
    playlists = [random.permutation(30)[: random.integers(2, 9)] for _ in range(40)]
    songs, plays = np.concatenate(playlists).astype(np.int32), np.zeros(30, np.int64)
    np.add.at(plays, songs, 1)
    offsets = np.cumsum([0, *map(len, playlists)])
    scale, parts = cooccurrence.WeightScale(plays), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "PAIRS_PER_PART", 50)
        for _, _, part in cooccurrence.compute_weights(offsets, songs, Parameters()):
            scale.add(part)
            parts.append(part)
    assert len(parts) > 3
    weights = weight_matrix([np.concatenate(column) for column in zip(*parts, strict=True)], 30)
    by_hand = sum(plays[seed] * weights[[seed]].max() for seed in range(30)) / plays.sum()
    assert scale.value == pytest.approx(by_hand)
    assert measure_scale(weights, plays) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("songs", "lone"), [(0, 200), (100_000, 200), (1_000_000, 20), (2_300_000, 8), (10**8, 5)]
)
def test_with_more_songs_the_limit_is_lower(songs: int, lone: int) -> None:
    assert Parameters().lone_neighbours_for(songs) == lone
    assert Parameters(lone_neighbours=3).lone_neighbours_for(songs) == 3
