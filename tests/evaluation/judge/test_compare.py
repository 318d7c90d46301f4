"""Two runs or two releases side by side, and what `ingest run --gate` makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from catalog.errors import GateError, InputError, MismatchError
from catalog.progress import SilentReporter
from cli.main import main
from evaluation.judge import compare, gate, harness
from evaluation.protocol.cases import load_queries
from evaluation.report import comparison_table
from evaluation.runs import log
from evaluation.systems.location import Place
from ingest import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evaluation.judge.compare import Contest
    from tests.support.pipeline_runs import Lane
    from tests.support.road import Terminal


PLAN = harness.Plan(
    split="validation", modes=("auto",), baselines=("random",), behaviours=False, recall=False
)


def verdicts(found: Contest) -> dict[str, str]:
    return {row.metric: row.verdict for row in found.rows}


def test_figures_side_by_side_by_hand() -> None:
    random = np.random.default_rng(0)
    old = (random.random(400) < 0.2).astype(float)
    new = np.maximum(old, random.random(400) < 0.2)
    half = np.arange(400) < 200
    found = compare._contest(
        "a",
        "b",
        {"hr@10": old},
        {"hr@10": new},
        {"g": {"first": half, "few": np.arange(400) < 5}},
        0,
    )
    (row,) = found.rows
    assert row.before.mean == old.mean()
    assert row.after.mean == new.mean()
    assert row.difference.mean == pytest.approx(new.mean() - old.mean())
    assert row.verdict == "better"
    assert [(one.name, one.queries) for one in found.slices] == [("first", 200)]
    back = compare._contest("b", "a", {"hr@10": new}, {"hr@10": old}, {}, 0)
    assert verdicts(back) == {"hr@10": "worse"}
    assert verdicts(compare._contest("a", "a", {"hr@10": old}, {"hr@10": old}, {}, 0)) == {
        "hr@10": "same"
    }


def test_fewer_clicks_are_better() -> None:
    many, few = np.full(30, 20.0), np.full(30, 2.0)
    assert verdicts(compare._contest("a", "b", {"clicks": many}, {"clicks": few}, {}, 0)) == {
        "clicks": "better"
    }


def test_a_worse_release_is_kept_from_publishing(lane: Lane) -> None:
    before = lane.home.current()
    place = Place(lane.home.path)
    guard: Any = gate.before_publishing(lane.home, SilentReporter())
    changes = {"query_decay": 0.0, "neighbours": 1, "dimensions": 2, "epochs": 1}
    parameters = replace(lane.road.parameters, **changes)
    with pytest.raises(GateError, match=r"significantly worse .*hr@100 0\.\d+ -> 0\.\d+"):
        pipeline.run(
            [lane.file],
            lane.home,
            lane.work,
            parameters,
            SilentReporter(),
            pipeline.RunOptions(gate=guard),
        )
    assert lane.home.current() == before
    assert place.releases() == [before]
    lane.home.open().close()
    passed = pipeline.run(
        [lane.file],
        lane.home,
        lane.work,
        replace(lane.road.parameters, query_decay=0.89),
        SilentReporter(),
        pipeline.RunOptions(gate=guard),
    )
    assert lane.home.current() == passed.manifest.release != before

    found = compare.of_names(
        place, str(before), passed.manifest.release, lane.work, SilentReporter(), "validation", None
    )
    assert set(verdicts(found).values()) == {"same"}
    assert found.queries == lane.road.outcome.stages.split.summary.validation
    with pytest.raises(InputError, match="not two runs, nor one release each"):
        compare.of_names(
            place, str(before), "nothing", lane.work, SilentReporter(), "validation", None
        )


def test_the_gate_lets_a_first_release_pass(lane: Lane, tmp_path: Path) -> None:
    home = Place(tmp_path / "new").home()
    guard = gate.before_publishing(home, SilentReporter())
    release = lane.home.open()
    guard(release, lane.work)
    release.close()


def test_releases_of_other_splits_are_not_compared(lane: Lane) -> None:
    release = lane.home.open()
    origin = release.manifest.origin
    other = replace(origin, parameters=origin.parameters | {"seed": 9})

    class Other:
        manifest = replace(release.manifest, origin=other)

    with pytest.raises(MismatchError, match="split by different seeds"):
        compare.of_releases(Other(), release, lane.work, SilentReporter())  # type: ignore[arg-type]
    release.close()


def test_an_older_release_may_know_songs_that_are_gone(lane: Lane, tmp_path: Path) -> None:
    """The data shrinks: what the work folder no longer knows is no label, and breaks nothing."""
    lines = lane.file.read_text().splitlines()
    ids = sorted({line.split(",")[0] for line in lines[1:]})
    half = {*ids[: len(ids) // 2]}
    kept = [lines[0], *(line for line in lines[1:] if line.split(",")[0] in half)]
    before = lane.home.current()
    lane.file = tmp_path / "fewer.csv"
    lane.file.write_text("\n".join(kept) + "\n")
    guard: Any = gate.before_publishing(lane.home, SilentReporter())
    after = pipeline.run(
        [lane.file],
        lane.home,
        lane.work,
        lane.road.parameters,
        SilentReporter(),
        pipeline.RunOptions(gate=guard),
    ).manifest
    assert after.counts.songs < lane.home.manifest(str(before)).counts.songs
    place = Place(lane.home.path)
    found = compare.of_names(
        place, str(before), after.release, lane.work, SilentReporter(), "validation", None
    )
    assert found.queries == len(load_queries(lane.work, "validation", "last", 0))
    assert "was made of other playlists or by another version" in found.remarks[0]


def test_neither_release_belongs_to_the_work_folder(lane: Lane) -> None:
    release = lane.home.open()
    origin = replace(release.manifest.origin, split_fingerprint="0" * 64)

    class Other:
        manifest = replace(release.manifest, origin=origin)

    with pytest.raises(MismatchError, match="was not made from the playlists"):
        compare.of_releases(Other(), Other(), lane.work, SilentReporter())  # type: ignore[arg-type]
    release.close()


def test_a_gate_asks_a_sample_and_says_so(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SAMPLE", 30)
    release = lane.home.open()
    found = gate.not_worse(release, release, lane.work, SilentReporter())
    release.close()
    assert found.queries == 30
    assert found.available > 30
    assert found.remarks == ()


def test_published_releases_are_asked_in_several_processes(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = compare.Release
    monkeypatch.setattr(compare, "Release", lambda *args: (opened.append(args[3]), real(*args))[1])
    release = str(lane.home.current())
    place = Place(lane.home.path)
    compare.of_names(place, release, release, lane.work, SilentReporter(), "validation", None)
    assert len(opened) == 2
    assert all(opened)
    one = lane.home.open()
    compare.of_releases(one, one, lane.work, SilentReporter())
    one.close()
    assert opened[2:] == [None, None]  # they need not be published


def test_comparisons_are_recorded_and_uses_of_test_counted(lane: Lane) -> None:
    release, place = str(lane.home.current()), Place(lane.home.path)
    for split, uses in (("validation", 0), ("test", 0), ("test", 1)):
        found = compare.of_names(place, release, release, lane.work, SilentReporter(), split, None)
        payload = log.find(place.folder, found.run).payload
        assert payload["split"] == split
        assert payload["holdout"] == "last"
        assert payload["test_used"] == (split == "test")
        assert payload["figures"]["hr@100"] == found.rows[1].after.mean
        assert [remark for remark in found.remarks if "used once before" in remark] == (
            found.remarks and [*found.remarks] if uses else []
        )
    # Reading again what was scored uses nothing.
    plan = replace(PLAN, split="test")
    first = harness.evaluate(place, lane.work, plan, SilentReporter())
    assert first.conditions.test_uses == 2
    compare.of_names(place, first.run, first.run, lane.work, SilentReporter(), "test", None)
    assert harness.evaluate(place, lane.work, plan, SilentReporter()).conditions.test_uses == 3
    assert [run.kind for run in log.load(place.folder, kind="compare")] == ["compare"] * 4


def test_two_runs_are_compared_as_recorded(lane: Lane, terminal: Callable[[int], Terminal]) -> None:
    place = Place(lane.home.path)
    first = harness.evaluate(place, lane.work, PLAN, SilentReporter())
    second = harness.evaluate(place, lane.work, replace(PLAN, modes=("dense",)), SilentReporter())
    other = harness.evaluate(place, lane.work, replace(PLAN, split="test"), SilentReporter())
    found = compare.of_runs(place.folder, first.run, second.run)
    assert found.queries == first.conditions.playlists
    by_metric = {row.metric: row for row in found.rows}
    assert by_metric["hr@100"].before.mean == first.main.figures["hr@100"].mean
    assert by_metric["hr@100"].after.mean == second.main.figures["hr@100"].mean
    assert by_metric["hr@100"].difference.mean == pytest.approx(
        second.main.figures["hr@100"].mean - first.main.figures["hr@100"].mean
    )
    assert {row.group for row in found.slices} >= {"popularity of the label"}
    with pytest.raises(MismatchError, match="split validation and test"):
        compare.of_runs(place.folder, first.run, other.run)
    where = ["--home", str(place.folder), "--work", str(lane.work), "-q"]
    shown = CliRunner().invoke(main, ["evaluate", "compare", first.run, second.run, *where])
    assert shown.exit_code == 0, shown.output
    for word in ("before: run", "after:  run", "HR@100", "difference", "by kind of query"):
        assert word in shown.output
    screen = terminal(80)
    comparison_table.contest(found)
    written = screen.shown()
    tables = [line for line in written.splitlines() if "release" not in line]
    assert any("─" in line for line in tables)  # as a terminal has them, not the plain ones
    assert max(map(len, tables)) <= 80
    assert "…" not in written  # nothing is cut
    for heading in ("queries", "HR@10 change", "HR@100 change", "known songs of the query"):
        assert heading in " ".join(shown.output.split())
    printed = CliRunner().invoke(
        main, ["evaluate", "compare", first.run, second.run, *where, "--json"]
    )
    assert json.loads(printed.output)["queries"] == found.queries
    of_one = compare.of_runs(place.folder, f"{first.run}:random", f"{first.run}:nextsong")
    figures = {system.key: system.figures for system in first.systems}
    for row in of_one.rows:
        assert row.before.mean == pytest.approx(figures["random"][row.metric].mean, rel=1e-6)
        assert row.after.mean == pytest.approx(figures["nextsong"][row.metric].mean, rel=1e-6)
    assert of_one.before.endswith("random")
    with pytest.raises(InputError, match="has not scored 'als', but nextsong, random"):
        compare.of_runs(place.folder, f"{first.run}:als", first.run)
    missing = CliRunner().invoke(main, ["evaluate", "compare", "x", "y", *where])
    assert missing.exit_code == 1
    assert "no run x" in missing.output


def test_samples_are_compared_on_what_they_share(lane: Lane) -> None:
    place = Place(lane.home.path)
    sampled = [
        harness.evaluate(place, lane.work, replace(PLAN, sample=size), SilentReporter())
        for size in (60, 40)
    ]
    ids = [set(one.queries.playlist_ids) for one in sampled]
    shared = ids[0] & ids[1]
    assert 0 < len(shared) < 60
    found = compare.of_runs(place.folder, sampled[0].run, sampled[1].run)
    assert found.queries == len(shared)
    assert found.left_out == 60 + 40 - 2 * len(shared)
    assert set(verdicts(found).values()) == {"same"}


def test_ingest_run_is_recorded_and_gated_from_the_command_line(lane: Lane) -> None:
    command = ["ingest", "run", str(lane.file), "--home", str(lane.home.path)]
    command += ["--work", str(lane.work), "--gate"]
    same = [f"--{name}={getattr(lane.road.parameters, name)}" for name in ("dimensions", "epochs")]
    command += ["--min-count", str(lane.road.parameters.min_count), "--workers", "1"]
    before = lane.home.current()
    worse = CliRunner().invoke(
        main, [*command, "--query-decay=0", "--neighbours=1", "--dimensions=2", "--epochs=1"]
    )
    assert worse.exit_code == 1, worse.output
    assert "significantly worse" in worse.output
    assert lane.home.current() == before
    fine = CliRunner().invoke(main, [*command, *same, "--query-decay=0.89"])
    assert fine.exit_code == 0, fine.output
    assert "not significantly worse" in fine.output
    (run,) = log.load(lane.home.path, kind="ingest")
    assert run.release == lane.home.current() != before
    assert run.payload["published"] is True
    assert run.payload["parameters"]["query_decay"] == 0.89
