"""The log of runs -> an MLflow server or folder. The library is an extra, `mlflow-skinny`.

A run goes there once: its id is a tag, by which a later export finds it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from catalog.errors import MissingExtraError, UnavailableError
from evaluation.runs.terminal import figures_of, label_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalog.progress import Reporter
    from evaluation.runs.log import Run

TAG = "nextsong.run"

EXPERIMENT = "nextsong"

LONGEST_VALUE = 500
"""Longer parameters are cut: MLflow refuses them."""

AT_ONCE = 100
"""So many parameters MLflow takes in one call."""

_NO_NAME = re.compile(r"[^\w\-. /:]+")


def export(found: Sequence[Run], uri: str, experiment: str, reporter: Reporter) -> int:
    """Write runs to the MLflow tracking server, or folder, at `uri`; returns how many were new.

    Raises `MissingExtraError`, or `UnavailableError` with what MLflow says.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise MissingExtraError("exports to MLflow", "mlflow") from error
    new = 0
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
        folder = known.experiment_id if known else client.create_experiment(experiment)
        with reporter.task("export") as task:
            for done, run in enumerate(found, start=1):
                if not client.search_runs([folder], f"tags.`{TAG}` = '{run.id}'", max_results=1):
                    _write(client, folder, run)
                    new += 1
                task.advance(done, len(found))
            task.result(f"{new:,} of {len(found):,} runs are new in experiment {experiment}")
    except (MlflowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(f"MLflow at {uri}: {first}") from error
    return new


def _write(client: Any, folder: str, run: Run) -> None:
    from mlflow.entities import Metric, Param

    at = round(run.time.timestamp() * 1000)
    tags = {TAG: run.id, "nextsong.kind": run.kind}
    named = {"nextsong.release": run.release, "nextsong.figures": label_of(run)}
    tags |= {name: value for name, value in named.items() if value}
    name = f"{run.kind} {run.id}"
    made = client.create_run(folder, start_time=at, tags=tags, run_name=name).info.run_id
    metrics = [Metric(name_of(one), value, at, 0) for one, value in figures_of(run).items()]
    params = [
        Param(one, value[:LONGEST_VALUE]) for one, value in parameters_of(run.payload).items()
    ]
    for start in range(0, max(len(params), len(metrics)), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        client.log_batch(made, metrics=metrics[part], params=params[part])
    client.set_terminated(made, end_time=at)


def name_of(metric: str) -> str:
    """A metric as MLflow takes it: `hr@10` is `hr_at_10`."""
    return _NO_NAME.sub("_", metric.replace("@", "_at_"))


def parameters_of(payload: Mapping[str, Any]) -> dict[str, str]:
    """A run's parameters and conditions as texts: single values, and those in `parameters`."""
    single = {
        name: value
        for name, value in payload.items()
        if isinstance(value, str | int | float | bool)
    }
    inner = payload.get("parameters")
    if not isinstance(inner, dict):
        inner = {}
    nested = {
        f"parameters.{name}": value
        for name, value in inner.items()
        if not isinstance(value, dict | list)
    }
    return {_NO_NAME.sub("_", name): str(value) for name, value in (single | nested).items()}
