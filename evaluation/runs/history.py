"""Recorded evaluations: how often the test playlists were used, and the figures of each query.

HOME/runs.jsonl               one line for each run (see `evaluation.runs.log`)
HOME/evaluations/RUN.parquet  the figures of each system for each query
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import InputError, StorageError
from catalog.files import make_folder, storage_errors
from evaluation.judge.comparison import ALL_METRICS
from evaluation.judge.slices import group_cases
from evaluation.runs import log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.console.progress import Reporter
    from evaluation.judge.result import Evaluation
    from evaluation.metrics.ranking import Figures

KIND = "evaluate"  # the kind of an evaluation in the log of runs


@dataclass(frozen=True)
class RecordedEvaluation:
    """An evaluation from the log of runs, with its figures per query.

    - `run`, `payload`: id and payload of the run in the log.
    - `figures`: array of shape (queries,) for each (system, metric).
    - `slices`: for each group of slices, the name of each query's slice.
    """

    run: str
    payload: dict[str, Any]
    playlist_ids: list[str]
    figures: dict[tuple[str, str], Figures]
    slices: dict[str, list[str]]

    @property
    def main(self) -> str:
        """The key of the main system, with which all others are compared."""
        return str(self.payload["main"])

    @property
    def systems(self) -> list[str]:
        """The keys of all systems."""
        return list(dict.fromkeys(system for system, _ in self.figures))


def count_test_uses(home: Path, data_fingerprint: str, split_seed: int) -> int:
    """Return the number of logged runs that scored the test playlists of this data and split seed.

    Evaluations, comparisons of releases and tuning runs count, but comparisons of recorded figures
    do not. Runs of all versions of nextsong count.
    """
    return sum(_uses_test(run.payload, data_fingerprint, split_seed) for run in log.load(home))


def _uses_test(payload: Mapping[str, Any], data_fingerprint: str, split_seed: int) -> bool:
    return (
        bool(payload.get("test_used", payload.get("split") == "test"))
        and payload.get("data_fingerprint") == data_fingerprint
        and payload.get("split_seed", split_seed) == split_seed
    )


def warn_of_test_uses(count: int) -> list[str]:
    """Return a warning that the test playlists have been used before, or [] if `count` is 0."""
    if not count:
        return []
    times = "once" if count == 1 else f"{count} times"
    uses = f"these test playlists have been used {times} before, according to {log.FILE}"
    return [f"{uses}: make choices with --split validation"]


def record_evaluation(home: Path, result: Evaluation, reporter: Reporter) -> None:
    """Write an evaluation's figures per query, and add it to the log of runs.

    If writing fails, a message is reported and no error is raised, because the result is still
    useful.
    """
    try:
        _write_figures(home, result)
    except StorageError as error:
        reporter.say(f"  the figures for each query are not recorded: {error}")
    log.note(home, KIND, _to_payload(result), reporter, result.run)


def _to_payload(result: Evaluation) -> dict[str, Any]:
    conditions = result.conditions
    uses_test = conditions.split == "test"
    return {
        "release": conditions.release,
        "split": conditions.split,
        "holdout": conditions.holdout,
        "seed": conditions.seed,
        "playlists": conditions.playlists,
        "split_fingerprint": conditions.split_fingerprint,
        "data_fingerprint": conditions.data_fingerprint,
        "split_seed": conditions.parameters["seed"],
        "test_used": uses_test,
        "test_uses": conditions.test_uses + uses_test,
        "main": result.main.key,
        "figures": {
            metric: figure.mean
            for metric, figure in result.main.figures.items()
            if np.isfinite(figure.mean)
        },
        "lines": list(result.lines()),
    }


def _write_figures(home: Path, result: Evaluation) -> None:
    columns: dict[str, Any] = {"playlist_id": result.cases.playlist_ids}
    for system in result.systems:
        for metric in ALL_METRICS:
            if metric in system.per_query:
                columns[f"{system.key}|{metric}"] = system.per_query[metric].astype(np.float32)
    for group, members_by_name in group_cases(result.cases, result.dataset).items():
        names = np.full(len(result.cases), "", dtype=object)
        for name, members in members_by_name.items():
            names[members] = name
        columns[f"|{group}"] = names.tolist()
    path = make_folder(home / "evaluations") / f"{result.run}.parquet"
    with storage_errors(path):
        pq.write_table(pa.table(columns), path, compression="zstd")


def load_evaluation(home: Path, prefix: str) -> RecordedEvaluation:
    """Load the evaluation whose id begins with `prefix`.

    Raises `InputError` if no evaluation or several match, or if its figures are missing.
    """
    run = log.find(home, prefix, KIND)
    path = home / "evaluations" / f"{run.id}.parquet"
    if not path.is_file():
        raise InputError(f"the figures of run {run.id} cannot be read: {path} is missing")
    table = pq.read_table(path)
    figures: dict[tuple[str, str], Figures] = {}
    slices: dict[str, list[str]] = {}
    for column in table.column_names[1:]:
        system, _, metric_or_group = column.partition("|")
        if system:
            figures[system, metric_or_group] = table[column].to_numpy().astype(np.float64)
        else:
            slices[metric_or_group] = table[column].to_pylist()
    return RecordedEvaluation(
        run.id, run.payload, table["playlist_id"].to_pylist(), figures, slices
    )
