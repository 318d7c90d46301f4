"""Evaluations of a real release, checked against independent computations."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.errors import GateError, InputError, MismatchError, StorageError
from cli.main import main
from evaluation.judge import behaviour, gate, harness
from evaluation.judge.scoring import DEPTH, score_system
from evaluation.judge.slices import measure_slices
from evaluation.metrics import table
from evaluation.metrics.ranking import hits, reciprocal_ranks
from evaluation.protocol.cases import load_cases
from evaluation.protocol.dataset import SongLists, load_dataset
from evaluation.report import terminal
from evaluation.report.headline import format_number, make_notes
from evaluation.runs import history, log
from evaluation.systems import release as systems
from evaluation.systems.location import StoreLocation
from evaluation.systems.release import Release
from evaluation.systems.remote import Service
from tests.support.road import linked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from evaluation.judge.result import Evaluation
    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import SongNumbers
    from tests.support.road import Road

PLAN = harness.Plan(split="validation", baselines=("popularity", "rules"))


@pytest.fixture(scope="module")
def location(road: Road, tmp_path_factory: pytest.TempPathFactory) -> StoreLocation:
    """A copy of the release store of the fixture `road`, in which tests record evaluations."""
    home = tmp_path_factory.mktemp("evaluated") / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    return StoreLocation(home)


@pytest.fixture(scope="module")
def result(road: Road, location: StoreLocation) -> Evaluation:
    return harness.evaluate(location, road.work, PLAN, SilentReporter())


def test_every_playlist_of_the_split_is_a_case(road: Road, result: Evaluation) -> None:
    held_out = pq.read_table(road.work / "split" / "validation.parquet")
    assert result.conditions.playlists == result.conditions.available == held_out.num_rows
    assert [system.key for system in result.systems] == [
        "nextsong",
        "dense",
        "cooccurrence",
        "popularity",
        "rules",
    ]
    for system in result.systems:
        assert len(system.per_query["hr@10"]) == held_out.num_rows
        assert system.figures["hr@10"].mean == system.per_query["hr@10"].mean()


def test_scores_agree_with_numpy(road: Road, result: Evaluation) -> None:
    """The expected rankings come from an exact search over the vectors in the work folder."""
    songs = pq.read_table(road.work / "prepare" / "songs.parquet")["song_id"].to_pylist()
    table = pq.read_table(road.work / "train" / "vectors.parquet")
    row_of = {song: row for row, song in enumerate(table["song"].to_pylist())}
    vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
    recency = float(road.outcome.manifest.origin.parameters["dense_recency"])
    cases = load_cases(road.work, "validation", "last", 0)
    assert len(songs) > len(row_of)
    matches = np.zeros((len(cases), DEPTH), dtype=bool)
    for row in range(len(cases)):
        known = [
            (age, row_of[int(song)])
            for age, song in enumerate(cases.seeds[row][::-1])
            if int(song) in row_of
        ]
        label = row_of.get(int(cases.label[row]))
        if label is None or not known:
            continue
        query = sum((age + 1) ** -recency * vectors[seed] for age, seed in known)
        scores = vectors @ (query / np.linalg.norm(query))
        scores[[seed for _, seed in known]] = -2
        position = int((scores > scores[label]).sum())
        if position < DEPTH:
            matches[row, position] = True
    measured = next(system for system in result.systems if system.key == "dense").figures
    assert measured["hr@10"].mean == pytest.approx(hits(matches, 10).mean(), abs=0.011)
    assert measured["hr@100"].mean == pytest.approx(hits(matches, 100).mean(), abs=0.011)
    assert measured["mrr@10"].mean == pytest.approx(reciprocal_ranks(matches, 10).mean(), abs=0.011)


def test_several_processes_give_the_same_rankings_as_one(
    road: Road, location: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "MIN_CASES_FOR_PROCESSES", 1)
    monkeypatch.setattr(systems, "BATCH", 16)
    plan = replace(PLAN, modes=("auto",), baselines=(), behaviours=False, recall=False)
    alone = harness.evaluate(location, road.work, replace(plan, processes=1), SilentReporter())
    both = harness.evaluate(location, road.work, replace(plan, processes=2), SilentReporter())
    assert (alone.main.rankings == both.main.rankings).all()


def test_a_label_outside_the_catalog_counts_as_a_miss(road: Road) -> None:
    dataset = load_dataset(road.work, road.outcome.manifest.origin.parameters)
    cases = load_cases(road.work, "test", "last", 0).take(np.arange(3))
    outside = int(np.flatnonzero(~dataset.songs.in_catalog)[0])
    cases = replace(
        cases,
        labels=SongLists.from_lists([[outside], *([int(label)] for label in cases.label[1:])]),
    )
    release = road.home.open()
    scored = score_system(Release(release, dataset), cases, dataset, 100, SilentReporter())
    release.close()
    assert scored.per_query["hr@100"][0] == 0
    assert len(scored.per_query["hr@100"]) == 3


def test_songs_that_the_work_folder_lacks_do_not_change_the_ranks_of_others(road: Road) -> None:
    songs = load_dataset(road.work, road.outcome.manifest.origin.parameters).songs
    known = songs.seed(3).song_id
    assert known
    numbers = systems.to_song_numbers([[UUID(int=1), known], []], songs, 3)
    assert numbers.tolist() == [[-1, 3, -1], [-1, -1, -1]]


def test_repeated_queries_have_the_same_rankings(road: Road) -> None:
    """Songs with equal scores are always in the same order."""
    release = road.home.open()
    dataset = load_dataset(road.work, road.outcome.manifest.origin.parameters)
    cases = load_cases(road.work, "validation", "last", 0)
    hybrid = Release(release, dataset, "hybrid")
    first, again = (np.concatenate(list(hybrid.recommend(cases, 10))) for _ in range(2))
    release.close()
    assert (first == again).all()


def test_halves_have_the_metrics_of_continuation(road: Road, location: StoreLocation) -> None:
    plan = harness.Plan(
        split="test", holdout="half", modes=("auto",), baselines=("popularity",), recall=False
    )
    evaluation = harness.evaluate(location, road.work, plan, SilentReporter())
    assert evaluation.conditions.depth == 500
    figures = evaluation.main.figures
    assert 0 < figures["r_precision"].mean <= figures["r_precision_artists"].mean
    assert 0 <= figures["clicks"].mean <= 51
    assert 0 < figures["ndcg@500"].mean <= 1
    assert {comparison.metric for comparison in evaluation.comparisons} == {
        "r_precision",
        "ndcg@500",
        "clicks",
    }


def test_unordered_playlists_have_random_labels(
    road: Road, location: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = road.outcome.manifest
    parameters = manifest.origin.parameters | {"order": "none"}
    other = replace(manifest, origin=replace(manifest.origin, parameters=parameters))

    class Shuffled:
        manifest = other

        def __getattr__(self, name: str) -> object:
            return getattr(release, name)

    release = location.open_release()
    monkeypatch.setattr(StoreLocation, "open_release", lambda *_: Shuffled())
    plan = harness.Plan(modes=("auto",), baselines=(), behaviours=False, recall=False)
    conditions = harness.evaluate(location, road.work, plan, SilentReporter()).conditions
    assert conditions.holdout == "random"
    assert conditions.split == "validation"  # the default split


def test_a_good_release_passes_the_behaviour_tests(result: Evaluation) -> None:
    with_rule = [test for test in result.behaviours if test.rule]
    assert len(with_rule) >= 8
    assert [test.name for test in with_rule if not test.passed] == []
    by_name = {(test.name, test.figure): test.value for test in result.behaviours}
    shuffled = by_name["the query's songs are shuffled", behaviour.SAME_SONGS]
    assert shuffled is not None
    assert 0.1 < shuffled < 1


def test_replacing_a_song_by_one_of_its_artist_has_a_rule_only_if_artists_recur(
    road: Road, result: Evaluation
) -> None:
    rules = [
        test.rule for test in result.behaviours if test.name == behaviour.REPLACED and test.rule
    ]
    assert len(rules) == 1
    assert result.dataset.artist_recurrence > 0.5
    # All songs of a playlist have different artists, as on some radio stations.
    alone = np.arange(len(result.dataset.songs), dtype=np.int32)
    spread = replace(result.dataset.songs, artist=alone // 2)
    train = SongLists.from_lists(
        [result.dataset.train[row][::7] for row in range(len(result.dataset.train))]
    )
    dataset = replace(result.dataset, songs=spread, train=train)
    assert dataset.artist_recurrence < behaviour.MIN_ARTIST_RECURRENCE
    release = road.home.open()
    behaviours = behaviour.run_behaviour_tests(
        Release(release, result.dataset), result.cases, dataset
    )
    release.close()
    replaced = [test for test in behaviours if test.name == behaviour.REPLACED]
    assert len(replaced) == 2
    assert [test.rule for test in replaced] == [None, None]
    assert "artists seldom recur here" in replaced[1].figure


def test_tables_fit_in_80_columns(
    result: Evaluation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for mode in ("auto", "cooccurrence"):
        served = Service("some.where.example.com:50051", "20260101T000000-0", result.dataset, mode)
        main_system = replace(result.main, key=served.key, name=served.name)
        terminal.print_evaluation(
            replace(
                result,
                systems=[main_system, *result.systems[1:]],
                slices=[
                    replace(slice_, figures={served.key: slice_.figures["nextsong"]})
                    for slice_ in result.slices
                ],
            )
        )
    shown = capsys.readouterr().out
    assert "…" not in shown
    for heading in ("queries", "HR@10", "NDCG@10", "known songs of the query"):
        assert heading in shown
    figure = result.main.figures["ndcg@10"]
    assert f"{format_number(figure.mean)} ±{format_number(figure.margin or 0, 3)}" in shown


def test_a_hit_rate_of_0_has_a_margin(
    result: Evaluation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    few = result.cases.take(np.arange(21))
    nothing = np.full((21, DEPTH), -1, dtype=np.int32)

    class Empty:
        key = name = "empty"

        def recommend(self, _queries: HeldOutCases, _limit: int) -> Iterator[SongNumbers]:
            yield nothing

    scores = score_system(Empty(), few, result.dataset, DEPTH, SilentReporter())
    slices = measure_slices([scores], few, result.dataset)
    terminal.print_evaluation(replace(result, systems=[scores], comparisons=[], slices=slices))
    shown = capsys.readouterr().out
    assert ".0000 ±.155" in shown  # upper end of Wilson's interval: 3.84 / (21 + 3.84)
    assert "±.000" not in shown


def test_json_lines_describe_the_whole_evaluation(result: Evaluation) -> None:
    lines = [json.loads(json.dumps(line, allow_nan=False)) for line in result.lines()]
    kinds = {line["type"] for line in lines}
    assert kinds == {
        "conditions",
        "leaks",
        "system",
        "comparison",
        "slice",
        "behaviour",
        "recall",
    }
    (conditions,) = (line for line in lines if line["type"] == "conditions")
    for name in ("release", "data_fingerprint", "parameters", "versions", "machine", "created"):
        assert conditions[name]
    assert {"duckdb", "pyarrow", "lightgbm", "optuna"} <= conditions["versions"].keys()
    assert conditions["machine"]["memory_gb"] > 0
    assert conditions["machine"]["model"]
    assert conditions["plan"]["baselines"] == ["popularity", "rules"]
    assert conditions["run"] == result.run
    main_figures = next(line for line in lines if line.get("system") == "nextsong")["figures"]
    assert main_figures["hr@10"]["low"] <= main_figures["hr@10"]["mean"]
    assert {"coverage@10", "novelty@10", "fresh@10", "diversity@10"} <= main_figures.keys()


def test_a_recorded_evaluation_is_loaded(location: StoreLocation, result: Evaluation) -> None:
    run = log.find(location.folder, result.run)
    assert run.release == result.conditions.release
    assert run.payload["figures"]["hr@10"] == result.main.figures["hr@10"].mean
    recorded = history.load_evaluation(location.folder, result.run)
    assert recorded.playlist_ids == result.cases.playlist_ids
    assert recorded.figures["nextsong", "hr@10"].tolist() == result.main.per_query["hr@10"].tolist()
    assert recorded.main == "nextsong"


def test_uses_of_the_test_playlists_are_counted(road: Road, tmp_path: Path) -> None:
    shutil.copytree(road.home.path, tmp_path / "home", copy_function=linked)
    location = StoreLocation(tmp_path / "home")
    plan = harness.Plan(modes=("auto",), baselines=(), behaviours=False, recall=False)
    uses = []
    for split in ("validation", "test", "validation", "test", "test"):
        evaluation = harness.evaluate(
            location, road.work, replace(plan, split=split, sample=9), SilentReporter()
        )
        uses.append(evaluation.conditions.test_uses)
    assert uses == [0, 0, 1, 1, 2]


def test_uses_of_test_count_across_versions_but_not_for_recorded_figures(tmp_path: Path) -> None:
    same: dict[str, Any] = {"data_fingerprint": "d", "split_seed": 0}
    log.record(tmp_path, "evaluate", same | {"split": "test", "split_fingerprint": "old code"})
    for _ in range(2):  # tuning scores the tuned parameters on the test playlists
        log.record(tmp_path, "tune", same | {"split": "validation", "test_used": True})
    log.record(tmp_path, "compare", same | {"split": "test", "test_used": True})
    for other in (
        {"split": "test", "test_used": False},  # a comparison of recorded figures
        {"split": "test", "data_fingerprint": "e"},
        {"split": "test", "split_seed": 1},
        {"split": "validation"},
    ):
        log.record(tmp_path, "compare", same | other)
    assert history.count_test_uses(tmp_path, "d", 0) == 4


def test_an_evaluation_on_test_reports_earlier_uses(road: Road, tmp_path: Path) -> None:
    shutil.copytree(road.home.path, tmp_path / "home", copy_function=linked)
    location = StoreLocation(tmp_path / "home")
    plan = harness.Plan(split="test", modes=("auto",), baselines=(), behaviours=False, recall=False)
    for times in (1, 2):
        evaluation = harness.evaluate(
            location, road.work, replace(plan, sample=9), SilentReporter()
        )
        payload = log.find(location.folder, evaluation.run).payload
        assert payload["test_uses"] == times
        assert payload["data_fingerprint"] == road.outcome.manifest.origin.data_fingerprint
    (warning,) = (line for line in make_notes(evaluation) if "used" in line)
    assert "used once before" in warning
    assert log.FILE in warning


def test_bounds_are_parsed_and_required(result: Evaluation) -> None:
    assert gate.parse_bound("hr@10=0.05") == gate.Bound("hr@10", 0.05)
    assert gate.parse_bound("mrr@10=5e-2") == gate.Bound("mrr@10", 0.05)
    assert gate.parse_bound("clicks=3", "half") == gate.Bound("clicks", 3)
    for wrong in ("hr@10", "hr@10=", "=1", "hr@10>0.1", "hr@10=nan"):
        with pytest.raises(InputError, match="METRIC=VALUE"):
            gate.parse_bound(wrong)
    for wrong in ("luck@3=1", "hr@7=0.1", "clicks=3"):
        with pytest.raises(InputError, match=r"no metric '.*': choose from hr@1, "):
            gate.parse_bound(wrong)
    assert table.names(halves=False) == [*result.main.figures]
    gate.require_bounds(result, [gate.Bound("hr@10", 0.0), gate.Bound("artist_repetition@10", 1.0)])
    with pytest.raises(GateError, match=r"hr@10 is 0\.\d+, below 0\.999"):
        gate.require_bounds(result, [gate.Bound("hr@10", 0.999)])
    with pytest.raises(GateError, match=r"artist_repetition@10 is .* above -1"):
        gate.require_bounds(result, [gate.Bound("artist_repetition@10", -1.0)])
    with pytest.raises(InputError, match="no metric 'luck@3'"):
        gate.require_bounds(result, [gate.Bound("luck@3", 0.1)])


def test_evaluate_prints_a_table_or_json_lines_and_sets_the_exit_code(
    road: Road, location: StoreLocation
) -> None:
    folders = ["--home", str(location.folder), "--work", str(road.work), "--quiet"]
    quick = ["--baselines", "popularity", "--modes", "auto", "--sample", "20", "--no-behaviours"]
    table = CliRunner().invoke(main, ["evaluate", *folders, *quick])
    assert table.exit_code == 0, table.output
    for word in ("HR@10", "HR@100", "MRR@10", "popularity", "nextsong", "±", "a random sample of"):
        assert word in table.output, table.output
    arguments = ["evaluate", *folders, *quick, "--json", "--split", "validation"]
    printed = CliRunner().invoke(main, [*arguments, "--fail-under", "hr@100=0.999"])
    assert printed.exit_code == 1
    assert "Error: hr@100 is" in printed.stderr
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    assert lines[0]["release"] == road.outcome.manifest.release
    assert [line["system"] for line in lines if line["type"] == "system"] == [
        "nextsong",
        "popularity",
    ]
    for option in (
        ["--baselines", "magic"],
        ["--modes", "magic"],
        ["--fail-under", "magic"],
        ["--fail-under", "magic@10=0.1"],
    ):
        wrong = CliRunner().invoke(main, ["evaluate", *folders, *option])
        assert wrong.exit_code == 2
        assert "Error: " in wrong.output
        assert "magic" in wrong.output


def test_equal_modes_are_scored_once(
    road: Road, location: StoreLocation, capsys: pytest.CaptureFixture[str]
) -> None:
    modes = ("auto", "dense", "hybrid", "dense")  # hybrid is the default mode of the release
    plan = replace(PLAN, modes=modes, baselines=(), behaviours=False, recall=False, sample=9)
    evaluation = harness.evaluate(location, road.work, plan, SilentReporter())
    assert [system.key for system in evaluation.systems] == ["nextsong", "dense"]
    assert {comparison.other for comparison in evaluation.comparisons} == {"dense"}
    terminal.print_evaluation(evaluation, brief=True)
    assert "modes auto and hybrid are the same" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(MismatchError, match="has no re-ranker that can be used"):
        harness.evaluate(
            location, road.work, replace(plan, modes=("auto", "ranked")), SilentReporter()
        )


def quick_evaluation(road: Road, home: Path, *options: str) -> Result:
    folders = ["--home", str(home), "--work", str(road.work)]
    quick = ["--modes", "auto", "--sample", "9", "--no-behaviours", "--no-recall"]
    return CliRunner().invoke(main, ["evaluate", *folders, *quick, *options])


def test_errors_are_found_before_anything_is_scored(
    road: Road, location: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a system was scored")

    monkeypatch.setattr(harness, "score_system", never)
    (tmp_path / "file").touch()
    report = ["--report", str(tmp_path / "file" / "report.html")]
    command = quick_evaluation(road, location.folder, *report)
    assert (command.exit_code, "a file exists where a folder is needed" in command.output) == (
        1,
        True,
    )
    for missing, options in (
        ("implicit", ["--baselines", "all"]),
        ("jinja2", ["--report", str(tmp_path / "report.html")]),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            command = quick_evaluation(road, location.folder, *options)
        assert command.exit_code == 1, command.output
        assert "need libraries that are not installed" in command.output


def test_results_are_printed_even_if_they_cannot_be_recorded(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    (home / "evaluations").touch()
    options = ["--baselines", "none", "--split", "test"]
    command = quick_evaluation(road, home, *options)
    assert command.exit_code == 0, command.output
    assert "figures for each query are not recorded" in command.stderr
    assert "HR@100" in command.stdout
    (run,) = log.load(home)  # the log contains the run and its use of the test playlists

    def full(*_: object) -> None:
        raise StorageError("cannot write: the disk is full")

    monkeypatch.setattr(log, "_append", full)
    command = quick_evaluation(road, home, *options, "--json")
    assert command.exit_code == 0, command.output
    assert "this run is not in the log of runs: cannot write: the disk is full" in command.stderr
    lines = [json.loads(line) for line in command.stdout.splitlines()]
    assert (lines[0]["type"], lines[0]["test_uses"]) == ("conditions", 1)
    assert log.load(home) == [run]


def test_a_use_of_the_test_playlists_counts_if_printing_fails(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)

    def closed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "print_evaluation", closed)
    assert quick_evaluation(road, home, "--baselines", "none", "--split", "test").exit_code == 1
    (run,) = log.load(home)
    assert run.payload["test_used"]


def test_a_service_that_changes_its_release_is_refused(road: Road, result: Evaluation) -> None:
    from cli.demo_steps import run_service

    with run_service(road.home.path) as address:
        before = Service(address, "20260101T000000-before", result.dataset)
        with pytest.raises(
            MismatchError,
            match=f"changed from release 20260101T000000-before to {road.home.current()}",
        ):
            list(before.recommend(result.cases.take(np.arange(3)), 10))


def test_a_running_service_scores_like_its_release(
    road: Road, location: StoreLocation, result: Evaluation
) -> None:
    from cli.demo_steps import run_service

    with run_service(location.folder) as address:
        plan = replace(PLAN, target=address, modes=("auto",), baselines=(), behaviours=False)
        served = harness.evaluate(location, road.work, plan, SilentReporter())
    assert served.main.key == "service"
    assert (served.main.rankings == result.main.rankings).mean() > 0.99
