"""Progress output of a run on standard error: text, JSON lines or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from click.testing import CliRunner

from catalog.errors import FileError
from cli.main import main
from ingest.sources import read
from ingest.sql import connect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pipeline_runs import Lane
    from tests.support.road import Road


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def ingest(road: Road, folder: Path, *options: str) -> Any:
    given = ["--dimensions=4", "--epochs=1", "--min-count=2", f"--home={folder}"]
    return CliRunner().invoke(main, ["ingest", "run", str(road.file), *given, *options])


def test_a_run_as_json_lines(road: Road, tmp_path: Path) -> None:
    result = ingest(road, tmp_path / "home", "--log-format", "json")
    assert result.exit_code == 0, result.output
    events = lines(result.stderr)
    begun = [event["task"] for event in events if event["event"] == "begin"]
    assert begun[:5] == ["read", "prepare", "split", "count", "train"]
    ended = {event["task"]: event for event in events if event["event"] == "end"}
    assert list(ended) == begun
    assert ended["read"]["text"].endswith("0 unreadable")
    assert ended["publish"]["seconds"] > 0
    assert all(event["time"].endswith("+00:00") for event in events)
    assert "rows " in result.stdout


def test_an_error_as_a_json_line(tmp_path: Path) -> None:
    command = ["ingest", "run", str(tmp_path / "none.csv"), "--log-format", "json"]
    result = CliRunner().invoke(main, [*command, "--home", str(tmp_path)])
    assert result.exit_code == 1
    (event,) = lines(result.stderr)
    assert (event["event"], event["error"]) == ("error", "FileError")
    assert "does not exist" in event["text"]


def test_quiet_prints_no_progress(road: Road, tmp_path: Path) -> None:
    assert ingest(road, tmp_path / "home", "--quiet").stderr == ""


def test_there_are_no_bars_without_a_terminal(road: Road, tmp_path: Path) -> None:
    output = ingest(road, tmp_path / "home").stderr
    assert "\x1b" not in output
    assert "%" not in output
    assert len(output.splitlines()) == 8


def test_an_interrupted_query_raises_keyboard_interrupt(tmp_path: Path) -> None:
    for error in (RuntimeError("Query interrupted"), duckdb.InterruptException("INTERRUPT")):
        with pytest.raises(KeyboardInterrupt), connect(tmp_path):
            raise error
    with pytest.raises(RuntimeError, match="another"), connect(tmp_path):
        raise RuntimeError("another")
    assert list(tmp_path.iterdir()) == []


LONG = """
import signal, sys
from pathlib import Path
from ingest.sql import connect
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to ignore
try:
    with connect(Path(sys.argv[1])) as sql:
        print("go", flush=True)
        sql.execute("SELECT sum(hash(a.range + b.range)) FROM range(10000000) a, range(1000000) b")
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def test_ctrl_c_ends_a_long_query(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LONG, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "go\n"
            time.sleep(0.3)
            os.kill(child.pid, signal.SIGINT)
            output, _ = child.communicate(timeout=60)
        finally:
            child.kill()
    assert output == "stopped\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_before_it_is_read_is_an_error(
    quick: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick.file = tmp_path / "growing.csv"
    quick.file.write_bytes(quick.road.file.read_bytes())
    opened = read.open_file

    def late(*arguments: Any) -> Any:
        with quick.file.open("a") as file:
            file.write("\n")
        return opened(*arguments)

    before = quick.home.current()
    monkeypatch.setattr(read, "open_file", late)
    with pytest.raises(FileError, match="changed while it was read"):
        quick.run()
    assert quick.home.current() == before
    assert quick.listener.done == ["read"]
