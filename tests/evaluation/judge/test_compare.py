"""Comparison of two runs or two releases, and the gate of `ingest run`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.errors import GateError, InputError, MismatchError
from cli.main import main
from evaluation.judge import compare, gate, harness
from evaluation.judge.compare import CaseSelection
from evaluation.judge.comparison import measure_changes
from evaluation.protocol.cases import load_cases
from evaluation.report import terminal as terminal_report
from evaluation.runs import log
from evaluation.systems import release as systems
from evaluation.systems.location import StoreLocation
from ingest import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evaluation.judge.comparison import ChangeReport
    from tests.support.pipeline_runs import Lane
    from tests.support.road import Terminal


PLAN = harness.Plan(
    split="validation", modes=("auto",), baselines=("random",), behaviours=False, recall=False
)


ALL_CASES = CaseSelection()


def verdicts(report: ChangeReport) -> dict[str, str]:
    return {row.metric: row.verdict for row in report.rows}


def test_changes_have_means_differences_and_verdicts() -> None:
    random = np.random.default_rng(0)
    old = (random.random(400) < 0.2).astype(float)
    new = np.maximum(old, random.random(400) < 0.2)
    slices = {"group": {"first half": np.arange(400) < 200, "few": np.arange(400) < 5}}
    (row,), slice_rows = measure_changes({"hr@10": old}, {"hr@10": new}, slices)
    assert row.before.mean == old.mean()
    assert row.after.mean == new.mean()
    assert row.difference.mean == pytest.approx(new.mean() - old.mean())
    assert row.verdict == "better"
    assert [(change.name, change.queries) for change in slice_rows] == [("first half", 200)]
    (reverse,), _ = measure_changes({"hr@10": new}, {"hr@10": old}, {})
    assert reverse.verdict == "worse"
    (none,), _ = measure_changes({"hr@10": old}, {"hr@10": old}, {})
    assert none.verdict == "same"


def test_fewer_clicks_are_better() -> None:
    (row,), _ = measure_changes({"clicks": np.full(30, 20.0)}, {"clicks": np.full(30, 2.0)}, {})
    assert row.verdict == "better"


def test_a_worse_release_is_not_published(lane: Lane) -> None:
    before = lane.home.current()
    location = StoreLocation(lane.home.path)
    publication_gate: Any = gate.make_publication_gate(lane.home, SilentReporter())
    changes = {"dense_recency": 9.0, "recency": 9.0, "neighbours": 1, "dimensions": 2, "epochs": 1}
    parameters = replace(lane.road.parameters, **changes)
    with pytest.raises(GateError, match=r"significantly worse .*hr@100 0\.\d+ -> 0\.\d+"):
        pipeline.run(
            [lane.file],
            lane.home,
            lane.work,
            parameters,
            SilentReporter(),
            pipeline.RunOptions(gate=publication_gate),
        )
    assert lane.home.current() == before
    assert location.release_ids() == [before]
    lane.home.open().close()
    outcome = pipeline.run(
        [lane.file],
        lane.home,
        lane.work,
        replace(lane.road.parameters, dense_recency=0.6),
        SilentReporter(),
        pipeline.RunOptions(gate=publication_gate),
    )
    assert lane.home.current() == outcome.manifest.release != before

    report = compare.compare_named(
        location,
        str(before),
        outcome.manifest.release,
        lane.work,
        SilentReporter(),
        ALL_CASES,
    )
    assert set(verdicts(report).values()) == {"same"}
    assert report.queries == lane.road.outcome.stages.split.summary.validation
    with pytest.raises(InputError, match="are neither two runs nor two releases"):
        compare.compare_named(
            location, str(before), "nothing", lane.work, SilentReporter(), ALL_CASES
        )


def test_the_gate_passes_a_first_release(lane: Lane, tmp_path: Path) -> None:
    class Listener(SilentReporter):
        def say(self, text: str) -> None:
            said.append(text.strip())

    said: list[str] = []
    store = StoreLocation(tmp_path / "new").open_store()
    pass_gate = gate.make_publication_gate(store, Listener())
    release = lane.home.open()
    pass_gate(release, lane.work)
    release.close()
    assert said == ["gate       no current release to compare with"]


def test_releases_of_different_splits_are_not_compared(lane: Lane) -> None:
    release = lane.home.open()
    origin = release.manifest.origin
    other = replace(origin, parameters=origin.parameters | {"seed": 9})

    class Other:
        manifest = replace(release.manifest, origin=other)

    with pytest.raises(MismatchError, match="split with different seeds"):
        compare.compare_releases(Other(), release, lane.work, SilentReporter(), ALL_CASES)  # type: ignore[arg-type]
    release.close()


def test_an_older_release_may_have_songs_that_the_data_lacks(lane: Lane, tmp_path: Path) -> None:
    lines = lane.file.read_text().splitlines()
    ids = sorted({line.split(",")[0] for line in lines[1:]})
    half = {*ids[: len(ids) // 2]}
    kept = [lines[0], *(line for line in lines[1:] if line.split(",")[0] in half)]
    before = lane.home.current()
    lane.file = tmp_path / "fewer.csv"
    lane.file.write_text("\n".join(kept) + "\n")
    publication_gate: Any = gate.make_publication_gate(lane.home, SilentReporter())
    after = pipeline.run(
        [lane.file],
        lane.home,
        lane.work,
        lane.road.parameters,
        SilentReporter(),
        pipeline.RunOptions(gate=publication_gate),
    ).manifest
    assert after.counts.songs < lane.home.manifest(str(before)).counts.songs
    location = StoreLocation(lane.home.path)
    report = compare.compare_named(
        location, str(before), after.release, lane.work, SilentReporter(), ALL_CASES
    )
    assert report.queries == len(load_cases(lane.work, "validation", "last", 0))
    assert "was made from other playlists or by another version" in report.remarks[0]


def test_one_release_must_belong_to_the_work_folder(lane: Lane) -> None:
    release = lane.home.open()
    origin = replace(release.manifest.origin, split_fingerprint="0" * 64)

    class Other:
        manifest = replace(release.manifest, origin=origin)

    with pytest.raises(MismatchError, match="was not made from the playlists"):
        compare.compare_releases(Other(), Other(), lane.work, SilentReporter(), ALL_CASES)  # type: ignore[arg-type]
    release.close()


def test_a_gate_uses_a_sample(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SAMPLE", 30)
    release = lane.home.open()
    report = gate.require_not_worse(release, release, lane.work, SilentReporter())
    release.close()
    assert report.queries == 30
    assert report.available > 30
    assert report.remarks == ()


@pytest.mark.slow
def test_published_releases_are_compared_in_several_processes(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "MIN_CASES_FOR_PROCESSES", 1)
    release, location = str(lane.home.current()), StoreLocation(lane.home.path)
    report = compare.compare_named(
        location, release, release, lane.work, SilentReporter(), ALL_CASES
    )
    assert [row.difference.mean for row in report.rows] == [0.0] * len(report.rows)
    assert {row.verdict for row in report.rows} == {"same"}


def test_comparisons_are_logged_and_uses_of_test_counted(lane: Lane) -> None:
    release, location = str(lane.home.current()), StoreLocation(lane.home.path)
    for split, uses in (("validation", 0), ("test", 0), ("test", 1)):
        report = compare.compare_named(
            location, release, release, lane.work, SilentReporter(), CaseSelection(split, sample=20)
        )
        payload = log.find(location.folder, report.run).payload
        assert payload["split"] == split
        assert payload["holdout"] == "last"
        assert payload["test_used"] == (split == "test")
        assert payload["figures"]["hr@100"] == report.rows[1].after.mean
        assert [remark for remark in report.remarks if "used once before" in remark] == (
            report.remarks and [*report.remarks] if uses else []
        )
    # Comparing recorded figures does not use the test playlists.
    plan = replace(PLAN, split="test", sample=20)
    first = harness.evaluate(location, lane.work, plan, SilentReporter())
    assert first.conditions.test_uses == 2
    compare.compare_named(
        location, first.run, first.run, lane.work, SilentReporter(), CaseSelection("test")
    )
    assert harness.evaluate(location, lane.work, plan, SilentReporter()).conditions.test_uses == 3
    assert [run.kind for run in log.load(location.folder, kind="compare")] == ["compare"] * 4


def test_two_runs_are_compared_as_recorded(lane: Lane, terminal: Callable[[int], Terminal]) -> None:
    location = StoreLocation(lane.home.path)
    first = harness.evaluate(location, lane.work, PLAN, SilentReporter())
    second = harness.evaluate(
        location, lane.work, replace(PLAN, modes=("dense",)), SilentReporter()
    )
    other = harness.evaluate(location, lane.work, replace(PLAN, split="test"), SilentReporter())
    report = compare.compare_runs(location.folder, first.run, second.run)
    assert report.queries == first.conditions.playlists
    by_metric = {row.metric: row for row in report.rows}
    assert by_metric["hr@100"].before.mean == first.main.figures["hr@100"].mean
    assert by_metric["hr@100"].after.mean == second.main.figures["hr@100"].mean
    assert by_metric["hr@100"].difference.mean == pytest.approx(
        second.main.figures["hr@100"].mean - first.main.figures["hr@100"].mean
    )
    assert {row.group for row in report.slices} >= {"popularity of the label"}
    with pytest.raises(MismatchError, match="split is validation in the first"):
        compare.compare_runs(location.folder, first.run, other.run)
    folders = ["--home", str(location.folder), "--work", str(lane.work), "-q"]
    shown = CliRunner().invoke(main, ["evaluate", "compare", first.run, second.run, *folders])
    assert shown.exit_code == 0, shown.output
    for word in ("before: run", "after:  run", "HR@100", "difference", "by slice of the queries"):
        assert word in shown.output
    screen = terminal(80)
    terminal_report.print_changes(report)
    written = screen.shown()
    tables = [line for line in written.splitlines() if "release" not in line]
    assert any("─" in line for line in tables)  # tables have horizontal lines, as on a terminal
    assert max(map(len, tables)) <= 80
    assert "…" not in written  # no text is truncated
    for heading in ("queries", "HR@10 change", "HR@100 change", "known songs of the query"):
        assert heading in " ".join(shown.output.split())
    printed = CliRunner().invoke(
        main, ["evaluate", "compare", first.run, second.run, *folders, "--json"]
    )
    assert json.loads(printed.output)["queries"] == report.queries
    within_run = compare.compare_runs(
        location.folder, f"{first.run}:random", f"{first.run}:nextsong"
    )
    figures = {system.key: system.figures for system in first.systems}
    for row in within_run.rows:
        assert row.before.mean == pytest.approx(figures["random"][row.metric].mean, rel=1e-6)
        assert row.after.mean == pytest.approx(figures["nextsong"][row.metric].mean, rel=1e-6)
    assert within_run.before.endswith("random")
    with pytest.raises(InputError, match="has no system 'als': choose from nextsong, random"):
        compare.compare_runs(location.folder, f"{first.run}:als", first.run)
    missing = CliRunner().invoke(main, ["evaluate", "compare", "x", "y", *folders])
    assert missing.exit_code == 1
    assert "no run x" in missing.output


def test_samples_are_compared_on_shared_playlists(lane: Lane) -> None:
    location = StoreLocation(lane.home.path)
    sampled = [
        harness.evaluate(location, lane.work, replace(PLAN, sample=size), SilentReporter())
        for size in (60, 40)
    ]
    ids = [set(result.cases.playlist_ids) for result in sampled]
    shared = ids[0] & ids[1]
    assert 0 < len(shared) < 60
    report = compare.compare_runs(location.folder, sampled[0].run, sampled[1].run)
    assert report.queries == len(shared)
    assert report.left_out == 60 + 40 - 2 * len(shared)
    assert set(verdicts(report).values()) == {"same"}


@pytest.mark.slow
def test_the_command_ingest_run_is_logged_and_gated(lane: Lane) -> None:
    command = ["ingest", "run", str(lane.file), "--home", str(lane.home.path)]
    command += ["--work", str(lane.work), "--gate"]
    same = [f"--{name}={getattr(lane.road.parameters, name)}" for name in ("dimensions", "epochs")]
    command += ["--min-count", str(lane.road.parameters.min_count), "--workers", "1"]
    before = lane.home.current()
    worse = CliRunner().invoke(
        main, [*command, "--recency=9", "--neighbours=1", "--dimensions=2", "--epochs=1"]
    )
    assert worse.exit_code == 1, worse.output
    assert "significantly worse" in worse.output
    assert lane.home.current() == before
    passed = CliRunner().invoke(main, [*command, *same, "--dense-recency=0.6"])
    assert passed.exit_code == 0, passed.output
    assert "not significantly worse" in passed.output
    (run,) = log.load(lane.home.path, kind="ingest")
    assert run.release == lane.home.current() != before
    assert run.payload["published"] is True
    assert run.payload["parameters"]["dense_recency"] == 0.6
