"""Difficult files of every format: each record becomes exactly one row or reject."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import ColumnError, FileError
from ingest.sources.files import content
from ingest.sources.formats import json as json_format
from ingest.sources.formats import json_stream
from ingest.sources.options import ReadOptions
from ingest.sources.values.payload import parse_payload_columns
from tests.support.corpus import BROKEN, CORPUS, DifficultFile, mpd, slice_of, tracks
from tests.support.reading import read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_every_record_of_a_difficult_file_is_a_row_or_a_reject(
    file: DifficultFile, tmp_path: Path
) -> None:
    path = tmp_path / "difficult"
    path.write_bytes(file.content)
    account, rows, unreadable = read(path, file.columns, file.options)
    assert {note.kind for note in account.notes} == {file.kind}
    reasons = Counter(re.split(":| fields", reject["reason"])[0] for reject in unreadable)
    assert reasons == file.rejects
    assert account.rows == len(rows) == file.rows
    assert account.unreadable == len(unreadable) == sum(file.rejects.values())
    if file.titles:
        assert tuple(str(row["title"]) for row in rows) == file.titles


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    content, message = BROKEN[name]
    path.write_bytes(content)
    with pytest.raises((FileError, ColumnError), match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_small_blocks_and_steps_give_the_same_records(
    file: DifficultFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "difficult"
    path.write_bytes(file.content)
    _, *whole = read(path, file.columns, file.options)
    monkeypatch.setattr(content, "BLOCK_SIZE", 7)
    monkeypatch.setattr(json_stream, "STEP_SIZE", 11)
    monkeypatch.setattr(json_format, "BATCH_SIZE", 2)
    _, *cut = read(path, file.columns, file.options)
    assert cut == whole


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
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("objects") / "file"


@settings(max_examples=150)
@given(objects=OBJECTS, data=st.data())
def test_lines_lists_and_slices_of_the_same_objects_are_read_the_same(
    path: Path, objects: list[Any], data: st.DataObject
) -> None:
    payload = parse_payload_columns(data.draw(st.sampled_from([(), ("year",), ("year:keyword",)])))
    arrangements = {
        "jsonl": "\n".join(json.dumps(item) for item in objects),
        "json": json.dumps(objects),
        "mpd": json.dumps({"info": {}, "playlists": objects}, indent=1),
    }
    results = []
    for name, text in arrangements.items():
        path.write_text(text)
        options = ReadOptions(format=name, payload=payload)  # type: ignore[arg-type]
        try:
            account, rows, unreadable = read(path, {}, options)
        except (FileError, ColumnError) as error:
            results.append(type(error))
            continue
        songs = [
            max(1, len(item["tracks"])) if isinstance(item.get("tracks"), list) else 1
            for item in objects
        ]
        assert account.rows + account.unreadable == sum(songs)
        values = [{key: value for key, value in row.items() if key != "line"} for row in rows]
        results.append((values, [reject["reason"] for reject in unreadable]))
    assert results[0] == results[1] == results[2]


@settings(max_examples=150)
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
def test_text_like_json_is_read_or_refused(path: Path, start: bytes, parts: list[bytes]) -> None:
    path.write_bytes(start + b"".join(parts))
    try:
        account, rows, unreadable = read(path)
    except (FileError, ColumnError):
        return
    assert (account.rows, account.unreadable) == (len(rows), len(unreadable))


@settings(max_examples=60)
@given(cut=st.integers(0, 10_000), flip=st.integers(0, 10_000), kind=st.sampled_from(["zip", "gz"]))
def test_a_damaged_archive_is_refused(path: Path, cut: int, flip: int, kind: str) -> None:
    content = next(
        entry.content
        for entry in CORPUS
        if entry.name.startswith({"zip": "an arch", "gz": "gzip"}[kind])
    )
    damaged = bytearray(content[: max(1, len(content) - cut % len(content))])
    damaged[flip % len(damaged)] ^= 0x41
    path.write_bytes(bytes(damaged))
    try:
        account, *_ = read(path)
    except (FileError, ColumnError):
        return
    assert account.rows + account.unreadable > 0


def test_large_documents_are_read_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mpd.slice.0-999.json"
    playlists = [slice_of(pid, *"abcdefg") for pid in range(300)]
    path.write_bytes(mpd(*playlists))
    monkeypatch.setattr(json_stream, "STEP_SIZE", 1000)
    monkeypatch.setattr(json_format, "BATCH_SIZE", 100)
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
