"""Nasty files of every kind: each has its account, and no record is in it twice or not at all."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import ColumnError, FileError
from catalog.progress import SilentReporter
from ingest.sources.formats import delimited, json, json_stream
from ingest.sources.formats.json_blocks import Blocks
from ingest.sources.payload import parse_payload_columns
from ingest.sources.read import read_files
from ingest.sources.options import DEFAULT_OPTIONS, ReadOptions
from tests.support.corpus import BROKEN, CORPUS, Nasty, mpd, slice_of, tracks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Rows = list[dict[str, Any]]


def read(path: Path, given: Any = None, how: ReadOptions = DEFAULT_OPTIONS) -> tuple[Any, Rows, Rows]:
    rows, unreadable = path.with_name("rows.parquet"), path.with_name("unreadable.parquet")
    account = read_files([path], given or {}, rows, unreadable, SilentReporter(), how)
    return account, pq.read_table(rows).to_pylist(), pq.read_table(unreadable).to_pylist()


@pytest.mark.parametrize("nasty", CORPUS, ids=lambda nasty: nasty.name)
def test_a_nasty_file_has_its_account(nasty: Nasty, tmp_path: Path) -> None:
    path = tmp_path / "nasty"
    path.write_bytes(nasty.content)
    account, rows, unreadable = read(path, nasty.columns, nasty.how)
    assert {note.kind for note in account.notes} == {nasty.kind}
    reasons = Counter(re.split(":| fields", reject["reason"])[0] for reject in unreadable)
    assert reasons == nasty.rejects
    assert account.rows == len(rows) == nasty.rows
    assert account.unreadable == len(unreadable) == sum(nasty.rejects.values())
    if nasty.titles:
        assert tuple(str(row["title"]) for row in rows) == nasty.titles


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    content, message = BROKEN[name]
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize("nasty", CORPUS, ids=lambda nasty: nasty.name)
def test_blocks_and_steps_change_nothing(
    nasty: Nasty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nasty"
    path.write_bytes(nasty.content)
    _, *whole = read(path, nasty.columns, nasty.how)
    monkeypatch.setattr(delimited, "BLOCK", 7)
    monkeypatch.setattr(json, "LARGEST_DOCUMENT", 1)
    monkeypatch.setattr(json_stream, "STEP", 11)
    monkeypatch.setattr(json, "_ROWS", 2)
    _, *cut = read(path, nasty.columns, nasty.how)
    assert cut == whole


# Arrow and Python read the same.

VALUES = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.lists(st.text(max_size=2), max_size=2),
    st.dictionaries(st.sampled_from(["name", "a.b"]), st.text(max_size=2), max_size=1),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4)
SONGS = st.fixed_dictionaries(
    {"artist": NAMES, "title": NAMES},
    optional={"pos": st.integers(0, 9), "year": VALUES, "x": VALUES},
)
ODD_SONGS = st.fixed_dictionaries({"artist": VALUES, "title": VALUES}, optional={"pos": VALUES})
LISTS = st.lists(SONGS | ODD_SONGS | VALUES, max_size=4)
OBJECTS = st.lists(
    st.fixed_dictionaries({"pid": st.integers(0, 9), "tracks": LISTS | VALUES}), min_size=1
) | st.lists(SONGS.map(lambda song: {"pid": 1, **song}), min_size=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("objects") / "file"


@settings(deadline=None, max_examples=150)
@given(objects=OBJECTS, layout=st.sampled_from(["lines", "list", "slice"]), data=st.data())
def test_arrow_and_python_read_the_same(
    place: Path, objects: list[Any], layout: str, data: st.DataObject
) -> None:
    whole = {
        "lines": "\n".join(json.dumps(one) for one in objects),
        "list": json.dumps(objects),
        "slice": json.dumps({"info": {}, "playlists": objects}, indent=1),
    }[layout]
    place.write_text(whole)
    extra = parse_payload_columns(data.draw(st.sampled_from([(), ("year",), ("year:keyword",)])))
    how = ReadOptions(format="jsonl" if layout == "lines" else "json", payload=extra)
    try:
        account, *fast = read(place, {}, how)
    except (FileError, ColumnError):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks, "_parsed", lambda *_, **__: None)
        again, *slow = read(place, {}, how)
    assert fast == slow
    assert account == again
    songs = [
        max(1, len(one["tracks"])) if isinstance(one.get("tracks"), list) else 1 for one in objects
    ]
    assert account.rows + account.unreadable == sum(songs)


@settings(deadline=None, max_examples=150)
@given(
    start=st.sampled_from(
        [b"{", b"[", b'{"playlists": [', b'[{"pid": 1, ', b"PK\x03\x04", b"BZh9"]
    ),
    parts=st.lists(
        st.sampled_from(
            [
                b'{"pid": 1, "artist": "a", "title": "b"}',
                json.dumps(slice_of(1, "x", "y")).encode(),
                json.dumps({"tracks": tracks("z")}).encode(),
                *(bytes([byte]) for byte in b'{}[],:"\n 1\\\xe9\0'),
            ]
        )
        | st.binary(max_size=3)
    ),
)
def test_anything_like_json_is_read_or_refused(
    place: Path, start: bytes, parts: list[bytes]
) -> None:
    place.write_bytes(start + b"".join(parts))
    try:
        account, rows, unreadable = read(place)
    except (FileError, ColumnError):
        return
    assert (account.rows, account.unreadable) == (len(rows), len(unreadable))


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(0, 10_000), flip=st.integers(0, 10_000), kind=st.sampled_from(["zip", "gz"]))
def test_a_damaged_archive_is_refused(place: Path, cut: int, flip: int, kind: str) -> None:
    content = next(
        one.content for one in CORPUS if one.name.startswith({"zip": "an arch", "gz": "gzip"}[kind])
    )
    damaged = bytearray(content[: max(1, len(content) - cut % len(content))])
    damaged[flip % len(damaged)] ^= 0x41
    place.write_bytes(bytes(damaged))
    try:
        account, *_ = read(place)
    except (FileError, ColumnError):
        return
    assert account.rows + account.unreadable > 0


def test_large_documents_are_read_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mpd.slice.0-999.json"
    playlists = [slice_of(pid, *"abcdefg") for pid in range(300)]
    path.write_bytes(mpd(*playlists))
    monkeypatch.setattr(json, "LARGEST_DOCUMENT", 1000)
    monkeypatch.setattr(json, "_ROWS", 100)
    _, rows, _ = read(path)
    assert [row["line"] for row in rows] == list(range(1, 2101))
    assert [row["playlist_id"] for row in rows[::7]] == [str(pid) for pid in range(300)]
    assert rows[8] == {
        "file": path.name,
        "line": 9,
        "playlist_id": "1",
        "playlist_name": "n1",
        "owner": None,
        "artist": "A",
        "title": "b",
        "position": 1.0,
        "track_id": "t:b",
    }
