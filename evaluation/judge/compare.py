"""Comparison of two recorded evaluations, or of two releases that are scored for the comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import InputError, MismatchError
from evaluation.judge.comparison import ChangeReport, measure_changes
from evaluation.judge.scoring import get_depth, score_system
from evaluation.judge.slices import group_cases
from evaluation.protocol.cases import load_cases
from evaluation.protocol.dataset import is_ordered, load_dataset
from evaluation.runs import history, log
from evaluation.systems.release import Release
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.console.progress import Reporter
    from catalog.manifest import Manifest
    from catalog.store import OpenRelease
    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.cases import Holdout, Split
    from evaluation.runs.history import RecordedEvaluation
    from evaluation.systems.location import StoreLocation

KIND = "compare"  # the kind of a comparison in the log of runs


@dataclass(frozen=True)
class CaseSelection:
    """The selection of the cases on which two releases are compared.

    If `holdout` is None, the last song of each playlist is held out, or a random song if the
    playlists are not in play order. `sample` is the maximum number of cases.
    """

    split: Split = "validation"
    holdout: Holdout | None = None
    sample: int | None = None


def compare_named(
    location: StoreLocation,
    before: str,
    after: str,
    work: Path,
    reporter: Reporter,
    selection: CaseSelection,
) -> ChangeReport:
    """Compare two releases or two recorded evaluations, given by their ids, and log the result.

    Releases are scored on the cases that `selection` defines. Recorded evaluations are compared by
    their recorded figures, and `selection` is ignored. Raises `InputError` if one id is a release
    and the other an evaluation. If the log of runs cannot be written, a message is reported, and
    `ChangeReport.run` is empty.
    """
    release_ids = location.release_ids()
    old_ids = [release for release in release_ids if release.startswith(before)]
    new_ids = [release for release in release_ids if release.startswith(after)]
    if len(old_ids) == len(new_ids) == 1:
        report, conditions = _compare_published(
            location, (old_ids[0], new_ids[0]), work, reporter, selection
        )
    elif old_ids or new_ids:
        raise InputError(
            f"'{before}' and '{after}' are neither two runs nor two releases: list them with "
            f"`nextsong runs list` and `nextsong releases list`"
        )
    else:
        report, conditions = compare_runs(location.folder, before, after), {}
    run = log.note(location.folder, KIND, _to_payload(report) | conditions, reporter)
    return replace(report, run=run or "")


def _compare_published(
    location: StoreLocation,
    releases: tuple[str, str],
    work: Path,
    reporter: Reporter,
    selection: CaseSelection,
) -> tuple[ChangeReport, dict[str, Any]]:
    """Compare two published releases.

    Returns the report, and additional fields for the log of runs.
    """
    old, new = map(location.open_release, releases)
    try:
        origin = new.manifest.origin
        split_seed = int(origin.parameters["seed"])
        test_uses = history.count_test_uses(location.folder, origin.data_fingerprint, split_seed)
        report = compare_releases(old, new, work, reporter, selection, location)
    finally:
        old.close()
        new.close()
    uses_test = selection.split == "test"
    if uses_test:
        warnings = history.warn_of_test_uses(test_uses)
        report = replace(report, remarks=(*report.remarks, *warnings))
    return report, {
        "release": new.manifest.release,
        "data_fingerprint": finished_stage(work, "read").inputs["data"],
        "split_seed": split_seed,
        "test_used": uses_test,
    }


def _to_payload(report: ChangeReport) -> dict[str, Any]:
    return {
        "before": report.before,
        "after": report.after,
        "split": report.split,
        "holdout": report.holdout,
        "test_used": False,
        "playlists": report.queries,
        "figures": {row.metric: row.after.mean for row in report.rows},
        "figures_before": {row.metric: row.before.mean for row in report.rows},
        "verdicts": {row.metric: row.verdict for row in report.rows},
    }


def compare_runs(home: Path, before: str, after: str) -> ChangeReport:
    """Compare two recorded evaluations on the playlists that were scored in both.

    `before` and `after` have the form RUN:SYSTEM, or RUN for the first system of the run. Raises
    `InputError` if a run or system does not exist, or `MismatchError` if the held-out cases of the
    two runs cannot be compared.
    """
    old, old_system = _load_run(home, before)
    new, new_system = _load_run(home, after)
    _require_comparable(old, new)
    old_row = {playlist_id: row for row, playlist_id in enumerate(old.playlist_ids)}
    new_rows = [row for row, name in enumerate(new.playlist_ids) if name in old_row]
    old_rows = [old_row[new.playlist_ids[row]] for row in new_rows]
    if not new_rows:
        raise MismatchError(f"runs {old.run} and {new.run} have no playlist in common")
    slices = {
        group: _group_by_name([names[row] for row in new_rows])
        for group, names in new.slices.items()
    }
    rows, slice_rows = measure_changes(
        {
            metric: figures[old_rows]
            for (key, metric), figures in old.figures.items()
            if key == old_system
        },
        {
            metric: figures[new_rows]
            for (key, metric), figures in new.figures.items()
            if key == new_system
        },
        slices,
    )
    return ChangeReport(
        before=f"run {old.run}, release {old.payload['release']}, {old_system}",
        after=f"run {new.run}, release {new.payload['release']}, {new_system}",
        queries=len(new_rows),
        left_out=len(old.playlist_ids) + len(new.playlist_ids) - 2 * len(new_rows),
        rows=rows,
        slices=slice_rows,
        split=new.payload["split"],
        holdout=new.payload["holdout"],
    )


def _load_run(home: Path, name: str) -> tuple[RecordedEvaluation, str]:
    """Return the evaluation and the system key for RUN or RUN:SYSTEM. Raises `InputError`."""
    run, colon, system = name.partition(":")
    recorded = history.load_evaluation(home, run)
    if colon and system not in recorded.systems:
        raise InputError(
            f"run {recorded.run} has no system '{system}': choose from "
            f"{', '.join(recorded.systems)}"
        )
    return recorded, system or recorded.main


def _require_comparable(old: RecordedEvaluation, new: RecordedEvaluation) -> None:
    """Raise `MismatchError` if the same playlist may have different labels in the two runs."""
    for name in ("split", "holdout", "seed"):
        if old.payload[name] != new.payload[name]:
            raise MismatchError(
                f"runs {old.run} and {new.run} cannot be compared: {name} is {old.payload[name]} "
                f"in the first and {new.payload[name]} in the second"
            )
    if old.payload["data_fingerprint"] != new.payload["data_fingerprint"]:
        raise MismatchError(
            f"runs {old.run} and {new.run} cannot be compared: their data differ, so a playlist "
            f"may have different last songs in the two runs; compare the two releases instead"
        )


def _group_by_name(names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return a mask of the cases in each slice, shape (cases,). `names` has a slice per case."""
    array = np.array(names, dtype=object)
    return {name: array == name for name in dict.fromkeys(names) if name}


def compare_releases(
    before: OpenRelease,
    after: OpenRelease,
    work: Path,
    reporter: Reporter,
    selection: CaseSelection,
    location: StoreLocation | None = None,
) -> ChangeReport:
    """Score two releases on the same held-out cases of a work folder.

    `location` is the store of both releases, with which several processes can open them. If it is
    None, because a release is not published yet, this process alone searches them. Raises
    `MismatchError` if neither release was made in the work folder, or if their splits have
    different seeds.
    """
    manifests = (before.manifest, after.manifest)
    foreign = _find_foreign(manifests, work)
    # The dataset must be read with the parameters of the release that was made in this work folder.
    manifest = before.manifest if after.manifest in foreign else after.manifest
    parameters = manifest.origin.parameters
    holdout = selection.holdout or ("last" if is_ordered(parameters) else "random")
    cases = load_cases(work, selection.split, holdout, 0, manifest)
    available = len(cases)
    if selection.sample is not None:
        cases = cases.sample(selection.sample, 0)
    dataset = load_dataset(work, parameters)

    def score_release(release: OpenRelease) -> Mapping[str, Figures]:
        opens = partial(location.open_release, release.manifest.release) if location else None
        system = Release(release, dataset, "auto", opens)
        return score_system(system, cases, dataset, get_depth(holdout), reporter).per_query

    rows, slice_rows = measure_changes(
        score_release(before), score_release(after), group_cases(cases, dataset)
    )
    return ChangeReport(
        before=f"release {before.manifest.release}",
        after=f"release {after.manifest.release}",
        queries=len(cases),
        left_out=0,
        rows=rows,
        slices=slice_rows,
        split=selection.split,
        holdout=holdout,
        available=available,
        remarks=tuple(
            f"release {manifest.release} was made from other playlists or by another version of "
            f"nextsong: only the ids of playlists show that it was not trained on these playlists"
            for manifest in foreign
        ),
    )


def _find_foreign(manifests: tuple[Manifest, Manifest], work: Path) -> list[Manifest]:
    """Return the manifests of the releases that were not made in the work folder.

    Raises `MismatchError` if the two releases split the playlists with different seeds, because
    each release was then trained on playlists that the other release holds out.
    """
    before, after = manifests
    if before.origin.parameters["seed"] != after.origin.parameters["seed"]:
        raise MismatchError(
            f"releases {before.release} and {after.release} cannot be compared: their playlists "
            f"are split with different seeds"
        )
    fingerprint = finished_stage(work, "split").fingerprint
    return [manifest for manifest in manifests if manifest.origin.split_fingerprint != fingerprint]
