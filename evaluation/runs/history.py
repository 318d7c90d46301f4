"""What earlier evaluations left: how often test playlists were used, and figures to compare with.

HOME/runs.jsonl              a line a run (see `evaluation.runs.log`)
HOME/evaluations/RUN.parquet what each system scored on each query of it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import InputError, StorageError
from catalog.files import make_folder, storage_errors
from evaluation.judge.slices import kinds
from evaluation.runs import log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.progress import Reporter
    from evaluation.judge.result import Evaluation
    from evaluation.metrics.ranking import Figures

KIND = "evaluate"

KEPT = ("hr@10", "hr@100", "mrr@10", "ndcg@10", "r_precision", "ndcg@500", "clicks")
"""The metrics whose figures for each query are kept."""


@dataclass(frozen=True)
class Past:
    """An evaluation of the past: its payload, and its figures for each query.

    `figures` maps system and metric to shape (queries,); `kinds` a group of slices to the name of
    each query's slice.
    """

    run: str
    payload: dict[str, Any]
    playlist_ids: list[str]
    figures: dict[tuple[str, str], Figures]
    kinds: dict[str, list[str]]

    @property
    def main(self) -> str:
        """The key of the system in question."""
        return str(self.payload["main"])

    @property
    def systems(self) -> list[str]:
        """The keys of all systems that were scored."""
        return list(dict.fromkeys(system for system, _ in self.figures))


def test_uses(home: Path, data_fingerprint: str, split_seed: int) -> int:
    """How many runs that the log remembers have scored something on these test playlists.

    Evaluations, comparisons of releases and studies of parameters count, but not those that only
    read again what an earlier one had scored. The data and the seed decide which playlists they
    are; an update of nextsong does not make unseen ones of them.
    """
    return sum(_used_test(run.payload, data_fingerprint, split_seed) for run in log.load(home))


def _used_test(payload: Mapping[str, Any], data_fingerprint: str, split_seed: int) -> bool:
    return (
        bool(payload.get("test_used", payload.get("split") == "test"))
        and payload.get("data_fingerprint") == data_fingerprint
        and payload.get("split_seed", split_seed) == split_seed
    )


def keep(home: Path, result: Evaluation, reporter: Reporter) -> None:
    """Keep an evaluation's figures for each query, and record it in the log of runs.

    What fails is reported: an evaluation that was made is never lost, and its use of the test
    playlists is counted if the log can be written.
    """
    try:
        _keep_figures(home, result)
    except StorageError as error:
        reporter.say(f"  the figures for each query are not kept: {error}")
    log.note(home, KIND, _payload(result), reporter, result.run)


def _payload(result: Evaluation) -> dict[str, Any]:
    conditions = result.conditions
    return {
        "release": conditions.release,
        "split": conditions.split,
        "holdout": conditions.holdout,
        "seed": conditions.seed,
        "playlists": conditions.playlists,
        "split_fingerprint": conditions.split_fingerprint,
        "data_fingerprint": conditions.data_fingerprint,
        "split_seed": conditions.parameters["seed"],
        "test_used": conditions.split == "test",
        "test_uses": conditions.test_uses + (conditions.split == "test"),
        "main": result.main.key,
        "figures": {
            name: figure.mean
            for name, figure in result.main.figures.items()
            if np.isfinite(figure.mean)
        },
        "lines": list(result.lines()),
    }


def _keep_figures(home: Path, result: Evaluation) -> None:
    columns: dict[str, Any] = {"playlist_id": result.queries.playlist_ids}
    for system in result.systems:
        for metric in KEPT:
            if metric in system.per_query:
                columns[f"{system.key}|{metric}"] = system.per_query[metric].astype(np.float32)
    for group, members in kinds(result.queries, result.data).items():
        names = np.full(len(result.queries), "", dtype=object)
        for name, chosen in members.items():
            names[chosen] = name
        columns[f"|{group}"] = names.tolist()
    path = make_folder(home / "evaluations") / f"{result.run}.parquet"
    with storage_errors(path):
        pq.write_table(pa.table(columns), path, compression="zstd")


def load(home: Path, name: str) -> Past:
    """An evaluation by the beginning of its id. Raises `InputError`."""
    run = log.find(home, name, KIND)
    path = home / "evaluations" / f"{run.id}.parquet"
    if not path.is_file():
        raise InputError(f"the figures of run {run.id} are gone: {path} is missing")
    table = pq.read_table(path)
    figures: dict[tuple[str, str], Figures] = {}
    groups: dict[str, list[str]] = {}
    for column in table.column_names[1:]:
        system, _, metric = column.partition("|")
        if system:
            figures[system, metric] = table[column].to_numpy().astype(np.float64)
        else:
            groups[metric] = table[column].to_pylist()
    return Past(run.id, run.payload, table["playlist_id"].to_pylist(), figures, groups)
