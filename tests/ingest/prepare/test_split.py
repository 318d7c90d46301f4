"""The split of playlists, which depends only on playlist ids and the seed."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.console.progress import SilentReporter
from catalog.errors import PlaylistError
from ingest.prepare.split import BOUNDS, SplitSummary, split

SCHEMA = pa.schema(
    [
        ("playlist_id", pa.string()),
        ("name", pa.string()),
        ("owner", pa.string()),
        ("songs", pa.list_(pa.int32())),
    ]
)


def playlists(ids: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "playlist_id": playlist_id,
            "name": f"of {playlist_id}",
            "owner": "u",
            "songs": [len(playlist_id), number],
        }
        for number, playlist_id in enumerate(ids)
    ]


def splits(
    folder: Path, rows: list[dict[str, Any]], seed: int = 0, order: str = "played"
) -> tuple[SplitSummary, dict[str, list[dict[str, Any]]]]:
    """Split the playlists `rows`. Return the summary and the playlists of each split."""
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "playlists.parquet")
    summary = split(folder / "playlists.parquet", folder, seed, order, SilentReporter())
    result = {name: pq.read_table(folder / f"{name}.parquet") for name in BOUNDS}
    assert all(table.schema.names == SCHEMA.names for table in result.values())
    return summary, {name: table.to_pylist() for name, table in result.items()}


def split_names(folder: Path, ids: list[str], seed: int = 0) -> dict[str, str]:
    """Return the name of the split of each playlist id."""
    _, result = splits(folder, playlists(ids), seed)
    return {row["playlist_id"]: name for name, rows in result.items() for row in rows}


def by_hand(playlist: str, seed: int) -> str:
    """Return the split of a playlist, computed in plain Python from the definition of splits."""
    digest = hashlib.md5(f"{seed}:{playlist}".encode()).digest()
    share = int.from_bytes(digest[8:], "little") / 2**64
    return "train" if share < 0.7 else "validation" if share < 0.9 else "test"


def test_the_whole_range_belongs_to_a_split() -> None:
    assert list(BOUNDS) == ["train", "validation", "test"]
    lows, highs = zip(*BOUNDS.values(), strict=True)
    assert lows == (0.0, *highs[:-1])
    assert highs[-1] == 1.0


def test_the_split_is_pinned(tmp_path: Path) -> None:
    # If these splits change, the next run of a user trains on former test playlists.
    assert split_names(tmp_path, [str(number) for number in range(12)] + ["日本"], seed=0) == {
        "0": "train",
        "1": "train",
        "10": "train",
        "11": "validation",
        "2": "train",
        "3": "validation",
        "4": "train",
        "5": "train",
        "6": "train",
        "7": "train",
        "8": "train",
        "9": "test",
        "日本": "train",
    }
    assert split_names(tmp_path, [str(number) for number in range(6)], seed=1) == {
        "0": "train",
        "1": "train",
        "2": "train",
        "3": "train",
        "4": "validation",
        "5": "train",
    }


def test_the_shares_of_the_splits(tmp_path: Path) -> None:
    summary, result = splits(tmp_path, playlists([f"playlist {i}" for i in range(5_000)]))
    counts = {name: len(rows) for name, rows in result.items()}
    assert counts["train"] == pytest.approx(3_500, abs=130)  # tolerance: 4 standard deviations
    assert counts["validation"] == pytest.approx(1_000, abs=113)
    assert counts["test"] == pytest.approx(500, abs=85)
    assert {name: getattr(summary, name) for name in BOUNDS} == counts
    assert summary.text == (
        f"train {counts['train']:,}, validation {counts['validation']:,}, "
        f"test {counts['test']:,} playlists"
    )


def test_nothing_is_lost_or_in_two_splits(tmp_path: Path) -> None:
    rows = playlists([f"{i:04}" for i in range(1_000)])
    _, result = splits(tmp_path, rows)
    together = [row for part in result.values() for row in part]
    assert sorted(together, key=lambda row: row["playlist_id"]) == rows
    for part in result.values():
        ids = [row["playlist_id"] for row in part]
        assert ids == sorted(ids)


def test_another_seed_makes_another_split(tmp_path: Path) -> None:
    ids = [f"playlist {i}" for i in range(2_000)]
    first, second = split_names(tmp_path, ids, seed=0), split_names(tmp_path, ids, seed=1)
    same = sum(first[item] == second[item] for item in ids) / len(ids)
    # Expected share of playlists that are in the same split by chance.
    assert same == pytest.approx(0.7**2 + 0.2**2 + 0.1**2, abs=0.05)


def test_a_digit_of_the_seed_is_not_confused_with_one_of_the_id(tmp_path: Path) -> None:
    ids = [f"{i}" for i in range(300)]
    digit_in_id = split_names(tmp_path, [f"1{item}" for item in ids], seed=1)
    digit_in_seed = split_names(tmp_path, ids, seed=11)
    assert [digit_in_id[f"1{item}"] for item in ids] != [digit_in_seed[item] for item in ids]


playlist_ids = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=30)
@given(
    ids=st.sets(playlist_ids, min_size=1, max_size=60),
    seed=st.integers(0, 2**31 - 1),
    chance=st.randoms(use_true_random=False),
)
def test_the_split_depends_only_on_id_and_seed(
    ids: set[str], seed: int, chance: random.Random
) -> None:
    ordered = sorted(ids)
    chance.shuffle(ordered)
    expected = {item: by_hand(item, seed) for item in ordered}
    with TemporaryDirectory() as name:
        if "train" in expected.values():
            assert split_names(Path(name), ordered, seed) == expected
        else:
            with pytest.raises(PlaylistError):
                split_names(Path(name), ordered, seed)


def test_other_playlists_and_their_order_do_not_matter(tmp_path: Path) -> None:
    ids = [f"playlist {i}" for i in range(500)]
    everything = split_names(tmp_path, ids)
    few = ids[::7]
    random.Random(0).shuffle(few)
    assert split_names(tmp_path, few) == {item: everything[item] for item in few}


def test_the_songs_do_not_matter(tmp_path: Path) -> None:
    ids = [f"playlist {i}" for i in range(200)]
    rows = [{"playlist_id": item, "name": "", "owner": "", "songs": [1]} for item in ids]
    _, result = splits(tmp_path, rows)
    assert {
        row["playlist_id"]: name for name, part in result.items() for row in part
    } == split_names(tmp_path, ids)


def test_few_playlists_may_leave_test_empty(tmp_path: Path) -> None:
    (train,) = [item for item in ("a", "b", "c", "d") if by_hand(item, 0) == "train"][:1]
    summary, result = splits(tmp_path, playlists([train]))
    assert [len(rows) for rows in result.values()] == [1, 0, 0]
    assert summary.text == "train 1, validation 0, test 0 playlists"


def test_no_training_playlist_is_an_error(tmp_path: Path) -> None:
    others = [item for item in map(str, range(40)) if by_hand(item, 5) != "train"]
    with pytest.raises(PlaylistError) as caught:
        splits(tmp_path, playlists(others), seed=5)
    assert f"no training playlist among {len(others)} playlists with --seed 5" in str(caught.value)


def test_the_name_of_the_folder_may_have_quotes_and_wildcards(tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] *?"
    folder.mkdir()
    assert set(split_names(folder, [str(i) for i in range(20)])) == {str(i) for i in range(20)}
