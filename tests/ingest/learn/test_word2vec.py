"""Training of Word2Vec: the text file of playlists, and the vectors of songs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import StorageError
from ingest.learn.word2vec import TrainSummary, train_vectors, train_word2vec, write_corpus
from ingest.parameters import Parameters
from ingest.sql import connect

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PARAMETERS = Parameters(dimensions=8, epochs=3, min_count=1, window=5, workers=1)


def write_playlists(
    folder: Path, playlists: list[list[int]], rows_per_group: int = 100_000
) -> Path:
    table = pa.table(
        {
            "playlist_id": [f"{i:06}" for i in range(len(playlists))],
            "songs": pa.array(playlists, pa.list_(pa.int32())),
        }
    )
    path = folder / "train.parquet"
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def corpus_of(
    folder: Path, playlists: list[list[int]], rows_per_group: int = 100_000, window: int = 0
) -> str:
    path = write_playlists(folder, playlists, rows_per_group)
    with connect(folder) as sql:
        write_corpus(sql, path, folder / "tests.support.corpus.txt", window)
    return (folder / "tests.support.corpus.txt").read_text()


def trained(
    folder: Path, playlists: list[list[int]], parameters: Parameters = PARAMETERS
) -> tuple[TrainSummary, pa.Table]:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    summary = train_word2vec(write_playlists(folder, playlists), out, parameters, SilentReporter())
    assert [path.name for path in out.iterdir()] == ["vectors.parquet"]
    return summary, pq.read_table(out / "vectors.parquet")


def vectors_in(table: pa.Table) -> NDArray[np.float32]:
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    vectors: NDArray[np.float32] = flat.reshape(table.num_rows, -1)
    return vectors


def two_groups(count: int = 200) -> list[list[int]]:
    """Return playlists of 10 random songs from 0 to 39. Each has only even or only odd songs."""
    random = np.random.default_rng(0)
    return [(2 * random.choice(20, 10, replace=False) + turn % 2).tolist() for turn in range(count)]


# Text file of playlists.


def test_a_playlist_is_a_line(tmp_path: Path) -> None:
    assert corpus_of(tmp_path, [[3, 1, 2], [40], [0, 12345678]]) == "3 1 2\n40\n0 12345678\n"


def test_an_empty_playlist_has_no_line(tmp_path: Path) -> None:
    assert corpus_of(tmp_path, [[1, 2], [], [3]]) == "1 2\n3\n"


@pytest.mark.parametrize(
    ("length", "lines"),
    [
        (9_999, [9_999]),
        (10_000, [10_000]),
        (10_001, [10_000, 1]),
        (25_000, [10_000, 10_000, 5_000]),
    ],
)
def test_a_playlist_too_long_for_gensim_is_written_as_several_lines(
    tmp_path: Path, length: int, lines: list[int]
) -> None:
    text = corpus_of(tmp_path, [list(range(length)), [99_999, 5]])
    result = sorted([int(song) for song in line.split(" ")] for line in text.splitlines())
    assert [len(line) for line in result] == [*lines, 2]
    assert [song for line in result[:-1] for song in line] == list(range(length))


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001, 10_040, 19_950, 19_951, 25_000])
def test_the_lines_of_a_long_playlist_overlap_by_one_window(tmp_path: Path, length: int) -> None:
    text = corpus_of(tmp_path, [list(range(length))], window=50)
    lines = [[int(song) for song in line.split(" ")] for line in text.splitlines()]
    assert max(map(len, lines)) <= 10_000
    assert sorted({song for line in lines for song in line}) == list(range(length))
    assert all(line == list(range(line[0], line[-1] + 1)) for line in lines)
    assert [later[0] for later in lines[1:]] == [line[-1] - 49 for line in lines[:-1]]


def many(count: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 1_000, random.integers(1, 9)).tolist() for _ in range(count)]


def as_text(playlists: list[list[int]]) -> str:
    return "".join(" ".join(map(str, songs)) + "\n" for songs in playlists)


def test_all_playlists_are_written(tmp_path: Path) -> None:
    playlists = many(20_000)
    text = corpus_of(tmp_path, playlists, rows_per_group=2_048)
    assert sorted(text.splitlines()) == sorted(as_text(playlists).splitlines())


def test_playlists_are_written_in_their_order(tmp_path: Path) -> None:
    # Although DuckDB writes with several threads, the order must not vary. Otherwise, training with
    # one worker would not be reproducible.
    playlists = [*many(20_000), list(range(10_000)), list(range(10_000, 15_000))]
    together = [*playlists[:-2], list(range(15_000))]
    assert corpus_of(tmp_path, together, rows_per_group=2_048) == as_text(playlists)


def test_a_corpus_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_playlists(tmp_path, [[1, 2]])
    with pytest.raises(StorageError, match="cannot work in"), connect(tmp_path) as sql:
        write_corpus(sql, path, tmp_path / "none" / "tests.support.corpus.txt", 5)


# Song vectors.


def test_the_summary_of_four_playlists(tmp_path: Path) -> None:
    playlists = [[5, 2, 9], [2, 5], [5, 7], [5]]
    summary, table = trained(tmp_path, playlists, replace(PARAMETERS, min_count=2))
    assert table["song"].to_pylist() == [2, 5]
    assert {name: value for name, value in vars(summary).items() if name != "text"} == {
        "songs": 2,
        "plays": 8,
        "most": 4,
        "epochs": 3,
        "window": 5,
    }
    assert summary.text == "2 song vectors of 8 numbers, 3 epochs over 8 plays"


@pytest.mark.parametrize("min_count", [1, 2, 3, 4])
def test_rare_songs_are_left_out(tmp_path: Path, min_count: int) -> None:
    playlists = [list(range(i)) for i in range(1, 5)]  # song i is in 4 - i playlists
    _, table = trained(tmp_path, playlists, replace(PARAMETERS, min_count=min_count))
    assert table["song"].to_pylist() == list(range(5 - min_count))


def test_the_types_of_the_table(tmp_path: Path) -> None:
    _, table = trained(tmp_path, [[1, 2], [2, 1]])
    assert table.schema.names == ["song", "vector"]
    assert table.schema.field("song").type == pa.int32()
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 8)


@pytest.mark.parametrize(
    "changes", [{}, {"skip_gram": False}, {"ns_exponent": -0.5}, {"sample": 1e-3}]
)
def test_vectors_have_unit_length(tmp_path: Path, changes: dict[str, Any]) -> None:
    _, table = trained(tmp_path, two_groups(), replace(PARAMETERS, **changes))
    assert table["song"].to_pylist() == list(range(40))
    np.testing.assert_allclose(np.linalg.norm(vectors_in(table), axis=1), 1.0, atol=1e-6)


def test_one_worker_gives_the_same_vectors_twice(tmp_path: Path) -> None:
    _, first = trained(tmp_path, two_groups())
    _, second = trained(tmp_path, two_groups())
    assert second.equals(first)


def test_another_seed_gives_other_vectors(tmp_path: Path) -> None:
    _, first = trained(tmp_path, two_groups())
    _, second = trained(tmp_path, two_groups(), replace(PARAMETERS, seed=1))
    assert second["song"].equals(first["song"])
    assert not np.allclose(vectors_in(second), vectors_in(first), atol=1e-3)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("skip_gram", [True, False])
def test_songs_that_share_playlists_have_similar_vectors(
    tmp_path: Path, workers: int, skip_gram: bool
) -> None:
    parameters = replace(PARAMETERS, epochs=20, workers=workers, skip_gram=skip_gram)
    _, table = trained(tmp_path, two_groups(400), parameters)
    vectors = vectors_in(table)
    similar = vectors @ vectors.T
    same = np.add.outer(np.arange(40), np.arange(40)) % 2 == 0
    within = similar[same & ~np.eye(40, dtype=bool)]
    between = similar[~same]
    assert within.mean() > between.mean() + 0.3
    # The most similar song of a song is in the same group. With two threads, the vectors vary from
    # run to run, so a few songs may be exceptions.
    np.fill_diagonal(similar, -2)
    is_in_group = similar.argmax(axis=1) % 2 == np.arange(40) % 2
    assert is_in_group.mean() >= (1.0 if workers == 1 else 0.9)


def test_vectors_belong_to_their_songs(tmp_path: Path) -> None:
    # The same playlists with random song numbers: similar songs must still be in the same group.
    numbers = np.random.default_rng(1).permutation(1_000)[:40]
    playlists = [[int(numbers[song]) for song in songs] for songs in two_groups(400)]
    _, table = trained(tmp_path, playlists, replace(PARAMETERS, epochs=20))
    songs = table["song"].to_pylist()
    assert songs == sorted(numbers.tolist())
    group = np.array([np.flatnonzero(numbers == song)[0] % 2 for song in songs])
    similar = vectors_in(table) @ vectors_in(table).T
    np.fill_diagonal(similar, -2)
    assert (group[similar.argmax(axis=1)] == group).all()


def test_all_songs_of_a_long_playlist_get_a_vector(tmp_path: Path) -> None:
    _, table = trained(
        tmp_path, [list(range(25_000))], replace(PARAMETERS, dimensions=2, epochs=1, window=1)
    )
    assert table["song"].to_pylist() == list(range(25_000))


def test_there_are_no_vectors_if_no_song_reaches_min_count(tmp_path: Path) -> None:
    summary, table = trained(tmp_path, [[1, 2], [2, 3], [2]], replace(PARAMETERS, min_count=4))
    assert (summary.songs, summary.most, table.num_rows) == (0, 3, 0)
    assert "no song is in 4 training playlists or more (the most is 3)" in summary.text
    assert table.schema.field("vector").type.list_size == PARAMETERS.dimensions


def test_each_epoch_is_reported(tmp_path: Path) -> None:
    corpus_of(tmp_path, two_groups())
    epochs: list[tuple[float, float]] = []
    songs, vectors = train_vectors(
        tmp_path / "tests.support.corpus.txt",
        4,
        PARAMETERS,
        lambda done, total: epochs.append((done, total)),
    )
    assert epochs == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert songs.dtype == np.dtype(np.int32)
    assert vectors.dtype == np.dtype(np.float32)
    assert vectors.shape == (40, 8)


def test_training_without_a_progress_callback(tmp_path: Path) -> None:
    corpus_of(tmp_path, two_groups())
    songs, _ = train_vectors(tmp_path / "tests.support.corpus.txt", 1, PARAMETERS)
    assert songs.tolist() == list(range(40))


@pytest.mark.parametrize(
    ("plays", "epochs"),
    [
        (0, 15),
        (1, 15),
        (100_000, 15),
        (200_000, 8),
        (750_000, 2),
        (1_500_000, 1),
        (9_000_000, 1),
        (10**9, 1),
    ],
)
def test_small_data_is_trained_for_more_epochs(plays: int, epochs: int) -> None:
    assert Parameters().epochs_for(plays) == epochs
    assert replace(PARAMETERS, epochs=17).epochs_for(plays) == 17


@pytest.mark.parametrize(
    ("plays", "window"),
    [(0, 60), (3_000_000, 60), (4_500_000, 40), (20_000_000, 10), (10**9, 10)],
)
def test_the_window_narrows_for_large_data(plays: int, window: int) -> None:
    assert Parameters().window_for(plays) == window
    assert Parameters(window=200).window_for(plays) == 200
