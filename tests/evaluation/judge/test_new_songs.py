"""Evaluation on new songs, whose plays are removed from the training playlists."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import InputError
from evaluation.baselines.artist_songs import ArtistSongs
from evaluation.judge import harness, new_songs
from evaluation.judge.slices import group_cases
from evaluation.protocol.cases import HeldOutCases
from evaluation.protocol.dataset import Dataset, SongLists, Songs, load_dataset
from evaluation.report import page, terminal
from evaluation.systems.location import StoreLocation
from ingest.learn.arrays import encode_keys

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.judge.new_songs import NewSongs
    from evaluation.judge.result import Evaluation
    from tests.support.road import Road


def dataset_of(
    playlists: list[list[int]], songs: int, listed: list[int] | None = None, **more: Any
) -> Dataset:
    train = SongLists.from_lists(playlists)
    table = pa.table({name: [f"{name}{at}" for at in range(songs)] for name in ("artist", "title")})
    return Dataset(
        more.pop("work", None),
        Songs(
            table,
            np.zeros(songs, np.int32),
            np.bincount(train.songs, minlength=songs),
            more.pop("min_playlists", 1),
            np.array(listed or [], np.int32),
        ),
        train,
        0,
    )


def cases_of(*pairs: tuple[list[int], int]) -> HeldOutCases:
    return HeldOutCases(
        [f"p{row}" for row in range(len(pairs))],
        [""] * len(pairs),
        SongLists.from_lists([seeds for seeds, _ in pairs]),
        SongLists.from_lists([[label] for _, label in pairs]),
    )


def test_listed_songs_are_the_least_popular_of_the_catalog() -> None:
    songs = dataset_of([[0, 1], [1, 3], [1, 3]], 5, listed=[4, 1, 0], min_playlists=2).songs
    assert songs.in_catalog.tolist() == [True, True, False, True, True]
    assert songs.by_popularity.tolist() == [1, 3, 0, 4]
    assert songs.popularity_rank.tolist() == [3, 1, 0, 2, 4]


def test_labels_without_plays_are_a_slice() -> None:
    dataset = dataset_of([[0, 1], [1]], 4, listed=[2])
    slices = group_cases(cases_of(([0], 1), ([0], 2), ([0], 3)), dataset)["popularity of the label"]
    assert slices["new: listed, without plays"].tolist() == [False, True, False]
    assert slices["not in the catalog"].tolist() == [False, False, True]


def test_the_plays_of_taken_songs_are_taken_out_of_training() -> None:
    dataset = dataset_of([[0, 1, 2], [1], [2, 3]], 5)
    reduced = new_songs._take_out(dataset, np.array([1, 3], np.int32))
    assert [reduced.train[row].tolist() for row in range(len(reduced.train))] == [[0, 2], [2]]
    assert reduced.songs.playlists.tolist() == [1, 0, 2, 0, 0]
    # Song 4 is in no training playlist, so it stays unknown.
    assert reduced.songs.by_popularity.tolist() == [2, 0, 1, 3]


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """A work folder with two validation playlists."""
    folder = tmp_path / "split"
    folder.mkdir()
    table = {"playlist_id": ["a", "b"], "name": ["", ""], "songs": [[1, 5, 2], [5, 3]]}
    pq.write_table(pa.table(table), folder / "validation.parquet")
    record = {"fingerprint": "", "inputs": {}, "summary": {}, "files": {}}
    (folder / "stage.json").write_text(json.dumps(record))
    return tmp_path


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [
        (True, [("a", [1], 5), ("a", [1, 5], 2)]),
        (False, [("a", [1, 2], 5), ("a", [1, 5], 2), ("b", [3], 5)]),
    ],
)
def test_each_play_of_a_taken_song_is_a_case(
    held_out: Path, ordered: bool, expected: list[tuple[str, list[int], int]]
) -> None:
    dataset = dataset_of([[1]], 6, work=held_out)
    plan = new_songs.NewSongsPlan("validation")
    cases = new_songs._list_cases(dataset, np.array([2, 5], np.int32), plan, ordered=ordered)
    found = zip(cases.playlist_ids, range(len(cases)), cases.label.tolist(), strict=True)
    assert [(name, cases.seeds[row].tolist(), label) for name, row, label in found] == expected


def test_popularity_within_artist_by_hand() -> None:
    artists = encode_keys(pa.array([["x"], ["x"], ["y"], ["x", "y"], ["z"], [], ["x"], ["x"]]))
    playlists = np.array([3, 1, 9, 2, 9, 9, 0, 0])
    in_catalog = np.array([True] * 7 + [False])
    baseline = ArtistSongs(artists, playlists, in_catalog, seed=0)
    (rankings,) = baseline.recommend(cases_of(([0], 1), ([2, -1], 3), ([5], 0)), 4)
    assert rankings.tolist() == [[3, 1, 6, -1], [3, -1, -1, -1], [-1] * 4]


def test_songs_without_plays_are_in_random_order() -> None:
    artists = encode_keys(pa.array([["x"]] * 40))
    first = [
        next(
            iter(
                ArtistSongs(artists, np.zeros(40, int), np.ones(40, bool), seed).recommend(
                    cases_of(([0], 1)), 1
                )
            )
        ).item()
        for seed in range(20)
    ]
    assert len({*first}) > 5


def test_chance_by_hand() -> None:
    figures = new_songs._expect_chance(1_000, 2).figures
    assert {name: figure.mean for name, figure in figures.items()} == pytest.approx(
        {"hr@10": 0.01, "hr@100": 0.1, "coverage@10": 1 - 0.99**2, "coverage@100": 0.19}
    )


def test_new_songs_of_a_service_cannot_be_measured() -> None:
    with pytest.raises(InputError, match="leave out --target or --new-songs"):
        harness.Plan(new_songs=True, target="localhost:1")


# The measurement of a real release.


@pytest.fixture(scope="module")
def result(road: Road) -> Evaluation:
    plan = harness.Plan(
        baselines=(), modes=("auto",), behaviours=False, recall=False, new_songs=True
    )
    return harness.measure(StoreLocation(road.home.path), road.work, plan, SilentReporter())


@pytest.fixture(scope="module")
def measured(result: Evaluation) -> NewSongs:
    assert result.new_songs is not None
    return result.new_songs


def test_figures_of_a_release(road: Road, result: Evaluation, measured: NewSongs) -> None:
    songs = result.dataset.songs
    taken = new_songs._draw_songs(result.dataset, seed=0)
    assert measured.songs == len(taken) == round(0.05 * len(songs.by_popularity))
    assert songs.playlists[taken].min() > 0
    playlists = pq.read_table(road.work / "split" / "validation.parquet")["songs"].to_pylist()
    plays = [song for playlist in playlists for song in playlist[1:] if song in taken]
    assert measured.queries == measured.available == len(plays)
    assert measured.catalog == len(songs.by_popularity)
    by_key = {system.key: system.figures for system in measured.systems}
    assert list(by_key) == ["nextsong", "chance", "artist-songs", "with-plays"]
    assert by_key["chance"]["hr@100"].mean == 100 / measured.catalog
    for figures in by_key.values():
        assert set(figures) == {"hr@10", "hr@100", "coverage@10", "coverage@100"}
        assert figures["hr@10"].mean <= figures["hr@100"].mean
    assert by_key["nextsong"]["hr@100"].high > by_key["nextsong"]["hr@100"].mean


def test_nothing_is_left_in_the_work_folder(road: Road, result: Evaluation) -> None:
    assert result.new_songs
    assert [path.name for path in road.work.iterdir() if path.name.startswith(".new")] == []


def test_the_figures_are_printed_and_reported(
    result: Evaluation, measured: NewSongs, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.print_evaluation(result)
    printed = " ".join(capsys.readouterr().out.split())
    assert "slice new: the label is a song without plays" in printed
    assert f"{measured.queries:,} plays of {measured.songs:,} songs" in printed
    (line,) = [line for line in result.lines() if line["type"] == "new_songs"]
    assert json.loads(json.dumps(line))["systems"][0]["system"] == "nextsong"
    html = page.render_page(result)
    assert "Slice new" in html
    assert "popularity within artist (coverage" in html


def test_the_temporary_release_does_not_know_the_plays(road: Road, tmp_path: Path) -> None:
    manifest = road.outcome.manifest
    dataset = load_dataset(road.work, manifest.origin.parameters)
    taken = new_songs._draw_songs(dataset, seed=1)
    location = StoreLocation(tmp_path)
    reduced = new_songs._take_out(dataset, taken)
    new_songs._publish(manifest, reduced, location, SilentReporter())
    release = location.open_release()
    try:
        points = asyncio.run(release.popular(10_000))
        ids = [point.song.song_id for point in points]
        vectors = asyncio.run(release.cooccurrence_weights(ids))
    finally:
        release.close()
    numbers = [dataset.songs.numbers[song_id] for song_id in ids]
    assert len(numbers) == len(dataset.songs.by_popularity)
    plays = {number: point.song.playlists for number, point in zip(numbers, points, strict=True)}
    assert plays == {number: int(reduced.songs.playlists[number]) for number in numbers}
    assert [plays[number] for number in taken.tolist()] == [0] * len(taken)
    new_ordinals = {point.song.ordinal for point in points if not point.song.playlists}
    for song_id, number in zip(ids, numbers, strict=True):
        seeds = {index for index in vectors[song_id] if index < 1 << 31}
        assert not seeds & new_ordinals
        assert not (number in taken and seeds)
