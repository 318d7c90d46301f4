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
from evaluation import data as datas
from evaluation.data import UNKNOWN, Data, Songs, ragged
from evaluation.leaks import find_leaks
from evaluation.protocol import Queries, load_queries
from evaluation.slices import kinds

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Road


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
    leaks = find_leaks(road.work, "validation")
    assert leaks.playlists == road.outcome.stages["split"].summary["validation"]
    assert leaks.same_id == 0


def test_leaks_are_found_by_id_and_by_content(road: Road, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(road.work, work)
    train_path, held_path = work / "split" / "train.parquet", work / "split" / "test.parquet"
    train, held = pq.read_table(train_path), pq.read_table(held_path)
    before = find_leaks(work, "test")
    in_any_order = find_leaks(work, "test", ordered=False)
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
    after = find_leaks(work, "test")
    assert after.same_id == before.same_id + 1
    ids = held["playlist_id"].to_pylist()
    assert set(after.same_songs) - set(before.same_songs) == {ids[0], ids[2]}
    unordered = find_leaks(work, "test", ordered=False)
    found = set(unordered.same_songs) - set(in_any_order.same_songs)
    assert found == {ids[0], ids[1], ids[2]}


def test_kinds_of_queries_by_hand(tmp_path: Path) -> None:
    # Songs 0 to 4, in 10, 6, 3, 1 and 0 playlists: half of the 20 plays is song 0.
    songs = Songs(pa.table({}), np.array([0, 0, 1, 2, 3], np.int32), np.array([10, 6, 3, 1, 0]))
    data = Data(tmp_path, songs, ragged([[0]]), 0, ordered=True)
    queries = Queries(
        ["a", "b", "c", "d"],
        [""] * 4,
        ragged([[1, 2], [4] * 12, [3, 4], [0, 1, 2]]),
        ragged([[0], [1], [3], [4]]),
    )
    found = {
        group: [next(name for name, chosen in members.items() if chosen[at]) for at in range(4)]
        for group, members in kinds(queries, data).items()
    }
    assert found["length of the query"] == ["1 to 4 songs", "10 to 19 songs"] + ["1 to 4 songs"] * 2
    assert [name.split(":")[0] for name in found["popularity of the label"]] == [
        "head",
        "middle",
        "tail",
        "not in the catalog",
    ]
    known = "songs of the query that the catalog knows"
    assert found[known] == ["all", "none", "up to half", "all"]
    assert found["artist of the label"] == [
        "is in the query",
        "is not in the query",
        "is in the query",
        "is not in the query",
    ]
    assert [name.split(":")[0] for name in found["last song of the query"]] == [
        "cool",
        "cold",
        "cold",
        "cool",
    ]


def test_each_query_is_of_exactly_one_kind_of_each_group(road: Road, data: Data) -> None:
    queries = load_queries(road.work, "validation", "last", 0)
    for group, members in kinds(queries, data).items():
        count = np.sum(list(members.values()), axis=0)
        assert (count == 1).all(), group
