"""The log of runs: what is written is read back, by several processes at once too."""

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


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    first = runs.record(tmp_path, "ingest", {"release": "R1", "rows": 3})
    second = runs.record(tmp_path, "evaluate", {"release": "R2", "figures": {"hr@10": 0.5}})
    found = runs.load(tmp_path)
    assert [run.id for run in found] == [first, second]
    assert found[0].payload == {"release": "R1", "rows": 3}
    assert found[0].release == "R1"
    assert found[0].time <= found[1].time


def test_runs_are_filtered(tmp_path: Path) -> None:
    for kind, release in [("ingest", "A1"), ("evaluate", "A1"), ("evaluate", "B2"), ("tune", None)]:
        runs.record(tmp_path, kind, {"release": release})
    assert [run.release for run in runs.load(tmp_path, kind="evaluate")] == ["A1", "B2"]
    assert [run.kind for run in runs.load(tmp_path, release="A")] == ["ingest", "evaluate"]
    assert [run.kind for run in runs.load(tmp_path, limit=2)] == ["evaluate", "tune"]


def test_a_home_without_a_log_has_no_runs(tmp_path: Path) -> None:
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


def test_figures_that_are_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        runs.record(tmp_path, "ingest", {"figure": float("nan")})
    assert runs.load(tmp_path) == []


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom evaluation.runs.log import record\n"
        "for at in range(10): record(Path(sys.argv[1]), sys.argv[2], {'at': at})\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT)
        for name in "abc"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for name in "abc":
        assert [run.payload["at"] for run in runs.load(tmp_path, kind=name)] == list(range(10))
    assert len({run.id for run in runs.load(tmp_path)}) == 30


OPEN = """
import duckdb, sys
log = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_open(path: Path) -> Iterator[None]:
    """Another program that has a DuckDB file open."""
    command = [sys.executable, "-c", OPEN, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "open\n"
        yield
        other.stdin.close()


def old_log(home: Path, rows: int = 3) -> Path:
    """A log as earlier versions wrote it: each run a use of the same test playlists."""
    path = home / runs.OLD_FILE
    payload = json.dumps({"split": "test", "data_fingerprint": "d", "split_seed": 0})
    with duckdb.connect(str(path)) as log:
        log.execute(
            "CREATE TABLE runs (id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, "
            "started TIMESTAMPTZ NOT NULL, release VARCHAR, payload JSON NOT NULL)"
        )
        for at in range(rows):
            started = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=at)
            values = [f"old-{at}", "evaluate", started, "R1", payload]
            log.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", values)
    return path


def test_the_log_of_an_earlier_version_is_imported_once(tmp_path: Path) -> None:
    old = old_log(tmp_path)
    (tmp_path / ".runs.lock").touch()
    new = runs.record(tmp_path, "evaluate", {"release": "R2"})  # needs nothing of the old log
    assert old.exists()
    for _ in range(2):
        found = runs.load(tmp_path)
        assert [run.id for run in found] == ["old-0", "old-1", "old-2", new]
    assert found[1].time == datetime(2025, 1, 2, tzinfo=UTC)
    assert (found[1].kind, found[1].release) == ("evaluate", "R1")
    assert history.test_uses(tmp_path, "d", 0) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "runs.duckdb.imported",
        "runs.jsonl",
    ]


def test_an_import_that_was_interrupted_adds_nothing_twice(tmp_path: Path) -> None:
    old_log(tmp_path)
    runs.load(tmp_path)
    (tmp_path / "runs.duckdb.imported").rename(tmp_path / runs.OLD_FILE)  # as before the last step
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


def test_an_old_log_that_is_open_elsewhere_keeps_nothing_from_being_recorded(
    tmp_path: Path,
) -> None:
    old = old_log(tmp_path)
    with held_open(old):
        runs.record(tmp_path, "ingest", {})
        with pytest.raises(BusyError, match="open in another program: close it there"):
            runs.load(tmp_path)
    assert len(runs.load(tmp_path)) == 4


def test_an_old_log_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / runs.OLD_FILE).write_text("not a database" * 100)
    with pytest.raises(StorageError, match=r"cannot import .*move it elsewhere"):
        runs.load(tmp_path)
    runs.record(tmp_path, "ingest", {})


def test_an_old_log_without_a_run(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / runs.OLD_FILE)).close()
    assert runs.load(tmp_path) == []
    assert not (tmp_path / runs.OLD_FILE).exists()


def test_a_full_disk_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.record(tmp_path, "ingest", {"at": 1})
    before = (tmp_path / runs.FILE).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limit[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            runs.record(tmp_path, "ingest", {"text": "x" * 10_000})  # a part of it finds room
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / runs.FILE).read_bytes() == before
    runs.record(tmp_path, "ingest", {"at": 2})
    assert [run.payload["at"] for run in runs.load(tmp_path)] == [1, 2]


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    runs.record(tmp_path, "ingest", {"at": 1})
    with (tmp_path / runs.FILE).open("a") as log:
        log.write('{"id": "2026')
    assert len(runs.load(tmp_path)) == 1  # another process may be writing it
    runs.record(tmp_path, "ingest", {"at": 2})
    with pytest.raises(StorageError, match=r"line 2 of the log .* remove that line"):
        runs.load(tmp_path)
    lines = (tmp_path / runs.FILE).read_text().splitlines(keepends=True)
    (tmp_path / runs.FILE).write_text(lines[0] + lines[2])
    assert [run.payload["at"] for run in runs.load(tmp_path)] == [1, 2]


def test_duckdb_reads_the_log(tmp_path: Path) -> None:
    runs.record(tmp_path, "evaluate", {"figures": {"hr@10": 0.25}, "lines": [{"a": 1}, {"b": "x"}]})
    runs.record(tmp_path, "tune", {"figures": {"hr@100": 0.5}, "lines": 3})
    columns = "columns = {kind: 'VARCHAR', time: 'TIMESTAMPTZ', payload: 'JSON'}"
    found = duckdb.sql(
        "SELECT kind, (payload->'figures'->>'hr@10')::DOUBLE "
        f"FROM read_json('{tmp_path / runs.FILE}', {columns}) ORDER BY time"
    ).fetchall()
    assert found == [("evaluate", 0.25), ("tune", None)]
    simple = f"SELECT count(*), min(release) FROM read_json('{tmp_path / runs.FILE}')"
    assert duckdb.sql(simple).fetchall() == [(2, None)]


def shown(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["runs", *(str(one) for one in arguments)])


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
    listed = shown("list", "--home", logged)
    assert "1,200 songs" in listed.output
    assert "hr@100" in listed.output
    assert "0.2500" in listed.output
    printed = shown("list", "--home", logged, "--json", "--kind", "evaluate", "-n", 1).output
    (evaluated,) = json.loads(printed)
    assert evaluated["figures"]["hr@100"] == 0.5
    run = evaluated["id"]
    assert json.loads(shown("show", run, "--home", logged).output)["split"] == "test"
    assert "no runs" in shown("list", "--home", logged / "none").output


def test_figures_are_plotted_over_time(logged: Path) -> None:
    bars = shown("plot", "--home", logged).output
    assert [line.split()[-1] for line in bars.splitlines()[1:]] == ["0.2500", "0.5000"]
    assert bars.splitlines()[1].count("━") * 2 == bars.splitlines()[2].count("━") == 24
    only = shown("plot", "--home", logged, "--split", "test", "--metric", "hr@10").output
    assert only.splitlines()[1:]
    assert "0.2500" in only
    assert "validation" not in only
    drawn = shown("plot", "--home", logged, "--out", logged / "runs.svg")
    assert drawn.exit_code == 0, drawn.output
    assert "<svg" in (logged / "runs.svg").read_text()
    for wrong, said, code in (
        (["--metric", "luck"], "there are hr@10, hr@100", 1),
        (["--out", "x.txt"], ".svg", 2),
    ):
        failed = shown("plot", "--home", logged, *wrong)
        assert failed.exit_code == code
        assert said in failed.output


def test_what_was_held_out_is_told_apart(logged: Path) -> None:
    figures = {"hr@10": 0.1, "hr@100": 0.125}
    tuned = {"split": "validation", "holdout": "last", "figures": figures}
    runs.record(logged, "tune", tuned)
    listed = shown("list", "--home", logged).output
    for label in ("validation, last:", "test, random:", "validation, last (tune):"):
        assert label in " ".join(listed.split())
    bars = shown("plot", "--home", logged).output
    assert ["validation, last " in line for line in bars.splitlines()[1:]] == [True, False, True]
    only = shown("plot", "--home", logged, "--holdout", "last").output.splitlines()[1:]
    assert [line.split()[-1] for line in only] == ["0.2500", "0.1250"]
    assert "(tune)" in only[1]
