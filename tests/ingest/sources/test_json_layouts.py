"""Layouts of JSON files: several documents, nested lists of songs, and keys after the sample."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.errors import ColumnError, FileError
from ingest.sources.files import content
from ingest.sources.formats import json_stream
from ingest.sources.read import read_files
from tests.support.corpus import mpd, slice_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.sources.account import ReadAccount

    Read = Callable[..., tuple[ReadAccount, list[dict[str, Any]]]]


def songs(*titles: str) -> list[dict[str, str]]:
    return [{"artist": "A", "title": title} for title in titles]


def objects(*titles: str, pid: int = 1) -> list[dict[str, Any]]:
    return [{"pid": pid, **song} for song in songs(*titles)]


def track(title: str) -> dict[str, Any]:
    """Return a track in the format of the Spotify API."""
    return {
        "added_at": "2020-01-01T00:00:00Z",
        "added_by": {"id": "u"},
        "track": {
            "album": {
                "artists": [{"name": "Various", "id": "v"}],
                "id": "album",
                "name": "An album",
                "uri": "album:1",
            },
            "artists": [{"name": "A", "id": "a"}, {"name": "B", "id": "b"}],
            "id": f"id-{title}",
            "name": title,
            "track": True,
            "uri": f"track:{title}",
        },
    }


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(content: Any, given: Any = None) -> tuple[ReadAccount, list[dict[str, Any]]]:
        text = content if isinstance(content, str | bytes) else json.dumps(content, indent=1)
        path = tmp_path / "file.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        rows = tmp_path / "rows"
        account = read_files([path], given or {}, rows, tmp_path / "unreadable", SilentReporter())
        return account, pq.read_table(rows).to_pylist()

    return read


def titles(rows: list[dict[str, Any]], role: str = "playlist_id") -> dict[str, str]:
    """Return the titles of the rows with each value of `role`, joined into one string, by value."""
    result: dict[str, str] = {}
    for row in rows:
        result[row[role]] = result.get(row[role], "") + row["title"]
    return result


# Several documents, and text after a document.


@pytest.mark.parametrize("between", ["", "\n", " \r\n\n", "\ufeff"])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_all_of_several_concatenated_slices_are_read(
    read: Read, between: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "STEP_SIZE", step)
    first, second = mpd(slice_of(1, "a", "b")), mpd(slice_of(2, "c"), slice_of(3, "d"))
    account, rows = read(first + between.encode() + second)
    assert titles(rows) == {"1": "ab", "2": "c", "3": "d"}
    assert [row["line"] for row in rows] == [1, 2, 3, 4]
    assert account.notes[0].kind == "Million Playlist Dataset"


def test_all_of_several_concatenated_lists_are_read(read: Read) -> None:
    _, rows = read(json.dumps(objects("a", "b")) + "\n" + json.dumps(objects("c", pid=2)))
    assert titles(rows) == {"1": "ab", "2": "c"}


def test_concatenated_objects_are_rows(read: Read) -> None:
    _, rows = read("".join(json.dumps(item, indent=1) for item in objects("a", "b", "c")))
    assert titles(rows) == {"1": "abc"}


def test_all_of_several_concatenated_playlists_are_read(read: Read) -> None:
    documents = [{"name": name, "tracks": songs(*name)} for name in ("ab", "cd")]
    _, rows = read("\n".join(json.dumps(item, indent=1) for item in documents))
    assert titles(rows, "playlist_name") == {"ab": "ab", "cd": "cd"}


@pytest.mark.parametrize("tail", ["garbage", "]", "}", ", 1", "\0\0", '{"more": 1}', '{"more": [{'])
@pytest.mark.parametrize("first", [objects("a", "b"), {"playlists": [slice_of(1, "a")]}], ids=len)
def test_other_text_after_a_document_is_refused(read: Read, first: Any, tail: str) -> None:
    with pytest.raises(FileError, match=r"not valid JSON|no list|cut short"):
        read(json.dumps(first, indent=1) + tail)


def test_the_rest_of_an_object_is_read_to_its_end(read: Read) -> None:
    whole = json.dumps({"playlists": [slice_of(1, "a")], "next": {"page": [1, 2]}}, indent=1)
    assert len(read(whole)[1]) == 1
    with pytest.raises(FileError, match="cut short"):
        read(whole[:-3])


def test_a_list_deep_in_an_object_is_found(read: Read) -> None:
    _, rows = read({"data": {"me": {"playlists": [slice_of(1, "a"), slice_of(2, "b")]}}})
    assert titles(rows) == {"1": "a", "2": "b"}


# Choice of the list that contains the songs.


@pytest.mark.parametrize("indent", [None, 1])
def test_several_named_lists_of_songs_are_refused(read: Read, indent: int | None) -> None:
    document = {"version": 1, "Rock": songs("a", "b"), "Pop": songs("c", "d")}
    with pytest.raises(FileError, match=r"several lists of songs: 'Rock', 'Pop': keep only"):
        read(json.dumps(document, indent=indent))


def test_several_lists_of_songs_in_each_object_are_refused_by_name(read: Read) -> None:
    lines = [{"pid": pid, "tracks": songs("a"), "songs": songs("b")} for pid in range(2)]
    with pytest.raises(FileError, match="several lists of songs: 'tracks', 'songs'"):
        read("\n".join(map(json.dumps, lines)))


def test_remark_about_a_second_list_of_songs(read: Read) -> None:
    account, rows = read([{"pid": 1, "suggested": songs("x", "y", "z"), "tracks": songs("a")}])
    assert titles(rows) == {"1": "a"}
    assert account.notes[0].remarks == ("not read: 'suggested'",)


def test_several_lists_of_playlists_are_refused_by_name(read: Read) -> None:
    lists = {name: [{"id": name, "tracks": songs("a")}] for name in ("mine", "followed")}
    with pytest.raises(FileError, match="several lists of playlists: 'mine', 'followed'"):
        read(lists)


def test_remark_about_a_list_in_addition_to_the_playlists(read: Read) -> None:
    account, rows = read({"playlists": [slice_of(1, "a")], "liked": songs("x")})
    assert len(rows) == 1
    assert account.notes[0].remarks == ("not read: 'liked'",)


@pytest.mark.parametrize("key", ["rows", "songs", "tracks", "data"])
@pytest.mark.parametrize("indent", [None, 1])
def test_songs_that_name_their_playlist_are_rows(read: Read, key: str, indent: int | None) -> None:
    rows_of = [*objects("a", "b", pid=1), *objects("c", "d", pid=2)]
    _, rows = read(json.dumps({"version": 1, "name": "an export", key: rows_of}, indent=indent))
    assert titles(rows) == {"1": "ab", "2": "cd"}
    assert {row["position"] for row in rows} == {None}


def test_pages_of_rows_in_lines_are_rows(read: Read) -> None:
    pages = [{"page": 1, "rows": objects("a", "b")}, {"page": 2, "rows": objects("c")}]
    _, rows = read("\n".join(map(json.dumps, pages)))
    assert titles(rows) == {"1": "abc"}


def test_plays_in_a_list_become_sessions(read: Read) -> None:
    plays = [{"user_name": "u", "listened_at": 5, **song} for song in songs("a", "b")]
    account, rows = read({"payload": {"count": 2, "listens": plays}})
    assert titles(rows, "owner") == {"u": "ab"}
    assert "playlist_id" not in account.notes[0].columns


def test_a_page_of_the_api_of_spotify(read: Read) -> None:
    account, rows = read({"href": "x", "items": [track("a"), track("b")], "total": 2})
    assert account.notes[0].columns["title"] == "items.track.name"
    first = {role: rows[0][role] for role in ("artist", "title", "track_id")}
    assert first == {"artist": "A\x1fB", "title": "a", "track_id": "track:a"}


def test_a_playlist_of_the_api_of_spotify(read: Read) -> None:
    owner = {"display_name": "U", "id": "u"}
    items = {"items": [track("a"), track("b")]}
    _, rows = read({"name": "Mine", "owner": owner, "id": "P", "tracks": items})
    assert titles(rows) == {"P": "ab"}
    assert rows[0]["playlist_name"] == "Mine"


def test_the_least_nested_of_several_names_is_used(read: Read) -> None:
    line = {"pid": 1, "more": {"artist": "X"}, "artist": "A", "song": {"title": "t", "id": 1}}
    assert read(json.dumps(line) + "\n" + json.dumps(line))[1][0]["artist"] == "A"


@pytest.mark.parametrize(
    "tags", [[{"name": "rock", "count": 3}, {"name": "pop", "count": 1}], songs("x", "y", "z")]
)
def test_a_list_in_an_object_with_artist_and_title_is_not_read(read: Read, tags: Any) -> None:
    lines = [{**song, "similar": tags} for song in objects("a", "b")]
    account, rows = read("\n".join(map(json.dumps, lines)))
    assert titles(rows) == {"1": "ab"}
    assert account.rows == 2


def test_a_list_of_artists_becomes_their_names(read: Read) -> None:
    lines = [
        {"pid": 1, "title": "t", "artists": [{"name": "A", "id": "x"}, {"name": "B", "id": "y"}]},
        {"pid": 1, "title": "u", "artists": ["A", "C"]},
    ]
    _, rows = read("\n".join(map(json.dumps, lines)))
    assert [row["artist"] for row in rows] == ["A\x1fB", "A\x1fC"]


def test_a_list_of_artists_is_never_a_list_of_songs(read: Read) -> None:
    lines = [{"pid": 1, "name": "t", "artists": [{"name": "A", "id": "x"}]}] * 2
    with pytest.raises(ColumnError, match=r"missing: a title"):
        read("\n".join(map(json.dumps, lines)))
    _, rows = read("\n".join(map(json.dumps, lines)), {"title": "name"})
    assert [(row["artist"], row["title"]) for row in rows] == [("A", "t")] * 2


# Detection of columns.


def test_columns_are_collected_from_the_whole_sample(read: Read) -> None:
    late = [{**song, "pos": 9 - at} for at, song in enumerate(objects("a", "b", pid=2))]
    account, rows = read("\n".join(map(json.dumps, objects("x") * 500 + late)))
    assert [row["position"] for row in rows[-2:]] == [9.0, 8.0]
    assert account.notes[0].remarks == ()


@pytest.mark.parametrize("other", [{"name": "B"}, {"name": {"first": "B"}}, {}, None])
def test_a_name_may_have_a_plain_value_in_one_object_and_an_object_in_another(
    read: Read, other: Any
) -> None:
    _, rows = read([*objects("a"), {"pid": 1, "artist": other, "title": "b"}])
    assert [(row["artist"], row["title"]) for row in rows] == [("A", "a"), (None, "b")]


def test_a_position_too_large_for_a_number_is_rejected(read: Read) -> None:
    first, second = objects("a", "b")
    account, rows = read([first | {"pos": 1}, second | {"pos": 10**400}])
    assert [row["position"] for row in rows] == [1.0]
    assert account.unreadable == 1


def test_the_text_of_a_number_does_not_depend_on_other_values(read: Read) -> None:
    for ids in ([2.0**53, 1.0], [2.0**53, "x"], [2.0**53, None]):
        _, rows = read(
            [{"pid": pid, **song} for pid, song in zip(ids, songs("a", "b"), strict=True)]
        )
        assert rows[0]["playlist_id"] == "9.007199254740992e+15"


# Keys and lists that first occur after the sample.


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit samples to 2,000 bytes."""
    monkeypatch.setattr(content, "SAMPLE_SIZE", 2000)


def lines_of(items: list[Any]) -> str:
    return "\n".join(map(json.dumps, items))


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("write", [lines_of, json.dumps])
def test_remark_about_names_that_first_occur_after_the_sample(
    read: Read, write: Callable[[Any], str]
) -> None:
    late = [{**song, "pos": 9 - at} for at, song in enumerate(objects("a", "b", pid=2))]
    account, rows = read(write(objects(*"x" * 100) + late))
    assert [row["position"] for row in rows[-2:]] == [None, None]
    (remark,) = account.notes[0].remarks
    assert "'pos': put a record that has them at the start of the file" in remark


@pytest.mark.usefixtures("small_sample")
def test_remark_about_names_in_songs_and_in_nested_objects(read: Read) -> None:
    early = [{"pid": pid, "user": None, "tracks": songs("x", "y")} for pid in range(40)]
    late = {"pid": 40, "user": {"id": 7}, "tracks": [{**song, "isrc": "i"} for song in songs("z")]}
    account, rows = read(lines_of([*early, late]))
    assert len(rows) == 81
    (remark,) = account.notes[0].remarks
    assert "'tracks.isrc', 'user.id': put a record" in remark


@pytest.mark.usefixtures("small_sample")
def test_remark_about_a_list_of_songs_after_the_sample(read: Read) -> None:
    playlists = [slice_of(pid, "a", "b") for pid in range(40)]
    account, rows = read({"playlists": playlists, "tags": [{"x": 1}], "liked": songs("y")})
    assert len(rows) == 80
    assert account.notes[0].remarks == ("not read: 'liked'",)


def test_an_integer_of_more_than_64_bits_is_exact(read: Read) -> None:
    first, second = objects("a", "b", pid=12345678901234567890123)
    _, rows = read(lines_of([first, second | {"title": 12345678901234567891}]))
    assert [row["playlist_id"] for row in rows] == ["12345678901234567890123"] * 2
    assert rows[1]["title"] == "12345678901234567891"


@pytest.mark.parametrize("last", [b'{"pid": 1, "artist": "\\ud800", "title": "c"}', b"{", b"[]"])
def test_a_faulty_line_does_not_affect_other_lines(read: Read, last: bytes) -> None:
    good = lines_of(objects("a", "b")).encode()
    _, rows = read(good)
    account, same = read(good + b"\n" + last)
    assert same == rows
    assert account.unreadable == 1


def test_an_object_on_two_lines_is_two_unreadable_records(read: Read) -> None:
    line = json.dumps(objects("b")[0])
    account, rows = read(lines_of(objects("a")) + '\n{"pid": [1,\n2]}\n' + f"{line}{line}")
    assert [row["title"] for row in rows] == ["a"]
    assert account.unreadable == 3


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("is_late", [False, True])
def test_a_name_that_is_not_valid_text_is_not_an_error(read: Read, is_late: bool) -> None:
    odd = [objects("a")[0] | {"\ud800": 1}]
    account, rows = read(lines_of([*objects(*"x" * 100), *odd] if is_late else odd))
    assert rows[-1]["title"] == "a"
    assert [r"'\ud800': put a record" in remark for remark in account.notes[0].remarks] == [
        True
    ] * is_late
