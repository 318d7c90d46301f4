"""Held-out playlists as queries; the proof that none was learned from; and kinds of queries."""

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
from evaluation.judge.slices import kinds
from evaluation.protocol import dataset as datas
from evaluation.protocol.cases import Queries, load_queries
from evaluation.protocol.dataset import UNKNOWN, Data, Songs, ragged
from evaluation.protocol.leaks import find_leaks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.road import Road


@pytest.fixture(scope="module")
def data(road: Road) -> Data:
    return datas.load(road.work, road.outcome.manifest.origin.parameters)


def whole(road: Road) -> list[list[int]]:
    rows = pq.read_table(road.work / "split" / "test.parquet").to_pylist()
    return [row["songs"] for row in rows]


def test_every_playlist_is_a_query_of_all_but_its_last_song(road: Road) -> None:
    queries = load_queries(road.work, "test", "last", 0, road.outcome.manifest)
    playlists = whole(road)
    assert len(queries) == len(playlists)
    for at, songs in enumerate(playlists):
        assert queries.seeds[at].tolist() == songs[:-1]
        assert queries.labels[at].tolist() == songs[-1:]


def test_half_of_each_playlist_is_held_out(road: Road) -> None:
    queries = load_queries(road.work, "test", "half", 0)
    for at, songs in enumerate(whole(road)):
        assert [*queries.seeds[at], *queries.labels[at]] == songs
        assert 0 <= len(queries.seeds[at]) - len(queries.labels[at]) <= 1


def test_a_random_label_depends_on_the_playlist_and_the_seed_alone(road: Road) -> None:
    queries = load_queries(road.work, "test", "random", 0)
    places = []
    for at, songs in enumerate(whole(road)):
        place = songs.index(queries.label[at])
        assert queries.seeds[at].tolist() == songs[:place] + songs[place + 1 :]
        places.append(place / (len(songs) - 1))
    assert 0.3 < np.mean(places) < 0.7
    again, other = (load_queries(road.work, "test", "random", seed) for seed in (0, 1))
    assert again.label.tolist() == queries.label.tolist()
    assert other.label.tolist() != queries.label.tolist()


def test_a_sample_keeps_queries_whole(road: Road) -> None:
    queries = load_queries(road.work, "test", "last", 0)
    some = queries.sample(10, seed=3)
    assert len(some) == 10
    at = queries.playlist_ids.index(some.playlist_ids[4])
    assert some.seeds[4].tolist() == queries.seeds[at].tolist()
    assert some.label[4] == queries.label[at]
    assert queries.sample(10_000, seed=3) is queries


def test_a_release_of_other_playlists_is_refused(road: Road, tmp_path: Path) -> None:
    manifest = road.outcome.manifest
    other = replace(manifest, origin=replace(manifest.origin, split_fingerprint="0" * 64))
    with pytest.raises(MismatchError, match="was not made from the playlists"):
        load_queries(road.work, "test", "last", 0, other)
    with pytest.raises(MismatchError, match="ingest run"):
        load_queries(tmp_path, "test", "last", 0, manifest)


def test_songs_are_counted_and_named(road: Road, data: Data) -> None:
    train = pq.read_table(road.work / "split" / "train.parquet")["songs"].to_pylist()
    song = train[0][0]
    assert data.songs.playlists[song] == sum(song in songs for songs in train)
    best = int(data.songs.by_popularity[0])
    assert data.songs.playlists[best] == data.songs.playlists.max()
    assert data.songs.place[best] == 1
    seed = data.songs.seed(song)
    assert data.songs.numbers[seed.song_id or UUID(int=0)] == song
    (first, second) = data.songs.seeds(ragged([[song, -1], [-1]]))
    assert first == [seed, UNKNOWN]
    assert second == [UNKNOWN]


def test_the_split_leaks_nothing(road: Road) -> None:
    leaks = find_leaks(road.work)
    summary = road.outcome.stages.split.summary
    assert leaks.playlists == summary.validation + summary.test
    assert leaks.same_id == 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_leaks_are_found_by_id_and_by_content(road: Road, tmp_path: Path, split: str) -> None:
    work = tmp_path / "work"
    shutil.copytree(road.work, work)
    train_path, held_path = work / "split" / "train.parquet", work / "split" / f"{split}.parquet"
    train, held = pq.read_table(train_path), pq.read_table(held_path)
    before = find_leaks(work)
    in_any_order = find_leaks(work, ordered=False)
    clone = held.slice(0, 1).set_column(0, "playlist_id", pa.array(["a clone"]))
    backwards = held.slice(1, 1).to_pylist()[0]
    backwards |= {"playlist_id": "backwards", "songs": backwards["songs"][::-1]}
    turned = pa.Table.from_pylist([backwards], train.schema)
    leaked = pa.concat_tables([train, held.slice(2, 1), clone.cast(train.schema), turned])
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
    found = set(unordered.same_songs) - set(in_any_order.same_songs)
    assert found == {ids[0], ids[1], ids[2]}


def test_a_playlist_of_both_held_out_splits_is_found(road: Road, tmp_path: Path) -> None:
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


def test_kinds_of_queries_by_hand(tmp_path: Path) -> None:
    # Songs 0 to 5, in 10, 6, 3, 1, 0 and 0 playlists: half of the 20 plays is song 0. Song 5 is by
    # the artist of song 3. Songs of fewer than 4 playlists have no vector.
    songs = Songs(
        pa.table({}), np.array([0, 0, 1, 2, 3, 2], np.int32), np.array([10, 6, 3, 1, 0, 0])
    )
    data = Data(tmp_path, songs, ragged([[0]]), 0, ordered=True, min_count=4)
    queries = Queries(
        ["a", "b", "c", "d", "e", "f"],
        [""] * 6,
        ragged([[1, 2], [4] * 12, [3, 4], [0, 1, 2], [5], [0]]),
        ragged([[0], [1], [3], [4], [0], [0]]),
    )
    found = {
        group: [next(name for name, chosen in members.items() if chosen[at]) for at in range(6)]
        for group, members in kinds(queries, data).items()
    }
    short, one = "2 to 4 songs", "1 song"
    assert found["length of the query"] == [short, "10 to 19 songs", short, short, one, one]
    assert [name.split(":")[0] for name in found["popularity of the label"]] == [
        "head",
        "middle",
        "tail",
        "not in the catalog",
        "head",
        "head",
    ]
    assert found["known songs of the query"] == [
        "all",
        "none, no artist either",
        "up to half",
        "all",
        "none, but artists",
        "all",
    ]
    assert found["vectors of the query"] == [
        "some below min_count",
        "no song is known",
        "all below min_count",
        "some below min_count",
        "no song is known",
        "none below min_count",
    ]
    assert found["artist of the label"] == [
        "is in the query",
        "is not in the query",
        "is in the query",
        "is not in the query",
        "is not in the query",
        "is in the query",
    ]
    assert [name.split(":")[0] for name in found["last song of the query"]] == [
        "cool",
        "cold",
        "cold",
        "cool",
        "cold",
        "warm",
    ]


def test_songs_without_a_vector_are_told_by_the_releases_own_min_count(
    road: Road, data: Data
) -> None:
    assert data.min_count == road.parameters.min_count == 2
    assert data.songs.playlists.min() < data.min_count


def test_each_query_is_of_exactly_one_kind_of_each_group(road: Road, data: Data) -> None:
    queries = load_queries(road.work, "validation", "last", 0)
    for group, members in kinds(queries, data).items():
        count = np.sum(list(members.values()), axis=0)
        assert (count == 1).all(), group
