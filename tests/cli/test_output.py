"""Output of the commands: escaped control characters, plain tables, JSON, and write errors."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from catalog.console import progress, tables
from catalog.console.terminal import json_text, one_line, sanitise
from catalog.embedded.store import EmbeddedStore
from catalog.files import write_atomically
from cli.main import main
from service.operate import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.road import Terminal

ESC, OSC, BELL, CSI, DELETE, TURN = "\x1b[31m", "\x1b]0;", "\x07", "\x9b", "\x7f", "\u202e"
ARTIST = f"Red{OSC}pwned{BELL}{TURN}"
QUICK = ["--dimensions", 8, "--epochs", 1, "--min-count", 1, "--payload", "year:integer"]
FULL = Path("/dev/full")
CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def call(*arguments: object) -> Result:
    """Run a command with colours, as on a terminal, so that click removes no escape sequences."""
    return CliRunner().invoke(main, [str(each) for each in arguments], color=True)


def unstyled(text: str) -> str:
    """Return the text without the colours that nextsong adds."""
    return re.sub(r"\x1b\[\d*m", "", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with control characters in names of songs, files and fields."""
    folder = tmp_path_factory.mktemp("output")
    rows = [
        f"{number},{ARTIST}{song % 4},{ESC}Song{CSI}{DELETE} {song},{song}\n"
        for number in range(80)
        for song in sorted({(number * step) % 24 for step in (1, 2, 3, 5, 7)})
    ]
    file = folder / f"play{OSC}lists{BELL}.csv"
    file.write_text("playlist_id,artist,title,year\n" + "".join(rows), encoding="utf-8")
    home = folder / "home"
    result = call("ingest", "run", file, "--home", home, *QUICK)
    assert result.exit_code == 0, result.output
    assert not CONTROLS.search(unstyled(result.output)), result.output
    reported = call("ingest", "report", "--home", home).output
    assert r"play\x1b]0;lists\x07.csv" in reported
    return folder


@pytest.fixture(scope="module")
def song(folder: Path) -> str:
    found = json.loads(call("search", "red", "--home", folder / "home", "--json").stdout)["songs"]
    assert found[0]["artist"].startswith(ARTIST)
    return f"{found[0]['artist']} - {found[0]['title']}"


def named(song: str) -> list[list[str]]:
    """Return all commands that print names, except those that publish."""
    return [
        ["search", "red"],
        ["recommend", song, "--explain"],
        ["recommend", song, "--filter", "year>=3000"],
        ["similar", song],
        ["releases", "list"],
        ["releases", "show"],
        ["releases", "verify"],
        ["releases", "prune"],
        ["doctor"],
        ["ingest", "report"],
        ["ingest", "stats"],
        ["runs", "list"],
        ["runs", "show", "1"],
        ["evaluate", "--baselines", "popularity", "--processes", "1"],
    ]


@pytest.mark.parametrize("place", range(14))
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_control_characters_in_names_are_never_printed(
    folder: Path, song: str, place: int, form: list[str]
) -> None:
    command = named(song)[place]
    if command[0] == "evaluate" or command[:2] == ["ingest", "stats"]:
        pytest.importorskip("matplotlib")
    if command[:2] == ["runs", "show"]:
        command[2] = json.loads(call("runs", "list", "--home", folder / "home", "--json").stdout)[
            0
        ]["id"]
    result = call(*command, *form, "--home", folder / "home")
    assert result.exit_code == 0, result.output
    assert not CONTROLS.search(unstyled(result.output)), repr(result.output)
    if form and command[0] != "evaluate":  # `evaluate` prints one JSON line per system
        json.loads(result.stdout)


def test_control_characters_in_names_are_escaped(folder: Path, song: str) -> None:
    shown = call("recommend", song, "--home", folder / "home").output
    assert r"Red\x1b]0;pwned\x07\u202e" in shown
    assert r"\x1b[31mSong\x9b\x7f" in shown


@pytest.mark.parametrize(
    "command",
    [
        ["similar", f"{OSC}No{CSI} - Such{TURN}"],
        ["search", "red", "--limit", f"{OSC}x"],
        ["recommend", "a - b", "--filter", f"{OSC}{CSI}"],
        ["releases", "verify", f"x{OSC}{TURN}"],
        ["runs", "show", f"x{OSC}{TURN}"],
        [f"{OSC}{CSI}"],
        ["ingest", "run", f"{OSC}{CSI}.csv"],
        ["ingest", "run", f"{OSC}{CSI}.csv", "--log-format", "json"],
        ["--debug", "releases", "verify", f"x{OSC}{TURN}"],
    ],
)
def test_control_characters_in_errors_are_never_printed(folder: Path, command: list[str]) -> None:
    home = ["--home", folder / "home"] if len(command) > 1 else []
    result = call(*command, *home)
    assert result.exit_code in {1, 2}
    assert not CONTROLS.search(result.output), repr(result.output)


def test_control_characters_in_the_service_log_are_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, level = logging.getLogger(), logging.getLogger("nextsong").level
    handlers, root_level = root.handlers[:], root.level
    try:
        for form in ("console", "json"):
            logs.configure("info", form)
            logs.log.info("a call", user=f"{OSC}x{CSI}\n{TURN}{DELETE}")
            logging.getLogger("library").error("it says %s", f"{OSC}x{CSI}\n{TURN}")
    finally:
        root.handlers[:] = handlers
        root.setLevel(root_level)
        logging.getLogger("nextsong").setLevel(level)
    written = unstyled(capsys.readouterr().err)
    assert not CONTROLS.search(written), repr(written)
    assert len(written.splitlines()) == 4


def test_control_characters_in_progress_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for reporter in (progress.ConsoleReporter(), progress.JsonReporter()):
        reporter.say(f"from {OSC}{CSI}")
        with reporter.task("read") as task:
            task.result(f"{OSC}{DELETE}")
    assert not CONTROLS.search(capsys.readouterr().err)


def test_only_control_characters_are_escaped() -> None:
    assert sanitise("a\tb\nBjörk 宇多田 ـ") == "a\tb\nBjörk 宇多田 ـ"
    assert sanitise("\r\x1b\x7f\x85\u2066\ud800") == r"\x0d\x1b\x7f\x85\u2066\ud800"
    assert one_line("a\nb\tc") == r"a\nb\tc"
    assert json_text({"a": "\x7f\x9b\ud800ö"}) == r'{"a": "\u007f\u009b\ud800\u00f6"}'


def test_settings_with_control_characters_are_valid_toml(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTSONG_KEYS_FILE", f"{OSC}{CSI}{TURN}{DELETE}")
    printed = call("serve", "--print-config", "--home", folder / "home").stdout
    assert not CONTROLS.search(printed)
    assert tomllib.loads(printed)["keys_file"] == f"{OSC}{CSI}{TURN}{DELETE}"


# Tables on terminals and in files


def test_tables_are_plain_without_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    release = EmbeddedStore(folder / "home").current() or ""
    listed = call("releases", "list", "--home", folder / "home").output.splitlines()
    assert listed[0].split() == ["release", "made", "songs", "vectors", "from"]
    assert re.fullmatch(rf"\*  {release}  \S+ \S+ +\d+ +\d+  play.*lists.*csv", listed[1])
    found = call("search", "red", "--home", folder / "home").output
    assert not re.search("[─━│┃]", found)
    assert all(line == line.rstrip() for line in found.splitlines())
    runs = call("runs", "list", "--home", folder / "home").output
    assert release in runs


def test_the_title_of_a_plain_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = tables.Table("a title that is wider than the table")
    table.add_column("id")
    table.add_row("1")
    tables.Console().print(table)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["a title that is wider than the table", "id", "1"]


@pytest.mark.parametrize("width", [20, 45, 200])
def test_tables_on_a_terminal_never_truncate_an_id(
    folder: Path, terminal: Callable[[int], Terminal], width: int
) -> None:
    from catalog.commands.release_table import list_entries, print_table

    screen = terminal(width)
    home = EmbeddedStore(folder / "home")
    print_table(list_entries(home))
    assert str(home.current()) in screen.shown()
    assert "…" not in screen.shown()


def test_a_cell_is_one_line_and_keeps_all_of_its_text(
    terminal: Callable[[int], Terminal],
) -> None:
    screen = terminal(60)
    table = tables.Table("of songs")
    table.add_column("id", no_wrap=True)
    table.add_column("title")
    table.add_row("i" * 30, "x" * 90 + "\nforged :smile:")
    tables.Console().print(table)
    shown = screen.shown()
    assert "i" * 30 in shown
    assert shown.count("x") == 90
    assert "\\nforged :smile:" in "".join(shown.split()).replace("forged:", "forged :")
    assert "…" not in shown


# Output that cannot be written

PRINTING = [
    ["--help"],
    ["--version"],
    ["releases", "--help"],
    ["releases", "list"],
    ["releases", "list", "--json"],
    ["releases", "show"],
    ["releases", "verify", "-q"],
    ["releases", "prune", "--keep", "9"],
    ["doctor"],
    ["doctor", "--json"],
    ["search", "red"],
    ["search", "red", "--json"],
    ["recommend", "red - x"],
    ["ingest", "report"],
    ["runs", "list"],
    ["runs", "list", "--json"],
    ["serve", "--print-config"],
    ["serve", "--port", "0"],
]


def status(arguments: list[str], home: Path) -> Any:
    where = [] if "--help" in arguments or "--version" in arguments else ["--home", str(home)]
    with pytest.raises(SystemExit) as ended:
        main(arguments + where)
    return ended.value.code


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_output_device_is_reported_in_one_line(
    folder: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FULL.open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert status(arguments, folder / "home") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    (error,) = errors
    assert (
        error == "Error: cannot write the output: the disk is full: free disk space and run again"
    )


@pytest.mark.parametrize("arguments", PRINTING[:-1], ids=" ".join)
def test_a_closed_pipe_ends_quietly(
    folder: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", pipe)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    assert status(arguments, folder / "home") == 1
    with suppress(BrokenPipeError):
        pipe.close()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")
def test_a_process_reports_a_full_output_device_in_one_line(folder: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "releases", "list"]
    with FULL.open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            [*command, "--home", str(folder / "home")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        serving = subprocess.run(
            [*command[:-2], "serve", "--port", "0", "--drain", "0", "--home", str(folder / "home")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert serving.returncode == 1
        assert serving.stderr.splitlines()[-1].startswith("Error: cannot write the output")
        both = subprocess.run([*command, "--no"], stdout=full, stderr=full, check=False)
        assert both.returncode == 2
    reading, writing = os.pipe()
    os.close(reading)
    left = subprocess.run(
        [*command, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (left.returncode, left.stderr) == (1, "")


@pytest.mark.parametrize("name", ["/dev/full", "missing/out.svg", "file/out.svg"])
def test_a_file_that_cannot_be_written_is_reported_in_one_line(
    folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("x")
    evaluated = call("evaluate", "--baselines", "none", "--home", folder / "home", "-q")
    assert evaluated.exit_code == 0, evaluated.output
    if name == "/dev/full":
        commands: list[list[str]] = [["demo", "--rows", "100", "--write-raw", name]]
    else:
        target = str(tmp_path / name)
        commands = [
            ["demo", "--rows", "100", "--write-raw", target],
            ["ingest", "stats", "--home", str(folder / "home"), "--out", str(tmp_path / "file")],
        ]
    for command in commands:
        result = call(*command)
        assert result.exit_code in {1, 2}, result.output
        assert "Traceback" not in result.output
        errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, result.output


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_characters_that_the_output_encoding_lacks_are_escaped(folder: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    home = ["--home", str(folder / "home")]
    for form in ([], ["--json"]):
        ended = subprocess.run(
            [sys.executable, "-m", "cli.main", "search", "é", *form, *home],
            capture_output=True,
            env=environment,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr


# Usage errors, tracebacks and completion


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["ingest", "run", "x.csv", "--epochs", "-1"], "--epochs"),
        (["ingest", "run", "x.csv", "--dimensions", "0"], "--dimensions"),
        (["ingest", "run", "x.csv", "--sample", "nan"], "--sample"),
        (["ingest", "run", "x.csv", "--backward", "2"], "--backward"),
        (["ingest", "run", "x.csv", "--encoding", "klingon"], "--encoding"),
        (["ingest", "run", "x.csv", "--payload", "a:b:c"], "--payload"),
        (["ingest", "run", "x.csv", "--payload", "a", "--payload", "A"], "--payload"),
        (["recommend", "a - b", "--filter", "year>"], "--filter"),
        (["recommend", "a - b", "--filter", "year>=nan"], "--filter"),
        (["recommend", "a - b", "--filter", "mood=x"], "--filter"),
        (["recommend", "a - b", "--filter", "year~x"], "year=..., year!=..., year>=..., year<=..."),
        (["recommend", "a - b", "--filter", f"year={2**63}"], "--filter"),
        (["recommend", "a - b", "--include-artist", " "], "--include-artist"),
        (["recommend", "a - b", "--diversity", "nan"], "--diversity"),
        (["search", "x" * 300], "WORD"),
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--drain", "-1"], "--drain"),
        (["serve", "--grace", "nan"], "--grace"),
        (["serve", "--host", ""], "host"),
        (["serve", "--tls-cert", "x.pem"], "tls_cert and tls_key"),
        (["runs", "plot", "--out", "x.txt"], "nextsong runs list"),
        (["evaluate", "--seed", "-1"], "--seed"),
        (["evaluate", "--patience", "nan"], "--patience"),
        (["evaluate", "--baselines", "nonsense"], "nonsense"),
        (["evaluate", "--fail-under", "x"], "x"),
        (["tune", "--minutes", "inf"], "--minutes"),
        (["tune", "--seed", "-1"], "--seed"),
        (["demo", "--seed", "-1"], "--seed"),
        (["bench", "serve", "--sizes", "10"], "--sizes"),
        (["bench", "spelling", "--songs", "10"], "--songs"),
        (["recomend", "x"], "No such command 'recomend'. Did you mean 'recommend'?"),
        (["releases", "prune", "--keep", "-1"], "--keep"),
        (["releases", "list", "--qdrant-url", "ftp://x"], "ftp://x"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_code_2(folder: Path, arguments: list[str], part: str) -> None:
    result = call(*arguments, "--home", folder / "home")
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert part in line


def test_an_invalid_environment_variable_is_not_a_usage_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTSONG_WORKERS", "0")
    assert call("serve", "--home", folder / "home", "--port", "0").exit_code == 1


@pytest.mark.parametrize(
    "command",
    [
        ["releases", "list"],
        ["releases", "show"],
        ["releases", "verify", "-q"],
        ["releases", "prune", "--keep", "9"],
        ["releases", "rollback", "CURRENT"],
        ["doctor"],
        ["search", "red"],
        ["ingest", "report"],
        ["runs", "list"],
    ],
    ids=" ".join,
)
def test_json_is_one_document(folder: Path, command: list[str]) -> None:
    home = folder / "home"
    named = [EmbeddedStore(home).current() if part == "CURRENT" else part for part in command]
    result = call(*named, "--home", home, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)


def test_an_ingest_prints_one_document(folder: Path) -> None:
    (file,) = folder.glob("*.csv")
    again = call("ingest", "run", file, "--home", folder / "home", *QUICK, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["release"] == EmbeddedStore(folder / "home").current()


def test_debug_shows_the_traceback_of_an_error(tmp_path: Path) -> None:
    plain = call("releases", "show", "--home", tmp_path)
    assert "Traceback" not in plain.output
    wanted = call("--debug", "releases", "show", "--home", tmp_path)
    assert wanted.exit_code == 1
    assert "Traceback" in wanted.output
    assert "NoReleaseError" in wanted.output
    assert wanted.output.splitlines()[-1] == plain.output.splitlines()[-1]


def completed(arguments: list[str], incomplete: str) -> list[str]:
    shell = ShellComplete(main, {}, "nextsong", "_NEXTSONG_COMPLETE")
    return [found.value for found in shell.get_completions(arguments, incomplete)]


@pytest.fixture
def release(folder: Path) -> str:
    return EmbeddedStore(folder / "home").current() or ""


@pytest.mark.parametrize(
    "command",
    [
        *(["releases", name] for name in ("show", "rollback", "remove", "verify", "copy")),
        ["evaluate", "--release"],
        ["evaluate", "compare"],
        ["runs", "list", "--release"],
    ],
    ids=" ".join,
)
def test_release_ids_are_completed(folder: Path, release: str, command: list[str]) -> None:
    home = ["--home", str(folder / "home")]
    before = (
        [*command[:-1], *home, command[-1]] if command[-1].startswith("--") else [*command, *home]
    )
    assert completed(before, release[:4]) == [release]
    assert completed(before, "x") == []


def test_nothing_is_completed_if_no_server_answers() -> None:
    server = ["--qdrant-url", "http://127.0.0.1:9"]
    assert completed(["releases", "show", *server], "") == []
