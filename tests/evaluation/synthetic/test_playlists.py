import csv
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
import pytest

from catalog.errors import InputError, StorageError
from catalog.song import normalise
from evaluation.synthetic import names as invented_names
from evaluation.synthetic.playlists import COLUMNS, Playlists, Shape, generate, write_csv

SMALL = Shape(playlists=60, songs=200, genres=3, mean_length=8)


@pytest.fixture(scope="module")
def world() -> Playlists:
    return generate(Shape(), seed=1)


def arrays(playlists: Playlists) -> dict[str, list[object]]:
    return {name: value.tolist() for name, value in vars(playlists).items()}


def adjacent(playlists: Playlists) -> np.ndarray:
    """Return all pairs of songs that are adjacent in a playlist, shape (pairs, 2)."""
    within = np.ones(len(playlists.songs), bool)
    within[playlists.offsets[:-1]] = False
    at = np.flatnonzero(within)
    return np.stack([playlists.songs[at - 1], playlists.songs[at]], axis=1)


def test_the_seed_determines_the_playlists():
    first = arrays(generate(SMALL, seed=7))
    assert first == arrays(generate(SMALL, seed=7))
    other = arrays(generate(SMALL, seed=8))
    assert all(first[name] != other[name] for name in ("songs", "owner", "title", "artist_name"))


def test_shapes_types_and_ranges(world):
    playlists, songs = len(world.owner), len(world.title)
    assert (playlists, songs, len(world.genre_name)) == (8_000, 28_000, 12)
    assert world.offsets.dtype == np.int64
    assert world.offsets.shape == (playlists + 1,)
    assert world.offsets[0] == 0
    assert world.offsets[-1] == len(world.songs)
    assert np.diff(world.offsets).min() >= 1
    for array, size, limit in (
        (world.songs, len(world.songs), songs),
        (world.owner, playlists, len(world.user_id)),
        (world.genre, playlists, 12),
        (world.artist, songs, len(world.artist_name)),
        (world.album, songs, len(world.album_title)),
        (world.track, songs, 15),
        (world.artist_genre, len(world.artist_name), 12),
    ):
        assert array.dtype == np.int32
        assert array.shape == (size,)
        assert array.min() >= 0
        assert array.max() < limit
    assert len(world.playlist_name) == playlists


def test_an_album_has_one_artist_and_tracks_from_one_up(world):
    starts = np.flatnonzero(world.track == 1)
    assert np.array_equal(world.album[starts], np.arange(len(world.album_title)))
    same = np.diff(world.album) == 0
    assert (np.diff(world.track)[same] == 1).all()
    assert (np.diff(world.artist)[same] == 0).all()


def test_lengths_are_heavy_tailed(world):
    lengths = np.diff(world.offsets)
    assert 200_000 <= lengths.sum() <= 300_000
    assert 20 <= lengths.mean() <= 40
    assert lengths.mean() > 1.4 * np.median(lengths)
    assert lengths.max() >= 300
    assert 0 < (lengths < 3).mean() < 0.08


def test_popularity_has_a_head_and_a_long_tail(world):
    counts = np.bincount(world.songs)
    counts = np.sort(counts[counts > 0])[::-1]
    assert 0.10 <= counts[: len(counts) // 100].sum() / counts.sum() <= 0.25
    assert 0.25 <= (counts < 3).mean() <= 0.40
    artists = np.sort(np.bincount(world.artist[world.songs]))[::-1]
    assert artists[: len(artists) // 100].sum() / artists.sum() >= 0.10
    # Under a power law, the most popular artists are close to a line on logarithmic axes.
    ranks = np.log(np.arange(3, 300))
    heights = np.log(artists[3:300])
    assert np.corrcoef(ranks, heights)[0, 1] < -0.97


def test_albums_continue_and_artists_recur(world):
    before, after = adjacent(world).T
    shuffled = np.random.default_rng(0).permutation(after)

    def next_track(song: np.ndarray) -> float:
        return float(((song == before + 1) & (world.album[song] == world.album[before])).mean())

    def same_artist(song: np.ndarray) -> float:
        return float((world.artist[song] == world.artist[before]).mean())

    assert next_track(after) > max(0.08, 20 * next_track(shuffled))
    assert same_artist(after) > max(0.15, 10 * same_artist(shuffled))


def test_few_songs_occur_twice_in_a_playlist(world):
    playlist = np.repeat(np.arange(len(world.owner)), np.diff(world.offsets))
    different = len(np.unique(playlist * len(world.title) + world.songs))
    assert 0.001 < 1 - different / len(world.songs) < 0.04


def test_playlists_of_an_owner_share_artists(world):
    def shared(first: int, second: int) -> float:
        first_artists, second_artists = (
            set(world.artist[world.songs[world.offsets[i] : world.offsets[i + 1]]].tolist())
            for i in (first, second)
        )
        return len(first_artists & second_artists) / min(len(first_artists), len(second_artists))

    own = [i for i in range(2_000) if world.owner[i] == world.owner[i + 1]]
    same = np.mean([shared(i, i + 1) for i in own])
    different = np.mean([shared(i, (i + 4_000) % 8_000) for i in own])
    assert same > 4 * different


def test_normalised_names_are_unique(world):
    artists = [normalise(name) for name in world.artist_name.to_pylist()]
    assert len(set(artists)) == len(artists)
    titles = [normalise(title) for title in world.title.to_pylist()]
    assert len(set(zip(world.artist.tolist(), titles, strict=True))) == len(titles)
    names = list(zip(world.owner.tolist(), world.playlist_name.to_pylist(), strict=True))
    assert len(set(names)) == len(names)


def test_names_stay_unique_beyond_the_combinations_of_words():
    rng = np.random.default_rng(0)
    artists = invented_names.make_artist_names(300_000, rng)
    assert pc.count_distinct(pc.utf8_lower(artists)).as_py() == 300_000
    one_artist = np.zeros(60_000, np.int32)
    ordinal = np.arange(60_000)
    for titles in (
        invented_names.make_song_titles(one_artist, ordinal, artists, rng),
        invented_names.make_album_titles(one_artist, ordinal, rng),
        invented_names.make_playlist_names(one_artist, one_artist, ordinal, artists),
        invented_names.make_genre_names(60_000),
    ):
        assert pc.count_distinct(pc.utf8_lower(titles)).as_py() == 60_000


def test_names_have_marks_that_readers_must_handle(world):
    titles = world.title.to_pylist()
    for mark, low, high in (
        (",", 0.005, 0.1),
        ("'", 0.005, 0.15),
        ('"', 0.0005, 0.05),
        ("(feat. ", 0.005, 0.05),
    ):
        assert low < np.mean([mark in title for title in titles]) < high, mark
    assert 0.01 < np.mean([not title.isascii() for title in titles]) < 0.2
    assert any('"' in name for name in world.artist_name.to_pylist())
    texts = [*titles, *world.artist_name.to_pylist(), *world.playlist_name.to_pylist()]
    assert all(text == text.strip() and text and "  " not in text for text in texts)
    assert max(Counter(texts).values()) < len(texts) / 100


def test_the_csv_has_every_play_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.synthetic.playlists._ROWS_PER_CHUNK", 100)
    playlists = generate(Shape(playlists=200, songs=3_000, mean_length=12), seed=3)
    path = tmp_path / "playlists.csv"
    assert write_csv(playlists, path) == len(playlists.songs)
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert tuple(header) == COLUMNS
    expected = [
        [
            str(number),
            playlists.playlist_name[number].as_py(),
            playlists.user_id[int(playlists.owner[number])].as_py(),
            str(position),
            playlists.artist_name[int(playlists.artist[song])].as_py(),
            playlists.title[int(song)].as_py(),
            playlists.album_title[int(playlists.album[song])].as_py(),
        ]
        for number, (start, stop) in enumerate(pairwise(playlists.offsets))
        for position, song in enumerate(playlists.songs[start:stop], start=1)
    ]
    assert rows == expected
    assert path.read_bytes().startswith(b"playlist_id,playlist_name,user_id,position,artist,title")
    assert [file.name for file in tmp_path.iterdir()] == ["playlists.csv"]


def test_a_path_that_cannot_be_written_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        write_csv(generate(SMALL, 1), tmp_path / "missing" / "playlists.csv")


@pytest.mark.parametrize(
    "shape",
    [
        Shape(playlists=1),
        Shape(playlists=1, songs=1, genres=1),
        Shape(playlists=3, songs=50_000, mean_length=2),
        Shape(playlists=50, songs=4, genres=4, mean_length=40),
        Shape(playlists=50, songs=300, longest=1),
        Shape(playlists=50, songs=300, spread_of_length=0, artist_skew=0, song_skew=0),
        Shape(playlists=50, songs=300, near=0, favourite=0, same_artist=0, in_genre=0),
        Shape(
            playlists=50, songs=300, near=1, favourite=0, same_artist=0, in_genre=0, neighbours=0
        ),
        Shape(playlists=50, songs=300, album_run=1, album_stay=1, repeats=0),
        Shape(playlists=50, songs=30, genres=30, repeats=1),
    ],
    ids=repr,
)
def test_extreme_shapes_are_generated_and_written(shape, tmp_path):
    playlists = generate(shape, seed=0)
    lengths = np.diff(playlists.offsets)
    assert len(lengths) == shape.playlists
    assert 1 <= lengths.min() <= lengths.max() <= shape.longest
    assert 0 <= playlists.songs.min() <= playlists.songs.max() < shape.songs
    assert write_csv(playlists, tmp_path / "out.csv") == lengths.sum()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("playlists", 0),
        ("songs", -1),
        ("genres", 0),
        ("genres", 28_001),
        ("longest", 2.5),
        ("playlists", True),
        ("songs", "many"),
        ("mean_length", 0.5),
        ("mean_length", math.nan),
        ("neighbours", math.inf),
        ("repeats", 1.5),
        ("favourite", -0.1),
        ("favourite", 0.9),
    ],
)
def test_an_invalid_shape_is_refused_with_the_name_of_the_field(field, value):
    with pytest.raises(InputError, match=field):
        Shape(**{field: value})


def test_negative_seed_is_an_input_error():
    with pytest.raises(InputError, match="seed"):
        generate(SMALL, seed=-1)
