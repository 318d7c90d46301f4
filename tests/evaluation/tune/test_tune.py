"""Tuning: the search space, trials, continued studies, the outcome, and the command."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from catalog.embedded.store import EmbeddedStore
from catalog.errors import FileError, InputError, MismatchError
from cli.main import main
from evaluation.judge import harness
from evaluation.judge.scoring import DEPTH, score_system
from evaluation.report.headline import format_number
from evaluation.runs import log as runs
from evaluation.systems.location import StoreLocation
from evaluation.tune import files as study_files
from evaluation.tune import outcome as tuning_outcome
from evaluation.tune import space as tuning_space
from evaluation.tune.files import StudyFiles
from evaluation.tune.objective import Phase, score_in_chunks
from evaluation.tune.study import (
    Budget,
    divide_trials,
    open_studies,
    phase_deadline,
    read_start,
    tune,
)
from evaluation.tune.trials import Limits, open_study, run_phase
from ingest import pipeline
from ingest.learn import retrieval
from ingest.parameters import Parameters
from ingest.saved_parameters import read_parameter_file
from tests.support.road import QUICK, linked
from tests.support.snapshots import check, shape

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pipeline_runs import Lane
    from tests.support.road import Road


@pytest.fixture(scope="module")
def work(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("tune") / "work"
    shutil.copytree(road.work, work, copy_function=linked)
    return work


@pytest.fixture(scope="module")
def place(road: Road, work: Path) -> StoreLocation:
    """A copy of the road's store, because runs are recorded in it."""
    home = work.parent / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    return StoreLocation(home)


@pytest.fixture(scope="module")
def outcome(place: StoreLocation, work: Path) -> dict[str, Any]:
    scratch = work.parent / "study" / "scratch-killed"
    (scratch / "tmp").mkdir(parents=True)
    (scratch / "tmp" / "corpus.txt").touch()
    return tune(place, work, work.parent / "study", QUICK, Budget(trials=9), SilentReporter())


def test_the_outcome_has_the_keys_of_the_snapshot(outcome: dict[str, Any]) -> None:
    # The values, and whether the choice is scored on test, depend on how long trials take.
    stable = {
        "parameters": dict.fromkeys(outcome["parameters"]),
        "playlists": {"validation": outcome["playlists"]["validation"]},
        "test": {},
    }
    check("tune", shape([outcome | stable]))


class FakeChoices:
    """A fake optuna trial that suggests the first or the last value."""

    def __init__(self, last: bool) -> None:
        self._row = -1 if last else 0

    def suggest_float(self, _name: str, low: float, high: float, *, log: bool) -> float:
        assert low > 0 or not log
        return (low, high)[self._row]

    def suggest_categorical(self, _name: str, values: Any) -> Any:
        return values[self._row]


PLAYED = Parameters(order="played")
PLAYS = 100_000


@pytest.mark.parametrize("phase", tuning_space.PHASES)
@pytest.mark.parametrize("last", [False, True])
def test_every_suggestion_is_valid(phase: str, last: bool) -> None:
    space = tuning_space.search_space(phase, PLAYED, PLAYS)
    chosen = tuning_space.suggest(FakeChoices(last), space)
    replace(Parameters(), **chosen)
    assert chosen.keys() == space.keys() == {*tuning_space.parameter_names(phase)}


@pytest.mark.parametrize("phase", tuning_space.PHASES)
@pytest.mark.parametrize(
    "start", [PLAYED, replace(PLAYED, dimensions=7, dense_weight=0.001, epochs=9, query_decay=0.1)]
)
def test_the_search_space_contains_the_start(phase: str, start: Parameters) -> None:
    space = tuning_space.search_space(phase, start, PLAYS)
    for name, value in tuning_space.start_values(start, space, PLAYS).items():
        if tuning_space.is_range(space[name]):
            assert space[name][0] <= value <= space[name][1]
        else:
            assert value in space[name]


def test_epochs_are_tried_around_the_default() -> None:
    assert tuning_space.search_space("train", PLAYED, PLAYS)["epochs"] == (15, 30, 60, 120)
    few = tuning_space.search_space("train", replace(PLAYED, epochs=2), PLAYS)["epochs"]
    assert few == (15, 30, 60, 120, 2)


def test_without_an_order_its_parameters_are_not_tuned() -> None:
    start = Parameters().with_order("none")
    tried = [
        name
        for phase in tuning_space.PHASES
        for name in tuning_space.search_space(phase, start, PLAYS)
    ]
    assert not {"distance_power", "backward", "query_decay", "cooccurrence_decay"} & {*tried}
    assert {"seed_exponent", "window", "dense_weight", "epochs"} <= {*tried}


def test_trials_are_divided_exactly() -> None:
    for trials in (6, 7, 8, 9, 13, 60, 100):
        assert sum(filter(None, divide_trials(trials).values())) == trials
        assert min(filter(None, divide_trials(trials).values())) >= 2
    assert divide_trials(None) == {"count": None, "train": None, "query": None}


def test_time_is_divided_among_the_remaining_phases() -> None:
    first = phase_deadline("count", 100.0, 200.0)
    assert first == pytest.approx(135.0)
    assert phase_deadline("train", 110.0, 200.0) == pytest.approx(110 + 90 * 0.5 / 0.65)
    assert phase_deadline("query", 150.0, 200.0) == 200.0
    assert phase_deadline("query", 210.0, 200.0) == 210.0


def test_cases_come_from_validation_playlists_alone(work: Path) -> None:
    files = StudyFiles.locate(work, work.parent / "other")
    data = tuning_space.read_tuning_data(files.songs, files.train, files.validation, QUICK)
    others = tuning_space.read_tuning_data(files.songs, files.train, files.test, QUICK)
    assert len(data.cases.labels) != len(others.cases.labels)
    assert len(data.cases.labels) > 3 * pq.read_metadata(files.validation).num_rows
    assert all(len(query) for query in data.cases.queries)
    assert data.playlist_counts.sum() == sum(map(len, data.train)) == data.plays


def test_a_study_starts_from_the_last_run(road: Road, tmp_path: Path) -> None:
    expected = replace(road.parameters, order="played")
    assert read_start(road.work) == expected
    assert read_start(road.work, seed=5) == replace(expected, seed=5)
    # An explicit order is kept, even if another one was detected, and so is everything else.
    work = tmp_path / "work"
    shutil.copytree(road.work, work, copy_function=linked)
    explicit = replace(road.parameters, order="none", neighbours=33, catalog_min=2, mode="auto")
    outcome = pipeline.run(
        [road.file], EmbeddedStore(tmp_path / "home"), work, explicit, SilentReporter()
    )
    start = read_start(work)
    assert (start.order, start.neighbours, start.catalog_min) == ("none", 33, 2)
    assert start.query_decay == 1.0
    assert start.dense_weight == outcome.manifest.origin.parameters["dense_weight"]


def test_the_outcome_is_complete(outcome: dict[str, Any]) -> None:
    figures = outcome["validation"]
    assert figures.keys() == {
        "tuned HR@10",
        "tuned HR@100",
        "start HR@10",
        "start HR@100",
    }
    better = outcome["beyond chance"]
    assert outcome["test"].keys() == ({"tuned HR@10", "tuned HR@100"} if better else set())
    assert outcome["test_used"] == better
    assert all(0 <= value <= 1 for value in figures.values())
    assert sum(outcome["trials"].values()) == 9
    assert all(count >= 2 for count in outcome["trials"].values())
    Parameters(**outcome["parameters"])
    # Untuned parameters that differ from the default are written too.
    assert outcome["parameters"]["order"] == "played"
    assert not {"seed", "workers", "mode", "ranker"} & outcome["parameters"].keys()


def test_the_figures_of_the_start_are_those_of_evaluate(
    place: StoreLocation, work: Path, outcome: dict[str, Any]
) -> None:
    plan = harness.Plan(modes=("auto",), baselines=(), behaviours=False, recall=False)
    evaluated = harness.evaluate(place, work, plan, SilentReporter())
    assert outcome["release"] == evaluated.conditions.release
    assert outcome["holdout"] == evaluated.conditions.holdout
    assert outcome["playlists"]["validation"] == evaluated.conditions.playlists
    for k in (10, 100):
        assert outcome["validation"][f"start HR@{k}"] == evaluated.main.figures[f"hr@{k}"].mean


def test_a_choice_is_scored_as_a_release_of_it_would_be(
    road: Road, place: StoreLocation, work: Path
) -> None:
    """The arrays of the road's release give the same rankings as the release."""
    current = tuning_outcome.score_current(place, work, SilentReporter())
    data = StudyFiles.locate(work, work.parent / "arrays").read_data(QUICK)
    all_songs = np.ones(len(data.playlist_counts), bool)
    weights = retrieval.read_weights(work / "count" / "cooccurrence.parquet", all_songs)
    vectors = retrieval.read_vectors(work / "train" / "vectors.parquet")
    arrays = tuning_space.build_arrays(data, weights, vectors)
    system = tuning_outcome.Choice(arrays, read_start(road.work))
    rescored = score_system(system, current.queries, current.data, DEPTH, SilentReporter())
    assert (rescored.rankings == current.scored.rankings).mean() > 0.98
    comparisons = tuning_outcome.compare(rescored, current.scored)
    assert comparisons["ndcg@100"].difference.mean == pytest.approx(0, abs=0.005)
    assert not tuning_outcome.is_better(comparisons)


def test_a_choice_that_is_no_better_is_not_offered(place: StoreLocation, work: Path) -> None:
    files = StudyFiles.locate(work, work.parent / "unlucky")
    data = files.read_data(QUICK)
    current = tuning_outcome.score_current(place, work, SilentReporter())
    for chosen in (QUICK, replace(QUICK, dense_weight=10.0, query_decay=0.0)):
        study_files.make_best_arrays(files, chosen)
        outcome = tuning_outcome.assess(files, data, current, QUICK, chosen, SilentReporter())
        assert not outcome["beyond chance"]
        assert outcome["parameters"] == tuning_outcome.parameters_to_write(QUICK, data.plays)
        assert (outcome["test"], outcome["test_used"]) == ({}, False)
        lines = list(tuning_outcome.describe(outcome))
        assert [line.split()[0] for line in lines] == ["current", "tuned"]
        assert "not significantly better (p = " in lines[1]


def test_a_choice_that_is_better_is_offered_and_scored_on_test_once(lane: Lane) -> None:
    lane.run(query_decay=0.0, neighbours=1, dimensions=2, epochs=1, workers=1, mode="dense")
    place, study = StoreLocation(lane.home.path), lane.work.parent / "study"
    first = tune(place, lane.work, study, QUICK, Budget(trials=6), SilentReporter())
    assert first["beyond chance"]
    assert first["p"] < 0.05
    figures = first["validation"]
    assert figures["tuned HR@100"] == first["tried"]["tuned HR@100"] > figures["start HR@100"]
    assert first["test_used"]
    playlists = pq.read_metadata(lane.work / "split" / "test.parquet").num_rows
    current, tuned, test = tuning_outcome.describe(first)
    assert f"release {place.release_ids()[-1]}" in current
    assert "significantly better (p" in tuned
    assert (
        f"{format_number(first['test']['tuned HR@100'])}: {playlists} test playlists, scored now"
        in test
    )
    again = tune(place, lane.work, study, QUICK, Budget(trials=6), SilentReporter())
    # The same choice has the same figure on test: the playlists are not scored again.
    assert (again["test"], again["test_used"]) == (first["test"], False)
    assert again["playlists"] == first["playlists"]
    assert list(tuning_outcome.describe(again))[2].endswith("scored by an earlier run")


def test_scratch_folders_are_removed(
    place: StoreLocation, work: Path, outcome: dict[str, Any]
) -> None:
    assert outcome
    study = work.parent / "study"
    names = {path.name.split("-")[0] for path in study.iterdir()}
    assert names <= {"trials.journal", "vectors", "best", "outcome.json"}
    files = StudyFiles.locate(work, study)
    with study_files.with_scratch(files) as first, study_files.with_scratch(files) as second:
        assert first.scratch.is_dir()  # of another run that is not finished
        assert second.scratch.is_dir()
        (first.scratch / "tmp").mkdir()
        (first.scratch / "tmp" / "corpus.txt").touch()  # of an abandoned trial
    assert not list(study.glob("scratch-*"))


def test_the_first_trial_is_the_start(work: Path, outcome: dict[str, Any]) -> None:
    study = open_studies(work, work.parent / "study")["count"]
    assert {*outcome["trials"]} == {*tuning_space.PHASES}
    first = study.get_trials()[0]
    start = replace(QUICK, order="played")
    assert first.params == tuning_space.start_values(
        start, tuning_space.search_space("count", start, 1), 1
    )
    assert study.best_value >= first.value


def test_a_study_continues_where_it_stopped(
    place: StoreLocation, work: Path, outcome: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the vectors of the best trial must be reused")

    monkeypatch.setattr(tuning_space, "train_vectors", never)
    again = tune(place, work, work.parent / "study", QUICK, Budget(trials=9), SilentReporter())
    assert again["trials"] == outcome["trials"]
    assert again["parameters"] == outcome["parameters"]
    assert again["tried"] == outcome["tried"]
    assert again["test"] == outcome["test"]
    assert not again["test_used"]


def test_trials_with_other_inputs_are_another_study(work: Path, outcome: dict[str, Any]) -> None:
    assert outcome
    files = StudyFiles.locate(work, work.parent / "names")
    start = replace(QUICK, order="played")
    names = {
        phase: Phase.prepare(files, phase, start, 1).study_name for phase in tuning_space.PHASES
    }
    same = {
        phase: Phase.prepare(files, phase, start, 1).study_name for phase in tuning_space.PHASES
    }
    assert names == same
    for change, expected in (
        ({"backward": 0.9}, {"query"}),
        ({"neighbours": 50}, {"count", "query"}),
        ({"window": 5}, {"query"}),
        ({"seed": 3}, {"count", "train", "query"}),
        ({"dense_weight": 0.3, "workers": 2, "mode": "dense"}, set()),
    ):
        changed = replace(start, **change)  # type: ignore[arg-type]
        differing = {
            phase
            for phase in tuning_space.PHASES
            if Phase.prepare(files, phase, changed, 1).study_name != names[phase]
        }
        assert differing == expected, change
    assert len(list(files.study.glob("best-*.npz"))) == 1  # older ones are removed


class FakeTrial:
    """A fake optuna trial that should be pruned from a step on."""

    def __init__(self, weak_from: int) -> None:
        self._weak_from = weak_from
        self.steps: list[int] = []

    def report(self, _value: float, step: int) -> None:
        self.steps.append(step)

    def should_prune(self) -> bool:
        return self.steps[-1] >= self._weak_from


def test_a_weak_trial_is_pruned(work: Path) -> None:
    files = StudyFiles.locate(work, work.parent / "pruned")
    data = files.read_data(QUICK)
    arrays = tuning_space.build_arrays(data, tuning_space.count_cooccurrence(data, QUICK))
    weak, strong = FakeTrial(2), FakeTrial(9)
    with pytest.raises(optuna.TrialPruned):
        score_in_chunks(weak, arrays, data, QUICK, "count")
    assert weak.steps == [1, 2]
    value = score_in_chunks(strong, arrays, data, QUICK, "count")
    assert strong.steps == [1, 2, 3]
    assert value == pytest.approx(tuning_space.mean_gain(arrays, data.cases, QUICK, "count"))


def test_a_failing_trial_does_not_end_its_worker(work: Path) -> None:
    files = StudyFiles.locate(work, work.parent / "failing")
    start = replace(QUICK, order="played")
    phase = replace(
        Phase.prepare(files, "train", start, 1),
        start=replace(start, min_count=900_000),
        space={"negative": (3, 5)},
    )
    with (
        SilentReporter().task("train") as task,
        pytest.raises(MismatchError, match=r"all 3 trials .* no song is in 900000 training"),
    ):
        run_phase(files, phase, Limits(3, None, 1), task, SilentReporter())
    assert [t.state.name for t in open_study(files, phase.study_name).get_trials()] == ["FAIL"] * 3


def test_minutes_alone_limit_a_study(place: StoreLocation, work: Path) -> None:
    short = tune(place, work, work.parent / "short", QUICK, Budget(None, 0.2, 1), SilentReporter())
    assert min(short["trials"].values()) >= 1  # the start always completes
    assert short["budget"]["trials"] is None


def test_samplers_are_seeded(work: Path) -> None:
    files = StudyFiles.locate(work, work.parent / "seeded")

    def draw(name: str, seed: int) -> list[float]:
        study = open_study(files, name, seed)
        return [study.ask().suggest_float("x", 0, 1) for _ in range(3)]

    assert draw("a", 1) == draw("b", 1) != draw("c", 2)


def test_the_command_writes_a_file_that_makes_a_release(
    road: Road, place: StoreLocation, work: Path, outcome: dict[str, Any]
) -> None:
    home = place.folder
    arguments = ["--home", str(home), "--work", str(work), "--study", str(work.parent / "study")]
    result = CliRunner().invoke(main, ["tune", *arguments, "--trials", "9", "--quiet"])
    assert result.exit_code == 0, result.output
    printed = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert ("--params" in printed["parameters"]) == outcome["beyond chance"]
    assert f"release {outcome['release']}" in printed["current"]
    assert ("test" in printed) == outcome["beyond chance"]
    report = (work.parent / "study" / "report.html").read_text()
    assert report.count("<svg") >= 6
    assert "Co-occurrence" in report
    file = work.parent / "study" / "tuned.json"
    run = ["ingest", "run", str(road.file), "--home", str(home), "--params", str(file)]
    result = CliRunner().invoke(main, [*run, "--epochs", "2", "--dimensions", "8", "--quiet"])
    assert result.exit_code == 0, result.output
    release = EmbeddedStore(home).open()
    release.close()
    chosen = json.loads(file.read_text())
    parameters = release.manifest.origin.parameters
    # Options of the command line override the file.
    assert (parameters["dimensions"], parameters["epochs"]) == (8, 2)
    for name, value in chosen["parameters"].items():
        follows_the_plays = value is None
        is_overridden = name in ("dimensions", "epochs")
        assert is_overridden or follows_the_plays or parameters[name] == value
    assert chosen["validation"].items() <= release.manifest.validation.items()
    study = parameters["study"]
    for name in ("trials", "validation", "test", "split_fingerprint"):
        assert study[name] == chosen[name]
    (run_entry,) = runs.load(home, kind="tune")
    assert run_entry.payload["figures"]["hr@100"] == chosen["validation"]["tuned HR@100"]
    assert (run_entry.payload["split"], run_entry.payload["holdout"]) == ("validation", "last")
    assert not run_entry.payload["test_used"]  # an earlier run of the study used them


def test_a_command_that_cannot_succeed_fails_before_the_first_trial(
    place: StoreLocation, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*options: str) -> str:
        arguments = ["--home", str(place.folder), "--work", str(work)]
        result = CliRunner().invoke(main, ["tune", *arguments, *options])
        assert result.exit_code == 1
        return result.stderr

    study = tmp_path / "study"
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "tuned.json")
    assert "a file stands where a folder is needed" in fail("--study", str(study), "--out", out)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        assert "needs matplotlib, which is not installed" in fail("--study", str(study))
    assert "publish one with" in fail("--study", str(study), "--home", str(tmp_path))
    assert not list(tmp_path.rglob("trials.journal"))


def test_another_study_makes_another_release(lane: Lane) -> None:
    def publish(study: dict[str, Any]) -> bool:
        return pipeline.run(
            [lane.file],
            lane.home,
            lane.work,
            lane.road.parameters,
            SilentReporter(),
            pipeline.RunOptions(study=study),
        ).published

    first = {"trials": {"count": 3}, "test": {"tuned HR@10": 0.1}}
    assert publish(first)
    assert not publish(first)
    assert publish(first | {"trials": {"count": 4}})
    manifest = lane.home.manifest(str(lane.home.current()))
    assert manifest.origin.parameters["study"]["trials"] == {"count": 4}


def test_a_parameter_file_may_be_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[parameters]\nwindow = 9\nbackward = 1\nskip_gram = false\norder = 'none'\n")
    chosen = read_parameter_file(path)
    assert chosen.parameters == {
        "window": 9,
        "backward": 1,
        "skip_gram": False,
        "order": "none",
    }
    assert chosen.validation == {}
    assert chosen.study == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[]", "no table"),
        ('{"parameters": 3}', "no table"),
        ('{"parameters": {"windows": 3}}', "no parameter 'windows'"),
        ('{"parameters": {"window": "3"}}', "window cannot be '3'"),
        ('{"parameters": {"window": true}}', "window cannot be True"),
        ('{"parameters": {"skip_gram": 1}}', "skip_gram cannot be 1"),
        ('{"parameters": {"negative": null}}', "negative cannot be None"),
        ('{"parameters": {}, "validation": {"a": "b"}}', "must hold numbers"),
    ],
)
def test_an_error_names_what_is_wrong_in_a_parameter_file(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_parameter_file(path)


def test_a_missing_parameter_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        read_parameter_file(tmp_path / "none.json")


def test_gains_by_hand() -> None:
    np.testing.assert_allclose(
        tuning_space.discounted_gains(np.array([1, 3, 0, 100])), [1.0, 0.5, 0.0, 1 / np.log2(101)]
    )
