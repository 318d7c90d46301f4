"""The log of runs: records, concurrent writers, damaged files, and the import of an old log."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest
from click.testing import CliRunner, Result

from catalog.errors import BusyError, InputError, StorageError
from cli.main import main
from evaluation.runs import history
from evaluation.runs import log as runs
from tests.support.road import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_a_recorded_run_is_read_back(tmp_path: Path) -> None:
    first = runs.record(tmp_path, "ingest", {"release": "R1", "rows": 3})
    second = runs.record(tmp_path, "evaluate", {"release": "R2", "figures": {"hr@10": 0.5}})
    ingest, evaluate = runs.load(tmp_path)
    assert [ingest.id, evaluate.id] == [first, second]
    assert ingest.payload == {"release": "R1", "rows": 3}
    assert ingest.release == "R1"
    assert ingest.time <= evaluate.time


def test_runs_are_filtered_by_kind_release_and_limit(tmp_path: Path) -> None:
    for kind, release in [("ingest", "A1"), ("evaluate", "A1"), ("evaluate", "B2"), ("tune", None)]:
        runs.record(tmp_path, kind, {"release": release})
    assert [run.release for run in runs.load(tmp_path, kind="evaluate")] == ["A1", "B2"]
    assert [run.kind for run in runs.load(tmp_path, release="A")] == ["ingest", "evaluate"]
    assert [run.kind for run in runs.load(tmp_path, limit=2)] == ["evaluate", "tune"]


def test_a_folder_without_a_log_has_no_runs(tmp_path: Path) -> None:
    assert runs.load(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    run = runs.record(tmp_path, "ingest", {})
    runs.record(tmp_path, "ingest", {})
    assert runs.find(tmp_path, run).id == run
    with pytest.raises(InputError, match="2 runs begin"):
        runs.find(tmp_path, run[:4])
    with pytest.raises(InputError, match="no run nothing"):
        runs.find(tmp_path, "nothing")


def test_a_run_of_another_kind_is_refused_with_its_kind(tmp_path: Path) -> None:
    run = runs.record(tmp_path, "ingest", {})
    with pytest.raises(InputError, match=f"run {run} is of kind 'ingest', not 'evaluate'"):
        runs.find(tmp_path, run, "evaluate")


def test_values_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        runs.record(tmp_path, "ingest", {"figure": float("nan")})
    assert runs.load(tmp_path) == []


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom evaluation.runs.log import record\n"
        "for number in range(10): record(Path(sys.argv[1]), sys.argv[2], {'number': number})\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT)
        for name in "abc"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for name in "abc":
        assert [run.payload["number"] for run in runs.load(tmp_path, kind=name)] == list(range(10))
    assert len({run.id for run in runs.load(tmp_path)}) == 30


OPEN = """
import duckdb, sys
log = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def opened_elsewhere(path: Path) -> Iterator[None]:
    """Hold a DuckDB file open in another process."""
    command = [sys.executable, "-c", OPEN, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "open\n"
        yield
        process.stdin.close()


def old_log(home: Path, rows: int = 3) -> Path:
    """Write a log in the format of earlier versions, and return its path.

    All runs in the log used the same test playlists.
    """
    path = home / runs.OLD_FILE
    payload = json.dumps({"split": "test", "data_fingerprint": "d", "split_seed": 0})
    with duckdb.connect(str(path)) as log:
        log.execute(
            "CREATE TABLE runs (id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, "
            "started TIMESTAMPTZ NOT NULL, release VARCHAR, payload JSON NOT NULL)"
        )
        for day in range(rows):
            started = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=day)
            values = [f"old-{day}", "evaluate", started, "R1", payload]
            log.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", values)
    return path


def test_the_log_of_an_earlier_version_is_imported_once(tmp_path: Path) -> None:
    old = old_log(tmp_path)
    (tmp_path / ".runs.lock").touch()
    # Recording a run does not read the old log.
    new = runs.record(tmp_path, "evaluate", {"release": "R2"})
    assert old.exists()
    for _ in range(2):
        loaded = runs.load(tmp_path)
        assert [run.id for run in loaded] == ["old-0", "old-1", "old-2", new]
    assert loaded[1].time == datetime(2025, 1, 2, tzinfo=UTC)
    assert (loaded[1].kind, loaded[1].release) == ("evaluate", "R1")
    assert history.count_test_uses(tmp_path, "d", 0) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "runs.duckdb.imported",
        "runs.jsonl",
    ]


def test_an_interrupted_import_adds_no_run_twice(tmp_path: Path) -> None:
    old_log(tmp_path)
    runs.load(tmp_path)
    # Restore the state before the last step of the import.
    (tmp_path / "runs.duckdb.imported").rename(tmp_path / runs.OLD_FILE)
    assert [run.id for run in runs.load(tmp_path)] == ["old-0", "old-1", "old-2"]


def test_several_processes_import_the_old_log_once(tmp_path: Path) -> None:
    old_log(tmp_path, rows=200)
    code = (
        "import sys\nfrom pathlib import Path\nfrom evaluation.runs.log import load\n"
        "print(len(load(Path(sys.argv[1]))))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    readers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [reader.communicate(timeout=60)[0] for reader in readers] == ["200\n"] * 3
    assert len((tmp_path / runs.FILE).read_text().splitlines()) == 200


def test_runs_are_recorded_while_the_old_log_is_open_elsewhere(
    tmp_path: Path,
) -> None:
    old = old_log(tmp_path)
    with opened_elsewhere(old):
        runs.record(tmp_path, "ingest", {})
        with pytest.raises(BusyError, match="open in another program; close it there"):
            runs.load(tmp_path)
    assert len(runs.load(tmp_path)) == 4


def test_an_old_log_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / runs.OLD_FILE).write_text("not a database" * 100)
    with pytest.raises(StorageError, match=r"cannot import .*move the file elsewhere"):
        runs.load(tmp_path)
    runs.record(tmp_path, "ingest", {})


def test_an_old_log_without_runs_is_removed(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / runs.OLD_FILE)).close()
    assert runs.load(tmp_path) == []
    assert not (tmp_path / runs.OLD_FILE).exists()


def test_a_full_disk_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.record(tmp_path, "ingest", {"number": 1})
    before = (tmp_path / runs.FILE).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limit[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            runs.record(tmp_path, "ingest", {"text": "x" * 10_000})  # fails after a partial write
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / runs.FILE).read_bytes() == before
    runs.record(tmp_path, "ingest", {"number": 2})
    assert [run.payload["number"] for run in runs.load(tmp_path)] == [1, 2]


def test_a_truncated_line_is_skipped_at_the_end_and_refused_elsewhere(tmp_path: Path) -> None:
    runs.record(tmp_path, "ingest", {"number": 1})
    with (tmp_path / runs.FILE).open("a") as log:
        log.write('{"id": "2026')
    assert len(runs.load(tmp_path)) == 1  # another process may still be writing the last line
    runs.record(tmp_path, "ingest", {"number": 2})
    with pytest.raises(StorageError, match=r"line 2 of the log .* remove that line"):
        runs.load(tmp_path)
    lines = (tmp_path / runs.FILE).read_text().splitlines(keepends=True)
    (tmp_path / runs.FILE).write_text(lines[0] + lines[2])
    assert [run.payload["number"] for run in runs.load(tmp_path)] == [1, 2]


def test_duckdb_reads_the_log(tmp_path: Path) -> None:
    runs.record(tmp_path, "evaluate", {"figures": {"hr@10": 0.25}, "lines": [{"a": 1}, {"b": "x"}]})
    runs.record(tmp_path, "tune", {"figures": {"hr@100": 0.5}, "lines": 3})
    columns = "columns = {kind: 'VARCHAR', time: 'TIMESTAMPTZ', payload: 'JSON'}"
    rows = duckdb.sql(
        "SELECT kind, (payload->'figures'->>'hr@10')::DOUBLE "
        f"FROM read_json('{tmp_path / runs.FILE}', {columns}) ORDER BY time"
    ).fetchall()
    assert rows == [("evaluate", 0.25), ("tune", None)]
    simple = f"SELECT count(*), min(release) FROM read_json('{tmp_path / runs.FILE}')"
    assert duckdb.sql(simple).fetchall() == [(2, None)]


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["runs", *map(str, arguments)])


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    runs.record(
        tmp_path,
        "ingest",
        {"release": "R1", "published": True, "counts": {"songs": 1200, "training_playlists": 30}},
    )
    for value, split, holdout in ((0.25, "validation", "last"), (0.5, "test", "random")):
        figures = {"hr@10": value / 2, "hr@100": value}
        payload = {"release": "R1", "split": split, "holdout": holdout, "figures": figures}
        runs.record(tmp_path, "evaluate", payload)
    return tmp_path


def test_runs_are_listed_and_shown(logged: Path) -> None:
    listed = run_command("list", "--home", logged)
    assert "1,200 songs" in listed.output
    assert "hr@100" in listed.output
    assert "0.2500" in listed.output
    printed = run_command("list", "--home", logged, "--json", "--kind", "evaluate", "-n", 1).output
    (evaluated,) = json.loads(printed)
    assert evaluated["figures"]["hr@100"] == 0.5
    assert (
        json.loads(run_command("show", evaluated["id"], "--home", logged).output)["split"] == "test"
    )
    assert "no runs" in run_command("list", "--home", logged / "none").output


@pytest.mark.parametrize("options", [[], ["--metric", "hr@10", "--out", "runs.svg"], ["--help"]])
def test_the_removed_plot_command_names_its_replacements(options: list[str]) -> None:
    result = run_command("plot", *options)
    assert result.exit_code == 2
    for replacement in ("was removed", "nextsong runs list", "HOME/runs.jsonl", "DuckDB"):
        assert replacement in result.output
    assert "plot" not in run_command("--help").output


def test_runs_are_labelled_with_split_holdout_and_kind(logged: Path) -> None:
    figures = {"hr@10": 0.1, "hr@100": 0.125}
    runs.record(logged, "tune", {"split": "validation", "holdout": "last", "figures": figures})
    listed = " ".join(run_command("list", "--home", logged).output.split())
    for label in ("validation, last:", "test, random:", "validation, last (tune):"):
        assert label in listed
