"""Export of runs to MLflow, with a fake module in place of the library."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.errors import MissingExtraError, UnavailableError
from cli.main import main
from evaluation.runs import log, mlflow_export

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class FakeServer:
    """An MLflow server that keeps runs in memory."""

    experiments: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """Install a fake module `mlflow`, and return the server to which its client writes."""
    server = FakeServer()

    class RefusedError(Exception):
        pass

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            assert tracking_uri == "http://mlflow"

        def get_experiment_by_name(self, name: str) -> Any:
            if server.down:
                raise RefusedError("connection refused\nand more")
            number = server.experiments.get(name)
            return number and SimpleNamespace(experiment_id=number)

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
            run = {"folder": folder, "start": start_time, "tags": tags, "name": run_name}
            server.runs.append(run | {"metrics": {}, "params": {}})
            return SimpleNamespace(info=SimpleNamespace(run_id=len(server.runs) - 1))

        def log_batch(self, run: int, metrics: list[Any], params: list[Any]) -> None:
            assert max(len(metrics), len(params)) <= mlflow_export.BATCH_SIZE
            server.runs[run]["metrics"] |= {metric.key: metric.value for metric in metrics}
            server.runs[run]["params"] |= {param.key: param.value for param in params}

        def set_terminated(self, run: int, end_time: int) -> None:
            server.runs[run]["end"] = end_time

    def metric(key: str, value: float, timestamp: int, step: int) -> Any:
        return SimpleNamespace(key=key, value=value, timestamp=timestamp, step=step)

    def install(name: str, **content: Any) -> None:
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    install("mlflow", MlflowClient=Client)
    install("mlflow.exceptions", MlflowException=RefusedError)
    install(
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


def export(home: Path, *more: str) -> Any:
    command = ["runs", "export", "--mlflow", "http://mlflow", "--home", str(home), "-q", *more]
    return CliRunner().invoke(main, command)


def test_runs_are_written_once(server: FakeServer, logged: Path) -> None:
    first = export(logged)
    assert first.exit_code == 0, first.output
    assert first.output == "2 runs written to http://mlflow\n"
    assert export(logged).output == "0 runs written to http://mlflow\n"
    log.record(logged, "tune", {"figures": {"hr@100": 0.5}})
    assert export(logged).output == "1 runs written to http://mlflow\n"
    ingest, evaluate, tune = server.runs
    assert ingest["params"] == {
        "release": "R1",
        "published": "True",
        "parameters.window": "60",
        "parameters.epochs": "None",
    }
    assert evaluate["metrics"] == {"hr_at_10": 0.25, "r_precision": 0.5}
    assert evaluate["tags"]["nextsong.figures"] == "validation, last"
    assert evaluate["params"]["main"] == "x" * mlflow_export.MAX_VALUE_LENGTH
    assert evaluate["start"] == evaluate["end"] > 1.7e12  # in milliseconds
    assert tune["tags"]["nextsong.kind"] == "tune"


def test_exported_runs_are_filtered(server: FakeServer, logged: Path) -> None:
    export(logged, "--kind", "evaluate", "--experiment", "mine")
    assert [run["name"].split()[0] for run in server.runs] == ["evaluate"]
    assert server.experiments.keys() == {"mine"}


def test_an_unreachable_server_is_reported_in_one_line(server: FakeServer, logged: Path) -> None:
    server.down = True
    with pytest.raises(UnavailableError, match=r"MLflow at http://mlflow: connection refused$"):
        mlflow_export.export(log.load(logged), "http://mlflow", "nextsong", SilentReporter())


def test_a_missing_library_is_reported(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[mlflow\]'"):
        mlflow_export.export(log.load(logged), "http://mlflow", "nextsong", SilentReporter())


def test_names_are_written_in_characters_that_mlflow_accepts() -> None:
    assert mlflow_export.to_mlflow_name("ndcg@500") == "ndcg_at_500"
    assert mlflow_export.to_mlflow_name("a, b") == "a_ b"
