"""The log of runs: what is written is read back, by several processes at once too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from catalog.errors import BusyError, InputError, StorageError
from evaluation import runs
from evaluation.main import main

ROOT = Path(__file__).parents[1]


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
        "import sys\nfrom pathlib import Path\nfrom evaluation.runs import record\n"
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


def test_another_program_that_has_the_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.record(tmp_path, "ingest", {})
    monkeypatch.setattr(runs, "PATIENCE_S", 0.3)
    code = (
        "import duckdb, sys\nc = duckdb.connect(sys.argv[1])\n"
        "print('open', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / runs.FILE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BusyError, match="another program"):
            runs.record(tmp_path, "ingest", {})
        other.stdin.close()
    assert len(runs.load(tmp_path)) == 1


def test_a_file_that_is_no_log(tmp_path: Path) -> None:
    (tmp_path / runs.FILE).write_text("not a database" * 100)
    with pytest.raises(StorageError, match="log of runs"):
        runs.record(tmp_path, "ingest", {})


def test_the_log_is_plain_duckdb(tmp_path: Path) -> None:
    runs.record(tmp_path, "evaluate", {"figures": {"hr@10": 0.25}})
    with duckdb.connect(str(tmp_path / runs.FILE), read_only=True) as log:
        query = """SELECT kind, (payload->'figures'->>'hr@10')::DOUBLE FROM runs"""
        assert log.execute(query).fetchall() == [("evaluate", 0.25)]


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
