"""Runs in MLflow: what is written, once; with a module that stands in for the library."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from catalog.errors import MissingExtraError, UnavailableError
from catalog.progress import SilentReporter
from cli.main import main
from evaluation.runs import log, mlflow_export

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Server:
    """What the client was told."""

    experiments: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """An MLflow of a few lines, in the place of the real one."""
    server = Server()

    class RefusedError(Exception):
        pass

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            assert tracking_uri == "http://mlflow"

        def get_experiment_by_name(self, name: str) -> Any:
            if server.down:
                raise RefusedError("connection refused\nand more")
            known = server.experiments.get(name)
            return known and SimpleNamespace(experiment_id=known)

        def create_experiment(self, name: str) -> str:
            return server.experiments.setdefault(name, str(len(server.experiments)))

        def search_runs(self, folders: list[str], query: str, max_results: int) -> list[Any]:
            assert max_results == 1
            return [
                run
                for run in server.runs
                if run["folder"] in folders
                and query == f"tags.`nextsong.run` = '{run['tags']['nextsong.run']}'"
            ]

        def create_run(self, folder: str, start_time: int, tags: Any, run_name: str) -> Any:
            made = {"folder": folder, "start": start_time, "tags": tags, "name": run_name}
            server.runs.append(made | {"metrics": {}, "params": {}})
            return SimpleNamespace(info=SimpleNamespace(run_id=len(server.runs) - 1))

        def log_batch(self, run: int, metrics: list[Any], params: list[Any]) -> None:
            assert max(len(metrics), len(params)) <= mlflow_export.AT_ONCE
            server.runs[run]["metrics"] |= {one.key: one.value for one in metrics}
            server.runs[run]["params"] |= {one.key: one.value for one in params}

        def set_terminated(self, run: int, end_time: int) -> None:
            server.runs[run]["end"] = end_time

    def metric(key: str, value: float, timestamp: int, step: int) -> Any:
        return SimpleNamespace(key=key, value=value, timestamp=timestamp, step=step)

    def module(name: str, **content: Any) -> None:
        made = ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)

    module("mlflow", MlflowClient=Client)
    module("mlflow.exceptions", MlflowException=RefusedError)
    module(
        "mlflow.entities",
        Metric=metric,
        Param=lambda key, value: SimpleNamespace(key=key, value=value),
    )
    return server


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    log.record(
        tmp_path,
        "ingest",
        {
            "release": "R1",
            "published": True,
            "parameters": {"window": 60, "epochs": None, "study": {"trials": {}}},
            "sources": ["a.csv"],
        },
    )
    payload = {"release": "R1", "split": "validation", "holdout": "last", "main": "x" * 999}
    log.record(tmp_path, "evaluate", payload | {"figures": {"hr@10": 0.25, "r_precision": 0.5}})
    return tmp_path


def exported(home: Path, *more: str) -> Any:
    command = ["runs", "export", "--mlflow", "http://mlflow", "--home", str(home), "-q", *more]
    return CliRunner().invoke(main, command)


def test_runs_are_written_once(server: Server, logged: Path) -> None:
    first = exported(logged)
    assert first.exit_code == 0, first.output
    assert first.output == "2 runs written to http://mlflow\n"
    assert exported(logged).output == "0 runs written to http://mlflow\n"
    log.record(logged, "tune", {"figures": {"hr@100": 0.5}})
    assert exported(logged).output == "1 runs written to http://mlflow\n"
    ingest, evaluate, tune = server.runs
    assert ingest["params"] == {
        "release": "R1",
        "published": "True",
        "parameters.window": "60",
        "parameters.epochs": "None",
    }
    assert evaluate["metrics"] == {"hr_at_10": 0.25, "r_precision": 0.5}
    assert evaluate["tags"]["nextsong.figures"] == "validation, last"
    assert evaluate["params"]["main"] == "x" * mlflow_export.LONGEST_VALUE
    assert evaluate["start"] == evaluate["end"] > 1.7e12  # milliseconds
    assert tune["tags"]["nextsong.kind"] == "tune"


def test_runs_are_chosen_as_in_a_list(server: Server, logged: Path) -> None:
    exported(logged, "--kind", "evaluate", "--experiment", "mine")
    assert [run["name"].split()[0] for run in server.runs] == ["evaluate"]
    assert server.experiments.keys() == {"mine"}


def test_a_server_that_is_down_is_one_line(server: Server, logged: Path) -> None:
    server.down = True
    with pytest.raises(UnavailableError, match=r"MLflow at http://mlflow: connection refused$"):
        mlflow_export.export(log.load(logged), "http://mlflow", "nextsong", SilentReporter())


def test_without_the_library(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[mlflow\]'"):
        mlflow_export.export(log.load(logged), "http://mlflow", "nextsong", SilentReporter())


def test_names_that_mlflow_takes() -> None:
    assert mlflow_export.name_of("ndcg@500") == "ndcg_at_500"
    assert mlflow_export.name_of("a, b") == "a_ b"
