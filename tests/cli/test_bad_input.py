"""Bad input on the command line: one-line message, exit code, and an unchanged release."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from catalog.embedded.store import EmbeddedStore
from cli.main import main
from tests.support.road import copy_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.road import Road

HEADER = "playlist_id,artist,title\n"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_one_line(result: Result, exit_code: int, *parts: str) -> None:
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output
    for part in parts:
        assert part in errors[0]


@pytest.fixture
def home(road: Road, tmp_path: Path) -> Path:
    """A copy of the store of `road`, whose current release must not change."""
    return copy_store(road.home, tmp_path / "home").path


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "playlists.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["empty"]),
        (HEADER, ["no", "row"]),
        ("a,b,c\n1,2,3\n", ["'a', 'b', 'c'", "artist", "title", "--column"]),
        (HEADER + "1,A,x\n1,B,y\n2,C,z\n", ["no playlist has 3 songs", "--min-songs"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), ["text", "Parquet"]),
        (b"PAR1" + b"\0" * 100 + b"PAR1", ["Parquet"]),
    ],
    ids=["empty", "header", "columns", "short", "binary", "parquet"],
)
def test_unusable_files(home: Path, tmp_path: Path, content: bytes, parts: list[str]) -> None:
    before = EmbeddedStore(home).current()
    result = call("ingest", "run", written(tmp_path, content), "--home", home, "--epochs", 1)
    assert_one_line(result, 1, *parts)
    assert EmbeddedStore(home).current() == before
    EmbeddedStore(home).open().close()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"PAR1" + b"\0" * 9, "Parquet"), (b"\x1f\x8b\x08\0", "gzip -dc")],
)
def test_standard_input_that_cannot_be_used(home: Path, content: bytes, message: str) -> None:
    command = ["ingest", "run", "-", "--home", str(home)]
    result = CliRunner().invoke(main, command, input=content)
    assert_one_line(result, 1, "standard input", message)
    assert not (home / "work" / ".standard-input").exists()


def test_standard_input_is_read_and_recognised_by_the_next_run(road: Road, tmp_path: Path) -> None:
    command = ["ingest", "run", "-", "--home", str(tmp_path), "--epochs", "1", "--min-count", "2"]
    for state in ("is now current", "was current already"):
        result = CliRunner().invoke(main, command, input=road.file.read_bytes())
        assert result.exit_code == 0, result.output
        assert state in result.output
        assert not (tmp_path / "work" / ".standard-input").exists()
    manifest = EmbeddedStore(tmp_path).manifest(EmbeddedStore(tmp_path).current() or "")
    assert manifest.origin.sources == ["standard input"]
    assert "standard input: CSV" in call("ingest", "report", "--home", tmp_path).output


def test_a_url_in_place_of_a_file(home: Path) -> None:
    url = "https://example.org/a.csv"
    assert_one_line(call("ingest", "run", url, "--home", home), 1, f"{url} is a URL", "download")


def test_a_missing_file(home: Path, tmp_path: Path) -> None:
    assert_one_line(call("ingest", "run", tmp_path / "no.csv", "--home", home), 1, "no.csv")


def test_a_folder_without_playlist_files(home: Path, tmp_path: Path) -> None:
    assert_one_line(call("ingest", "run", tmp_path, "--home", home), 1, "folder")


def test_no_file_at_all(home: Path) -> None:
    assert_one_line(call("ingest", "run", "--home", home), 2, "FILE")


@pytest.mark.parametrize(
    ("option", "part"),
    [
        (["--column", "artist"], "ROLE=NAME"),
        (["--column", "singer=a"], "singer"),
        (["--window", "x"], "--window"),
    ],
)
def test_wrong_usage(home: Path, tmp_path: Path, option: list[str], part: str) -> None:
    result = call("ingest", "run", written(tmp_path, HEADER), "--home", home, *option)
    assert_one_line(result, 2, part)


@pytest.mark.parametrize("option", ["--window", "--dimensions", "--epochs", "--min-count"])
def test_parameters_out_of_range(home: Path, tmp_path: Path, option: str) -> None:
    result = call("ingest", "run", written(tmp_path, HEADER), "--home", home, option, 0)
    assert_one_line(result, 2, option, "is not in the range")


def test_an_unwritable_home(road: Road, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    assert_one_line(call("ingest", "run", road.file, "--home", blocked), 1, "cannot write")


@pytest.mark.parametrize(
    "command", [("serve", "--port", 0), ("recommend", "A - b"), ("search", "a"), ("evaluate",)]
)
def test_before_any_release(tmp_path: Path, command: tuple[object, ...]) -> None:
    assert_one_line(call(*command, "--home", tmp_path), 1, "no release", "nextsong ingest run")


@pytest.mark.parametrize("command", [("serve", "--port", 0), ("recommend", "A - b")])
def test_a_corrupt_release(home: Path, command: tuple[object, ...]) -> None:
    release = home / "releases" / (EmbeddedStore(home).current() or "")
    victim = max(
        (path for path in (release / "shard").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    size = victim.stat().st_size
    victim.unlink()  # it may be a hard link of a file that tests share
    victim.write_bytes(b"\1" * size)
    assert_one_line(call(*command, "--home", home), 1, "damaged", victim.name)


def test_a_port_in_use(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_line(call("serve", "--home", home, "--port", port), 1, "in use", str(port))


def test_no_service_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    result = call("recommend", "A - b", "--address", address)
    assert_one_line(result, 1, address, "no service listens there", "nextsong serve")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1", ":50051", "http://a:1", "::1:50051"]
)
def test_an_invalid_address(address: str) -> None:
    assert_one_line(call("search", "a", "--address", address), 2, "--address", address)


def test_a_note_says_that_the_release_has_no_reranker(home: Path, road: Road) -> None:
    songs = pq.read_table(road.work / "prepare" / "songs.parquet").to_pylist()
    counted = pq.read_table(road.work / "train" / "vectors.parquet")["song"].to_pylist()
    song = songs[counted[0]]
    name = f"{song['artist']} – {song['title']}"
    for more in ([], ["--json"]):
        result = call("recommend", name, "--home", home, "--mode", "ranked", *more)
        assert result.exit_code == 0, result.output
        assert "--mode ranked could not be used, and hybrid was" in result.stderr
        assert "no ranker" in result.stderr
    json.loads(result.stdout)
    assert not call("recommend", name, "--home", home, "--mode", "hybrid").stderr


def test_negative_seeds_are_marked_and_empty_results_are_explained(home: Path, road: Road) -> None:
    one, other = pq.read_table(road.work / "prepare" / "songs.parquet").to_pylist()[:2]
    names = [f"{song['artist']} - {song['title']}" for song in (one, other)]
    shown = call("recommend", names[0], "--unlike", names[1], "--home", home).output
    assert f"unlike {names[1]}" in shown
    assert names[0] in shown
    for command, message in (
        (("recommend", names[0], "--include-artist", "Nobody"), "No song was found"),
        (("search", "zzzz"), "No song has, in its artist or title, a word that begins with"),
    ):
        result = call(*command, "--home", home)
        assert message in result.output
        assert "playlists" not in result.output  # "playlists" is a heading of the table of songs


def test_a_song_that_is_neither_name_nor_id(home: Path) -> None:
    assert_one_line(call("recommend", "Creep", "--home", home), 2, "Artist - Title")


@pytest.mark.parametrize("command", ["recommend", "similar", "search"])
def test_a_song_that_is_not_text(home: Path, command: str) -> None:
    assert_one_line(call(command, "Bj\udcf6rk - Army", "--home", home), 2, "not UTF-8")


def test_an_unreadable_release_is_replaced_by_the_next_run(road: Road, home: Path) -> None:
    current = home / "releases" / (EmbeddedStore(home).current() or "") / "manifest.json"
    current.write_text("{}")
    options = ["--dimensions", 16, "--epochs", 1, "--min-count", 2, "--quiet"]
    result = call("ingest", "run", road.file, "--home", home, *options)
    assert result.exit_code == 0, result.output
    EmbeddedStore(home).open().close()


def test_an_unknown_song_has_no_neighbours(home: Path) -> None:
    assert_one_line(call("similar", "No - Such", "--home", home), 1, "no song")


def test_commands_print_tables_or_json(home: Path, road: Road) -> None:
    songs = pq.read_table(road.work / "prepare" / "songs.parquet").to_pylist()
    counted = pq.read_table(road.work / "train" / "vectors.parquet")["song"].to_pylist()
    known = songs[counted[0]]
    name = f"{known['artist']} - {known['title']}"
    for command in ("recommend", "similar"):
        shown = call(command, name, "--home", home, "-n", 3)
        assert shown.exit_code == 0, shown.output
        assert known["artist"] in shown.output
        answer = json.loads(call(command, name, "--home", home, "-n", 3, "--json").output)
        assert len(answer["songs"]) == 3
    found = json.loads(call("search", known["artist"], "--home", home, "--json").output)
    assert known["artist"] in {song["artist"] for song in found["songs"]}
    stranger = call("recommend", "Nobody - Nothing", "--home", home)
    assert "not in the catalog" in stranger.output
    assert "popular" in stranger.output


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [(f"p{p}", f"Artist {s}", f"Title {s}") for p in range(40) for s in range(4)]
    path = tmp_path / "odd.parquet"
    pq.write_table(
        pa.table(dict(zip("xyz", map(list, zip(*rows, strict=True)), strict=True))), path
    )
    where = ["--home", tmp_path / "home", "--epochs", 1, "--quiet"]
    named = ["--column", "playlist_id=x", "--column", "artist=y", "--column", "title=z"]
    result = call("ingest", "run", path, *named, *where)
    assert result.exit_code == 0, result.output
    assert "160 read = 160 used + 0 rejected" in result.output
