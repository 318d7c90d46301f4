"""Export of the log of runs to MLflow, which the extra `mlflow` (`mlflow-skinny`) installs.

Each run is exported once. A later export recognises an exported run by the tag `TAG`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from catalog.errors import MissingExtraError, UnavailableError
from evaluation.runs.terminal import get_figures, make_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalog.console.progress import Reporter
    from evaluation.runs.log import Run

TAG = "nextsong.run"  # the tag that holds the id of the run in the log of runs

MAX_VALUE_LENGTH = 500  # maximum characters of a parameter; MLflow refuses longer values

BATCH_SIZE = 100  # maximum number of parameters that MLflow accepts in one call

_INVALID_IN_NAMES = re.compile(r"[^\w\-. /:]+")


def export(runs: Sequence[Run], uri: str, experiment: str, reporter: Reporter) -> int:
    """Write runs to the MLflow tracking server or folder at `uri`.

    Returns the number of runs that were newly exported. Raises `MissingExtraError`, or
    `UnavailableError` with MLflow's message.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise MissingExtraError("exports to MLflow", "mlflow") from error
    exported = 0
    try:
        client = MlflowClient(tracking_uri=uri)
        existing = client.get_experiment_by_name(experiment)
        experiment_id = existing.experiment_id if existing else client.create_experiment(experiment)
        with reporter.task("export") as task:
            for done, run in enumerate(runs, start=1):
                query = f"tags.`{TAG}` = '{run.id}'"
                if not client.search_runs([experiment_id], query, max_results=1):
                    _write_run(client, experiment_id, run)
                    exported += 1
                task.advance(done, len(runs))
            task.result(f"{exported:,} of {len(runs):,} runs are new in experiment {experiment}")
    except (MlflowException, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(f"MLflow at {uri}: {first_line}") from error
    return exported


def _write_run(client: Any, experiment_id: str, run: Run) -> None:
    from mlflow.entities import Metric, Param

    time = round(run.time.timestamp() * 1000)  # MLflow expects milliseconds
    optional_tags = {"nextsong.release": run.release, "nextsong.figures": make_label(run)}
    tags = {TAG: run.id, "nextsong.kind": run.kind}
    tags |= {name: value for name, value in optional_tags.items() if value}
    created = client.create_run(
        experiment_id, start_time=time, tags=tags, run_name=f"{run.kind} {run.id}"
    )
    mlflow_id = created.info.run_id
    metrics = [
        Metric(to_mlflow_name(name), value, time, 0) for name, value in get_figures(run).items()
    ]
    params = [
        Param(name, value[:MAX_VALUE_LENGTH])
        for name, value in list_parameters(run.payload).items()
    ]
    for start in range(0, max(len(params), len(metrics)), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        client.log_batch(mlflow_id, metrics=metrics[batch], params=params[batch])
    client.set_terminated(mlflow_id, end_time=time)


def to_mlflow_name(metric: str) -> str:
    """Return a name that MLflow accepts for a metric: `hr@10` becomes `hr_at_10`."""
    return _INVALID_IN_NAMES.sub("_", metric.replace("@", "_at_"))


def list_parameters(payload: Mapping[str, Any]) -> dict[str, str]:
    """Return the numbers and texts of a run's payload and of its field `parameters`, as texts."""
    values = {
        name: value
        for name, value in payload.items()
        if isinstance(value, str | int | float | bool)
    }
    parameters = payload.get("parameters")
    if isinstance(parameters, dict):
        values |= {
            f"parameters.{name}": value
            for name, value in parameters.items()
            if not isinstance(value, dict | list)
        }
    return {_INVALID_IN_NAMES.sub("_", name): str(value) for name, value in values.items()}
