"""Held-out cases, the check for leaks, and slices of the cases."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import MismatchError
from evaluation.judge.slices import group_cases
from evaluation.protocol.cases import HeldOutCases, load_cases
from evaluation.protocol.dataset import (
    UNKNOWN_SONG,
    Dataset,
    SongLists,
    Songs,
    load_dataset,
)
from evaluation.protocol.leaks import find_leaks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.road import Road


@pytest.fixture(scope="module")
def dataset(road: Road) -> Dataset:
    return load_dataset(road.work, road.outcome.manifest.origin.parameters)


def playlists_of_test(road: Road) -> list[list[int]]:
    rows = pq.read_table(road.work / "split" / "test.parquet").to_pylist()
    return [row["songs"] for row in rows]


def test_every_playlist_makes_a_case_of_all_but_its_last_song(road: Road) -> None:
    cases = load_cases(road.work, "test", "last", 0, road.outcome.manifest)
    playlists = playlists_of_test(road)
    assert len(cases) == len(playlists)
    for row, songs in enumerate(playlists):
        assert cases.seeds[row].tolist() == songs[:-1]
        assert cases.labels[row].tolist() == songs[-1:]


def test_half_of_each_playlist_is_held_out(road: Road) -> None:
    cases = load_cases(road.work, "test", "half", 0)
    for row, songs in enumerate(playlists_of_test(road)):
        assert [*cases.seeds[row], *cases.labels[row]] == songs
        assert 0 <= len(cases.seeds[row]) - len(cases.labels[row]) <= 1


def test_a_random_label_depends_only_on_playlist_and_seed(road: Road) -> None:
    cases = load_cases(road.work, "test", "random", 0)
    positions = []
    for row, songs in enumerate(playlists_of_test(road)):
        position = songs.index(cases.label[row])
        assert cases.seeds[row].tolist() == songs[:position] + songs[position + 1 :]
        positions.append(position / (len(songs) - 1))
    assert 0.3 < np.mean(positions) < 0.7
    again, other = (load_cases(road.work, "test", "random", seed) for seed in (0, 1))
    assert again.label.tolist() == cases.label.tolist()
    assert other.label.tolist() != cases.label.tolist()


def test_a_sample_keeps_seeds_and_labels_together(road: Road) -> None:
    cases = load_cases(road.work, "test", "last", 0)
    sample = cases.sample(10, seed=3)
    assert len(sample) == 10
    row = cases.playlist_ids.index(sample.playlist_ids[4])
    assert sample.seeds[4].tolist() == cases.seeds[row].tolist()
    assert sample.label[4] == cases.label[row]
    assert cases.sample(10_000, seed=3) is cases


def test_a_release_from_other_playlists_is_refused(road: Road, tmp_path: Path) -> None:
    manifest = road.outcome.manifest
    other = replace(manifest, origin=replace(manifest.origin, split_fingerprint="0" * 64))
    with pytest.raises(MismatchError, match="was not made from the playlists"):
        load_cases(road.work, "test", "last", 0, other)
    with pytest.raises(MismatchError, match="ingest run"):
        load_cases(tmp_path, "test", "last", 0, manifest)


def test_songs_have_counts_ranks_and_seeds(road: Road, dataset: Dataset) -> None:
    train = pq.read_table(road.work / "split" / "train.parquet")["songs"].to_pylist()
    song = train[0][0]
    assert dataset.songs.playlists[song] == sum(song in songs for songs in train)
    best = int(dataset.songs.by_popularity[0])
    assert dataset.songs.playlists[best] == dataset.songs.playlists.max()
    assert dataset.songs.popularity_rank[best] == 1
    seed = dataset.songs.seed(song)
    assert dataset.songs.numbers[seed.song_id or UUID(int=0)] == song
    (first, second) = dataset.songs.seeds(SongLists.from_lists([[song, -1], [-1]]))
    assert first == [seed, UNKNOWN_SONG]
    assert second == [UNKNOWN_SONG]


def test_the_split_has_no_leaks(road: Road) -> None:
    leaks = find_leaks(road.work)
    summary = road.outcome.stages.split.summary
    assert leaks.playlists == summary.validation + summary.test
    assert leaks.same_id == 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_leaks_are_detected_by_id_and_by_songs(road: Road, tmp_path: Path, split: str) -> None:
    work = tmp_path / "work"
    shutil.copytree(road.work, work)
    train_path, held_path = work / "split" / "train.parquet", work / "split" / f"{split}.parquet"
    train, held = pq.read_table(train_path), pq.read_table(held_path)
    before = find_leaks(work)
    before_unordered = find_leaks(work, ordered=False)
    clone = held.slice(0, 1).set_column(0, "playlist_id", pa.array(["a clone"]))
    backwards = held.slice(1, 1).to_pylist()[0]
    backwards |= {"playlist_id": "backwards", "songs": backwards["songs"][::-1]}
    reversed_ = pa.Table.from_pylist([backwards], train.schema)
    leaked = pa.concat_tables([train, held.slice(2, 1), clone.cast(train.schema), reversed_])
    pq.write_table(leaked, train_path)
    record = work / "split" / "stage.json"
    sizes = f'"train.parquet": {road.work.joinpath("split/train.parquet").stat().st_size}'
    text = record.read_text()
    assert sizes in text
    record.write_text(text.replace(sizes, f'"train.parquet": {train_path.stat().st_size}'))
    after = find_leaks(work)
    assert after.same_id == before.same_id + 1
    ids = held["playlist_id"].to_pylist()
    assert set(after.same_songs) - set(before.same_songs) == {ids[0], ids[2]}
    unordered = find_leaks(work, ordered=False)
    leaked = set(unordered.same_songs) - set(before_unordered.same_songs)
    assert leaked == {ids[0], ids[1], ids[2]}


def test_a_playlist_of_both_held_out_splits_is_detected(road: Road, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(road.work, work)
    before = find_leaks(work)
    paths = [work / "split" / f"{split}.parquet" for split in ("validation", "test")]
    validation, test = (pq.read_table(path) for path in paths)
    clone = validation.slice(0, 1).set_column(0, "playlist_id", pa.array(["a clone"]))
    pq.write_table(pa.concat_tables([test, clone.cast(test.schema)]), paths[1])
    record = work / "split" / "stage.json"
    old = road.work.joinpath("split/test.parquet").stat().st_size
    new = paths[1].stat().st_size
    record.write_text(
        record.read_text().replace(f'"test.parquet": {old}', f'"test.parquet": {new}')
    )
    after = find_leaks(work)
    assert after.across == before.across + 1
    assert after.playlists == before.playlists + 1


def test_slices_by_hand(tmp_path: Path) -> None:
    # Songs 0 to 5 are in 10, 6, 3, 1, 0 and 0 playlists, so song 0 has half of the 20 plays. Song 5
    # is by the same artist as song 3. Songs in fewer than 4 playlists have no vector.
    songs = Songs(
        pa.table({}), np.array([0, 0, 1, 2, 3, 2], np.int32), np.array([10, 6, 3, 1, 0, 0])
    )
    dataset = Dataset(tmp_path, songs, SongLists.from_lists([[0]]), 0, min_count=4)
    cases = HeldOutCases(
        ["a", "b", "c", "d", "e", "f"],
        [""] * 6,
        SongLists.from_lists([[1, 2], [4] * 12, [3, 4], [0, 1, 2], [5], [0]]),
        SongLists.from_lists([[0], [1], [3], [4], [0], [0]]),
    )
    slices = {
        group: [next(name for name, chosen in members.items() if chosen[row]) for row in range(6)]
        for group, members in group_cases(cases, dataset).items()
    }
    short, single = "2 to 4 songs", "1 song"
    assert slices["length of the query"] == [short, "10 to 19 songs", short, short, single, single]
    assert [name.split(":")[0] for name in slices["popularity of the label"]] == [
        "head",
        "middle",
        "tail",
        "not in the catalog",
        "head",
        "head",
    ]
    assert slices["known songs of the query"] == [
        "all",
        "none, no artist either",
        "up to half",
        "all",
        "none, but artists",
        "all",
    ]
    assert slices["vectors of the query"] == [
        "some below min_count",
        "no song is known",
        "all below min_count",
        "some below min_count",
        "no song is known",
        "none below min_count",
    ]
    assert slices["artist of the label"] == [
        "is in the query",
        "is not in the query",
        "is in the query",
        "is not in the query",
        "is not in the query",
        "is in the query",
    ]
    assert [name.split(":")[0] for name in slices["last song of the query"]] == [
        "cool",
        "cold",
        "cold",
        "cool",
        "cold",
        "warm",
    ]


def test_the_dataset_has_the_min_count_of_the_release(road: Road, dataset: Dataset) -> None:
    assert dataset.min_count == road.parameters.min_count == 2
    assert dataset.songs.playlists.min() < dataset.min_count


def test_each_case_is_in_exactly_one_slice_of_each_group(road: Road, dataset: Dataset) -> None:
    cases = load_cases(road.work, "validation", "last", 0)
    for group, members in group_cases(cases, dataset).items():
        count = np.sum(list(members.values()), axis=0)
        assert (count == 1).all(), group
