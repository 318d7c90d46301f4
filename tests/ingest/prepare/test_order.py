"""Detection of play order, and shuffling of playlists that are not in play order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import InputError
from ingest.parameters import Parameters
from ingest.prepare import order
from ingest.prepare import split as split_module

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.pipeline_runs import Lane


def measured(folder: Path, playlists: list[list[int]], artists: int = 10) -> order.Order:
    """Return the measured order of playlists, which are lists of song numbers.

    The title of song n is the number n in five digits. Its artist has the number n % artists. If
    `artists` is 0, songs have no artist.
    """
    songs = max(max(item) for item in playlists) + 1
    titles = [f"{n:05}" for n in range(songs)]
    names = [f"a{n % artists:03}" if artists else "" for n in range(songs)]
    table = {"title": titles, "title_key": titles, "artist": names, "artist_key": names}
    pq.write_table(pa.table(table), folder / "songs.parquet")
    lists = pa.array(playlists, pa.list_(pa.int32()))
    pq.write_table(pa.table({"songs": lists}), folder / "playlists.parquet")
    return order.measure_order(folder / "playlists.parquet", folder / "songs.parquet")


def draws(seed: int, playlists: int = 200, songs: int = 100, length: int = 20) -> list[list[int]]:
    chance = random.Random(seed)
    return [chance.sample(range(songs), length) for _ in range(playlists)]


def in_blocks(seed: int) -> list[list[int]]:
    """Return playlists that consist of blocks of five songs, in a fixed order within each block."""
    chance = random.Random(seed)
    return [
        [5 * block + step for block in chance.sample(range(20), 4) for step in (2, 0, 4, 1, 3)]
        for _ in range(200)
    ]


def test_items_without_an_artist_have_no_artist_in_common(tmp_path: Path) -> None:
    result = measured(tmp_path, draws(6, songs=20), artists=0)
    assert result.same_artist is None
    assert result.sorted["artist"] == 0
    assert "artist" not in result.text


def test_playlists_sorted_by_title_have_no_order(tmp_path: Path) -> None:
    result = measured(tmp_path, [sorted(item) for item in draws(1)])
    assert result.found == "none"
    assert result.sorted["title"] == 1.0
    assert result.text == "100% of playlists are sorted by title"


def test_descending_order_and_order_by_artist_are_detected(tmp_path: Path) -> None:
    playlists = [sorted(item, key=lambda n: -(n % 50)) for item in draws(2)]
    result = measured(tmp_path, playlists, artists=50)
    assert result.found == "none"
    assert "sorted by artist" in result.text


def test_a_few_sorted_playlists_are_not_enough(tmp_path: Path) -> None:
    alphabetical = [sorted(item) for item in draws(3, playlists=20)]
    result = measured(tmp_path, [*alphabetical, *in_blocks(3)], artists=97)
    assert result.found == "played"
    assert 0 < result.sorted["title"] < 0.5


def test_shuffled_playlists_have_no_order(tmp_path: Path) -> None:
    result = measured(tmp_path, draws(4))
    assert result.found == "none"
    assert result.text.startswith("as if shuffled")
    assert result.recurring == pytest.approx(1, abs=0.1)
    assert result.same_artist == pytest.approx(1, abs=0.1)


def test_recurring_neighbours_mean_play_order(tmp_path: Path) -> None:
    result = measured(tmp_path, in_blocks(5), artists=97)
    assert result.found == "played"
    assert result.recurring > 2
    assert result.sorted["title"] == 0


def test_consecutive_songs_of_an_artist_mean_play_order(tmp_path: Path) -> None:
    chance = random.Random(6)
    playlists = []
    for item in draws(6, songs=10_000):
        groups = sorted({n % 10 for n in item}, key=lambda _: chance.random())
        playlists.append([n for group in groups for n in item if n % 10 == group])
    result = measured(tmp_path, playlists)
    assert result.found == "played"
    assert result.same_artist > 2


@pytest.mark.parametrize(
    "playlists", [draws(7, playlists=3), [[0, 1, 2]] * 50, draws(8, playlists=30, songs=9_000)]
)
def test_too_little_data_counts_as_played(tmp_path: Path, playlists: list[list[int]]) -> None:
    result = measured(tmp_path, playlists, artists=9_000)
    assert result.found == "played"
    assert result.text.startswith("too ")


def test_large_data_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "SAMPLED_PLAYS", 1000)
    result = measured(tmp_path, [sorted(item) for item in draws(9)])
    assert result.playlists == 50
    assert result.found == "none"


# Parameters that depend on the detected play order.


def test_parameters_without_an_order_are_neutral() -> None:
    given = Parameters(distance_power=2.0, backward=0.25)
    assert given.with_order("played") == Parameters(
        distance_power=2.0, backward=0.25, order="played"
    )
    loose = given.with_order("none")
    assert (loose.distance_power, loose.backward, loose.recency) == (0.0, 1.0, 0.0)
    assert loose.order == "none"
    told = given.with_order("none", ["backward", "seed"])
    assert (told.distance_power, told.backward, told.dense_recency) == (0.0, 0.25, 0.0)
    assert Parameters(order="played").with_order("none") == Parameters(order="played")
    assert Parameters(order="none").with_order("played").distance_power == 0.0
    with pytest.raises(InputError, match="auto or played or none"):
        Parameters(order="sorted")


def splits_of(
    folder: Path, order_of: str, seed: int = 0, *, numbers: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """Split 60 playlists of 36 songs; return the playlists of all splits, sorted by id.

    `numbers` maps the songs to other song numbers.
    """
    folder.mkdir(exist_ok=True)
    numbers = numbers or {song: song for song in range(36)}
    rows = [
        {
            "playlist_id": f"p{n}",
            "name": "",
            "owner": "",
            "songs": [numbers[song] for song in range(n % 7, n % 7 + 30)],
        }
        for n in range(60)
    ]
    songs = {number: f"id of {song}" for song, number in numbers.items()}
    ids = [songs.get(number, "of another") for number in range(max(songs) + 1)]
    pq.write_table(pa.table({"song": range(len(ids)), "song_id": ids}), folder / "songs.parquet")
    schema = pa.schema(
        [(name, pa.string()) for name in ("playlist_id", "name", "owner")]
        + [("songs", pa.list_(pa.int32()))]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "playlists.parquet")
    split_module.split(folder / "playlists.parquet", folder, seed, order_of, SilentReporter())
    names = ("train", "validation", "test")
    result = [
        item for name in names for item in pq.read_table(folder / f"{name}.parquet").to_pylist()
    ]
    return sorted(result, key=lambda item: int(item["playlist_id"][1:]))


def test_playlists_without_an_order_are_shuffled(tmp_path: Path) -> None:
    played = splits_of(tmp_path / "played", "played")
    shuffled = splits_of(tmp_path / "none", "none")
    assert [sorted(item["songs"]) for item in shuffled] == [item["songs"] for item in played]
    assert all(item["songs"] != sorted(item["songs"]) for item in shuffled)
    # The random order differs between playlists with the same songs, is reproducible, and depends
    # on the seed.
    assert shuffled[0]["songs"] != shuffled[7]["songs"]
    assert splits_of(tmp_path / "none", "none") == shuffled
    assert splits_of(tmp_path / "none", "none", seed=1) != shuffled
    last = [item["songs"][-1] - item["songs"][0] for item in shuffled]
    assert any(step < 0 for step in last)
    assert any(step > 0 for step in last)
    schema = pq.read_schema(tmp_path / "none" / "train.parquet")
    assert schema.equals(pq.read_schema(tmp_path / "played" / "train.parquet"))


@pytest.mark.parametrize("at_a_time", [1, 100, 1 << 21])
def test_the_shuffle_does_not_depend_on_song_numbers(
    tmp_path: Path, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_module, "_SHUFFLED_PLAYS", at_a_time)
    before = splits_of(tmp_path / "before", "none")
    shifted = {song: song * 2 + 3 for song in range(36)}
    after = splits_of(tmp_path / "after", "none", numbers=shifted)
    assert [item["songs"] for item in after] == [
        [shifted[song] for song in item["songs"]] for item in before
    ]


def test_a_shuffled_song_can_be_at_any_position(tmp_path: Path) -> None:
    lists = [item["songs"] for item in splits_of(tmp_path, "none")]
    places = [songs.index(20) for songs in lists]
    assert len(set(places)) > 15
    assert 10 < sum(places) / len(places) < 19


def test_a_run_on_sorted_playlists(quick: Lane, tmp_path: Path) -> None:
    rows = []
    for playlist, songs in enumerate(draws(10, playlists=120, songs=60, length=8)):
        rows += [f"{playlist},Artist {song % 9},{song:03}" for song in sorted(songs)]
    quick.file = tmp_path / "sorted.csv"
    quick.file.write_text("\n".join(["pid,artist,title", *rows]) + "\n")
    outcome = quick.run()
    parameters = outcome.manifest.origin.parameters
    assert parameters["order"] == "none"
    assert (parameters["recency"], parameters["dense_recency"]) == (0.0, 0.0)
    assert not {"recency", "dense_recency"} & {
        trial.parameter for trial in outcome.stages.choose.summary.trials
    }
    assert outcome.stages.split.summary.order == "none"
    first = outcome.manifest.origin.split_fingerprint
    told = quick.run(order="played")
    assert quick.listener.done == ["split", "count", "train", "choose", "publish"]
    assert told.manifest.origin.parameters["order"] == "played"
    assert "recency" in {trial.parameter for trial in told.stages.choose.summary.trials}
    assert told.manifest.origin.split_fingerprint != first
