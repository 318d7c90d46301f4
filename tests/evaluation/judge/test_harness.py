"""Scores of a real release on held-out playlists, checked against a reckoning of their own."""

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

from catalog.errors import GateError, InputError, MismatchError, StorageError
from catalog.progress import SilentReporter
from cli.main import main
from evaluation.judge import behaviour, gate, harness
from evaluation.judge.slices import sliced
from evaluation.metrics import table
from evaluation.metrics.ranking import hits, reciprocal_ranks
from evaluation.protocol import dataset as datas
from evaluation.protocol.cases import load_queries
from evaluation.protocol.dataset import ragged
from evaluation.report import terminal
from evaluation.runs import history, log
from evaluation.systems import release as systems
from evaluation.systems.location import Place
from evaluation.systems.release import Release
from evaluation.systems.remote import Service
from tests.support.road import linked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from evaluation.judge.result import Evaluation
    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Numbers
    from tests.support.road import Road

PLAN = harness.Plan(split="validation", baselines=("popularity", "rules"))


@pytest.fixture(scope="module")
def place(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the road's home: evaluations are recorded in it."""
    home = tmp_path_factory.mktemp("evaluated") / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    return Place(home)


@pytest.fixture(scope="module")
def result(road: Road, place: Place) -> Evaluation:
    return harness.evaluate(place, road.work, PLAN, SilentReporter())


def test_every_playlist_of_the_split_is_a_query(road: Road, result: Evaluation) -> None:
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


def test_the_release_scores_what_numpy_says(road: Road, result: Evaluation) -> None:
    """The same figures by exact search in the work folder's vectors, without the service."""
    songs = pq.read_table(road.work / "prepare" / "songs.parquet")["song_id"].to_pylist()
    table = pq.read_table(road.work / "train" / "vectors.parquet")
    row_of = {song: row for row, song in enumerate(table["song"].to_pylist())}
    vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
    decay = float(road.outcome.manifest.origin.parameters["query_decay"])
    queries = load_queries(road.work, "validation", "last", 0)
    assert len(songs) > len(row_of)
    found = np.zeros((len(queries), harness.DEPTH), dtype=bool)
    for at in range(len(queries)):
        known = [
            (age, row_of[int(song)])
            for age, song in enumerate(queries.seeds[at][::-1])
            if int(song) in row_of
        ]
        label = row_of.get(int(queries.label[at]))
        if label is None or not known:
            continue
        asked = sum(decay**age * vectors[row] for age, row in known)
        scores = vectors @ (asked / np.linalg.norm(asked))
        scores[[row for _, row in known]] = -2
        place = int((scores > scores[label]).sum())
        if place < harness.DEPTH:
            found[at, place] = True
    measured = next(system for system in result.systems if system.key == "dense").figures
    assert measured["hr@10"].mean == pytest.approx(hits(found, 10).mean(), abs=0.011)
    assert measured["hr@100"].mean == pytest.approx(hits(found, 100).mean(), abs=0.011)
    assert measured["mrr@10"].mean == pytest.approx(reciprocal_ranks(found, 10).mean(), abs=0.011)


def test_several_processes_answer_as_one(
    road: Road, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(systems, "BATCH", 16)
    plan = replace(PLAN, modes=("auto",), baselines=(), behaviours=False, recall=False)
    alone = harness.evaluate(place, road.work, replace(plan, processes=1), SilentReporter())
    both = harness.evaluate(place, road.work, replace(plan, processes=2), SilentReporter())
    assert (alone.main.rankings == both.main.rankings).all()


def test_a_label_outside_the_catalog_is_a_miss_that_counts(road: Road) -> None:
    data = datas.load(road.work, road.outcome.manifest.origin.parameters)
    queries = load_queries(road.work, "test", "last", 0).take(np.arange(3))
    outside = int(np.flatnonzero(~data.songs.in_catalog)[0])
    queries = replace(queries, labels=ragged([[outside], *([int(q)] for q in queries.label[1:])]))
    release = road.home.open()
    scored = harness.scored(Release(release, data), queries, data, 100, SilentReporter())
    release.close()
    assert scored.per_query["hr@100"][0] == 0
    assert len(scored.per_query["hr@100"]) == 3


def test_songs_that_the_work_folder_does_not_know_keep_their_place(road: Road) -> None:
    songs = datas.load(road.work, road.outcome.manifest.origin.parameters).songs
    known = songs.seed(3).song_id
    assert known
    numbers = systems.numbers_of([[UUID(int=1), known], []], songs, 3)
    assert numbers.tolist() == [[-1, 3, -1], [-1, -1, -1]]


def test_the_same_question_has_the_same_answer(road: Road) -> None:
    """Also where the two rankings would tie, and the engine then order songs by chance."""
    release = road.home.open()
    data = datas.load(road.work, road.outcome.manifest.origin.parameters)
    queries = load_queries(road.work, "validation", "last", 0)
    hybrid = Release(release, data, "hybrid")
    first, again = (np.concatenate(list(hybrid.recommend(queries, 10))) for _ in range(2))
    release.close()
    assert (first == again).all()


def test_halves_are_scored_as_continuations(road: Road, place: Place) -> None:
    plan = harness.Plan(
        split="test", holdout="half", modes=("auto",), baselines=("popularity",), recall=False
    )
    found = harness.evaluate(place, road.work, plan, SilentReporter())
    assert found.conditions.depth == 500
    figures = found.main.figures
    assert 0 < figures["r_precision"].mean <= figures["r_precision_artists"].mean
    assert 0 <= figures["clicks"].mean <= 51
    assert 0 < figures["ndcg@500"].mean <= 1
    assert {one.metric for one in found.comparisons} == {"r_precision", "ndcg@500", "clicks"}


def test_data_without_an_order_holds_out_random_songs(
    road: Road, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = road.outcome.manifest
    parameters = manifest.origin.parameters | {"order": "none"}
    other = replace(manifest, origin=replace(manifest.origin, parameters=parameters))

    class Shuffled:
        manifest = other

        def __getattr__(self, name: str) -> object:
            return getattr(release, name)

    release = place.open()
    monkeypatch.setattr(Place, "open", lambda *_: Shuffled())
    plan = harness.Plan(modes=("auto",), baselines=(), behaviours=False, recall=False)
    found = harness.evaluate(place, road.work, plan, SilentReporter()).conditions
    assert found.holdout == "random"
    assert found.split == "validation"  # test is for the last word, and must be asked for


def test_the_behaviour_of_a_good_release_passes_its_rules(result: Evaluation) -> None:
    judged = [one for one in result.behaviours if one.rule]
    assert len(judged) >= 8
    assert [one.name for one in judged if not one.passed] == []
    by_name = {(one.name, one.figure): one.value for one in result.behaviours}
    shuffled = by_name["the query's songs are shuffled", "share of the answer that stays"]
    assert shuffled is not None
    assert 0.1 < shuffled < 1  # 1 by construction is no test


def test_a_swap_within_an_artist_is_judged_only_where_artists_recur(
    road: Road, result: Evaluation
) -> None:
    name = "the last song is swapped for another of its artist"
    judged = [one for one in result.behaviours if one.name == name and one.rule]
    assert len(judged) == 1
    assert result.data.artists_recur > 0.5
    # A radio station spreads its artists: here each song of a playlist has an artist of its own.
    alone = np.arange(len(result.data.songs), dtype=np.int32)
    spread = replace(result.data.songs, artist=alone // 2)
    train = ragged([result.data.train[row][::7] for row in range(len(result.data.train))])
    data = replace(result.data, songs=spread, train=train)
    assert data.artists_recur < behaviour.RECUR
    release = road.home.open()
    found = behaviour.behaviours(Release(release, result.data), result.queries, data)
    release.close()
    swapped = [one for one in found if one.name == name]
    assert len(swapped) == 2
    assert [one.rule for one in swapped] == [None, None]
    assert "artists seldom recur here" in swapped[1].figure


def test_tables_fit_a_terminal_of_80_columns(
    result: Evaluation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    data = result.data
    for mode in ("auto", "cooccurrence"):
        served = Service("some.where.example.com:50051", "20260101T000000-0", data, mode)
        main_system = replace(result.main, key=served.key, name=served.name)
        terminal.evaluation(
            replace(
                result,
                systems=[main_system, *result.systems[1:]],
                slices=[
                    replace(one, figures={served.key: one.figures["nextsong"]})
                    for one in result.slices
                ],
            )
        )
    shown = capsys.readouterr().out
    assert "…" not in shown
    for heading in ("queries", "HR@10", "NDCG@10", "known songs of the query"):
        assert heading in shown
    figure = result.main.figures["ndcg@10"]
    assert f"{terminal.number(figure.mean)} ±{terminal.number(figure.margin or 0, 3)}" in shown


def test_a_hit_rate_of_0_is_not_shown_as_certain(
    result: Evaluation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    few = result.queries.take(np.arange(21))
    nothing = np.full((21, harness.DEPTH), -1, dtype=np.int32)

    class Nobody:
        key = name = "nobody"

        def recommend(self, _queries: Queries, _limit: int) -> Iterator[Numbers]:
            yield nothing

    found = harness.scored(Nobody(), few, result.data, harness.DEPTH, SilentReporter())
    slices = sliced([found], few, result.data)
    terminal.evaluation(replace(result, systems=[found], comparisons=[], slices=slices))
    shown = capsys.readouterr().out
    assert ".0000 ±.155" in shown  # 3.84 / (21 + 3.84)
    assert "±.000" not in shown


def test_everything_is_in_the_lines(result: Evaluation) -> None:
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


def test_an_evaluation_is_recorded_and_read_back(place: Place, result: Evaluation) -> None:
    run = log.find(place.folder, result.run)
    assert run.release == result.conditions.release
    assert run.payload["figures"]["hr@10"] == result.main.figures["hr@10"].mean
    kept = history.load(place.folder, result.run)
    assert kept.playlist_ids == result.queries.playlist_ids
    assert kept.figures["nextsong", "hr@10"].tolist() == result.main.per_query["hr@10"].tolist()
    assert kept.main == "nextsong"


def test_uses_of_the_test_playlists_are_counted(road: Road, tmp_path: Path) -> None:
    shutil.copytree(road.home.path, tmp_path / "home", copy_function=linked)
    place = Place(tmp_path / "home")
    plan = harness.Plan(modes=("auto",), baselines=(), behaviours=False, recall=False)
    uses = []
    for split in ("validation", "test", "validation", "test", "test"):
        found = harness.evaluate(place, road.work, replace(plan, split=split), SilentReporter())
        uses.append(found.conditions.test_uses)
    assert uses == [0, 0, 1, 1, 2]


def test_an_update_makes_no_unseen_playlists_and_old_figures_are_no_use(tmp_path: Path) -> None:
    same: dict[str, Any] = {"data_fingerprint": "d", "split_seed": 0}
    log.record(tmp_path, "evaluate", same | {"split": "test", "split_fingerprint": "old code"})
    for _ in range(2):  # which judges by validation, and scores its choice on test
        log.record(tmp_path, "tune", same | {"split": "validation", "test_used": True})
    log.record(tmp_path, "compare", same | {"split": "test", "test_used": True})
    for other in (
        {"split": "test", "test_used": False},  # recorded figures, read again
        {"split": "test", "data_fingerprint": "e"},
        {"split": "test", "split_seed": 1},
        {"split": "validation"},
    ):
        log.record(tmp_path, "compare", same | other)
    assert history.test_uses(tmp_path, "d", 0) == 4


def test_the_record_says_how_often_test_was_used(road: Road, tmp_path: Path) -> None:
    shutil.copytree(road.home.path, tmp_path / "home", copy_function=linked)
    place = Place(tmp_path / "home")
    plan = harness.Plan(split="test", modes=("auto",), baselines=(), behaviours=False, recall=False)
    for times in (1, 2):
        found = harness.evaluate(place, road.work, replace(plan, sample=9), SilentReporter())
        payload = log.find(place.folder, found.run).payload
        assert payload["test_uses"] == times
        assert payload["data_fingerprint"] == road.outcome.manifest.origin.data_fingerprint
    (said,) = (line for line in terminal.notes(found) if "used" in line)
    assert "used once before" in said
    assert log.FILE in said


def test_bounds_are_read_and_kept(result: Evaluation) -> None:
    assert gate.bound("hr@10=0.05") == gate.Bound("hr@10", 0.05)
    assert gate.bound("mrr@10=5e-2") == gate.Bound("mrr@10", 0.05)
    assert gate.bound("clicks=3", "half") == gate.Bound("clicks", 3)
    for wrong in ("hr@10", "hr@10=", "=1", "hr@10>0.1", "hr@10=nan"):
        with pytest.raises(InputError, match="METRIC=VALUE"):
            gate.bound(wrong)
    for wrong in ("luck@3=1", "hr@7=0.1", "clicks=3"):
        with pytest.raises(InputError, match=r"no metric '.*' here; there are hr@1, "):
            gate.bound(wrong)
    assert table.names(halves=False) == [*result.main.figures]
    gate.require(result, [gate.Bound("hr@10", 0.0), gate.Bound("artist_repetition@10", 1.0)])
    with pytest.raises(GateError, match=r"hr@10 is 0\.\d+, below 0\.999"):
        gate.require(result, [gate.Bound("hr@10", 0.999)])
    with pytest.raises(GateError, match=r"artist_repetition@10 is .* above -1"):
        gate.require(result, [gate.Bound("artist_repetition@10", -1.0)])
    with pytest.raises(InputError, match="no metric 'luck@3'"):
        gate.require(result, [gate.Bound("luck@3", 0.1)])


def test_evaluate_prints_a_table_json_lines_and_an_exit_code(road: Road, place: Place) -> None:
    where = ["--home", str(place.folder), "--work", str(road.work), "--quiet"]
    quick = ["--baselines", "popularity", "--modes", "auto", "--sample", "20", "--no-behaviours"]
    table = CliRunner().invoke(main, ["evaluate", *where, *quick])
    assert table.exit_code == 0, table.output
    for word in ("HR@10", "HR@100", "MRR@10", "popularity", "nextsong", "±", "a random sample of"):
        assert word in table.output, table.output
    asked = ["evaluate", *where, *quick, "--json", "--split", "validation"]
    printed = CliRunner().invoke(main, [*asked, "--fail-under", "hr@100=0.999"])
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
        wrong = CliRunner().invoke(main, ["evaluate", *where, *option])
        assert wrong.exit_code == 2
        assert "Error: " in wrong.output
        assert "magic" in wrong.output


def test_modes_that_are_the_same_are_scored_once(
    road: Road, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    modes = ("auto", "dense", "hybrid", "dense")  # the road's release answers hybrid
    plan = replace(PLAN, modes=modes, baselines=(), behaviours=False, recall=False, sample=9)
    found = harness.evaluate(place, road.work, plan, SilentReporter())
    assert [system.key for system in found.systems] == ["nextsong", "dense"]
    assert {one.other for one in found.comparisons} == {"dense"}
    terminal.evaluation(found, brief=True)
    assert "modes auto and hybrid are the same" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(MismatchError, match="has no ranker that can be used"):
        harness.evaluate(
            place, road.work, replace(plan, modes=("auto", "ranked")), SilentReporter()
        )


def quick_evaluation(road: Road, home: Path, *options: str) -> Result:
    where = ["--home", str(home), "--work", str(road.work)]
    quick = ["--modes", "auto", "--sample", "9", "--no-behaviours", "--no-recall"]
    return CliRunner().invoke(main, ["evaluate", *where, *quick, *options])


def test_what_cannot_succeed_ends_before_anything_is_scored(
    road: Road, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("this was scored")

    monkeypatch.setattr(harness, "scored", never)
    (tmp_path / "file").touch()
    report = ["--report", str(tmp_path / "file" / "report.html")]
    found = quick_evaluation(road, place.folder, *report)
    assert (found.exit_code, "a file stands where a folder is needed" in found.output) == (1, True)
    for missing, options in (
        ("implicit", ["--baselines", "all"]),
        ("jinja2", ["--report", str(tmp_path / "report.html")]),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            found = quick_evaluation(road, place.folder, *options)
        assert found.exit_code == 1, found.output
        assert "need libraries that are not installed" in found.output


def test_results_are_printed_even_if_they_cannot_be_kept(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    (home / "evaluations").touch()
    options = ["--baselines", "none", "--split", "test"]
    found = quick_evaluation(road, home, *options)
    assert found.exit_code == 0, found.output
    assert "figures for each query are not kept" in found.stderr
    assert "HR@100" in found.stdout
    (run,) = log.load(home)  # the use of the test playlists counts all the same

    def full(*_: object) -> None:
        raise StorageError("cannot write: the disk is full")

    monkeypatch.setattr(log, "_append", full)
    found = quick_evaluation(road, home, *options, "--json")
    assert found.exit_code == 0, found.output
    assert "this run is not in the log of runs: cannot write: the disk is full" in found.stderr
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert (lines[0]["type"], lines[0]["test_uses"]) == ("conditions", 1)
    assert log.load(home) == [run]


def test_a_use_of_the_test_playlists_counts_if_nobody_reads_the_results(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)

    def closed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "evaluation", closed)
    assert quick_evaluation(road, home, "--baselines", "none", "--split", "test").exit_code == 1
    (run,) = log.load(home)
    assert run.payload["test_used"]


def test_a_service_that_changes_its_release_is_not_scored(road: Road, result: Evaluation) -> None:
    from cli.demo_steps import run_service

    with run_service(road.home.path) as address:
        before = Service(address, "20260101T000000-before", result.data)
        with pytest.raises(
            MismatchError,
            match=f"changed from release 20260101T000000-before to {road.home.current()}",
        ):
            list(before.recommend(result.queries.take(np.arange(3)), 10))


def test_a_running_service_is_scored_as_the_release_is(
    road: Road, place: Place, result: Evaluation
) -> None:
    from cli.demo_steps import run_service

    with run_service(place.folder) as address:
        plan = replace(PLAN, target=address, modes=("auto",), baselines=(), behaviours=False)
        served = harness.evaluate(place, road.work, plan, SilentReporter())
    assert served.main.key == "service"
    assert (served.main.rankings == result.main.rankings).mean() > 0.99
