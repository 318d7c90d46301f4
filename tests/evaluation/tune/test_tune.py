"""Tuning: what is tried, that it goes on where it stopped, and that its file makes a release."""

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

from catalog.embedded.store import EmbeddedStore
from catalog.errors import FileError, InputError, MismatchError
from catalog.progress import SilentReporter
from cli.main import main
from evaluation.judge import harness
from evaluation.judge.scoring import DEPTH, score_system
from evaluation.report.headline import format_number
from evaluation.runs import log as runs
from evaluation.systems.location import StoreLocation
from evaluation.tune import files
from evaluation.tune import outcome as tune_outcome
from evaluation.tune import space as tune_space
from evaluation.tune.files import Places
from evaluation.tune.study import Budget, deadline_of, start_of, studies, trials_of, tune
from evaluation.tune.trials import Phase, judged, run_phase, study_of
from ingest import parameter_files, pipeline
from ingest.learn import retrieval
from ingest.parameters import Parameters
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
    """A copy of the road's home: runs are recorded in it."""
    home = work.parent / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    return StoreLocation(home)


@pytest.fixture(scope="module")
def outcome(place: StoreLocation, work: Path) -> dict[str, Any]:
    left = work.parent / "study" / "scratch-killed"
    (left / "tmp").mkdir(parents=True)
    (left / "tmp" / "tests.support.corpus.txt").touch()
    return tune(place, work, work.parent / "study", QUICK, Budget(trials=9), SilentReporter())


def test_what_was_chosen_has_the_keys_of_the_snapshot(outcome: dict[str, Any]) -> None:
    chosen = dict.fromkeys(outcome["parameters"])  # the values depend on how long trials take
    check("tune", shape([outcome | {"parameters": chosen}]))


class Chooser:
    """Stands in for an optuna trial: takes the first or the last of what there is."""

    def __init__(self, last: bool) -> None:
        self._place = -1 if last else 0

    def suggest_float(self, _name: str, low: float, high: float, *, log: bool) -> float:
        assert low > 0 or not log
        return (low, high)[self._place]

    def suggest_categorical(self, _name: str, values: Any) -> Any:
        return values[self._place]


PLAYED = Parameters(order="played")
PLAYS = 100_000


@pytest.mark.parametrize("phase", tune_space.PHASES)
@pytest.mark.parametrize("last", [False, True])
def test_every_choice_makes_parameters(phase: str, last: bool) -> None:
    space = tune_space.space(phase, PLAYED, PLAYS)
    chosen = tune_space.suggest(Chooser(last), space)
    tune_space.with_chosen(Parameters(), chosen)
    assert chosen.keys() == space.keys() == {*tune_space.names(phase)}


@pytest.mark.parametrize("phase", tune_space.PHASES)
@pytest.mark.parametrize(
    "start", [PLAYED, replace(PLAYED, dimensions=7, dense_weight=0.001, epochs=9, query_decay=0.1)]
)
def test_the_start_can_be_chosen(phase: str, start: Parameters) -> None:
    space = tune_space.space(phase, start, PLAYS)
    for name, value in tune_space.start_of(start, space, PLAYS).items():
        if tune_space.is_range(space[name]):
            assert space[name][0] <= value <= space[name][1]
        else:
            assert value in space[name]


def test_epochs_are_tried_around_the_usual_ones() -> None:
    assert tune_space.space("train", PLAYED, PLAYS)["epochs"] == (15, 30, 60, 120)
    few = tune_space.space("train", replace(PLAYED, epochs=2), PLAYS)["epochs"]
    assert few == (15, 30, 60, 120, 2)


def test_without_an_order_nothing_of_it_is_tried() -> None:
    start = Parameters().in_order("none")
    tried = [name for phase in tune_space.PHASES for name in tune_space.space(phase, start, PLAYS)]
    assert not {"distance_power", "backward", "query_decay", "cooccurrence_decay"} & {*tried}
    assert {"seed_exponent", "window", "dense_weight", "epochs"} <= {*tried}


def test_trials_are_divided_exactly() -> None:
    for trials in (6, 7, 8, 9, 13, 60, 100):
        assert sum(filter(None, trials_of(trials).values())) == trials
        assert min(filter(None, trials_of(trials).values())) >= 2
    assert trials_of(None) == {"count": None, "train": None, "query": None}


def test_time_is_divided_over_the_phases_that_are_left() -> None:
    first = deadline_of("count", 100.0, 200.0)
    assert first == pytest.approx(135.0)
    assert deadline_of("train", 110.0, 200.0) == pytest.approx(110 + 90 * 0.5 / 0.65)
    assert deadline_of("query", 150.0, 200.0) == 200.0
    assert deadline_of("query", 210.0, 200.0) == 210.0


def test_queries_are_of_validation_alone(work: Path) -> None:
    places = Places.of(work, work.parent / "other")
    held = tune_space.load(places.songs, places.train, places.validation, QUICK)
    others = tune_space.load(places.songs, places.train, places.test, QUICK)
    assert len(held.cases.labels) != len(others.cases.labels)
    assert len(held.cases.labels) > 3 * pq.read_metadata(places.validation).num_rows
    assert all(len(query) for query in held.cases.queries)
    assert held.playlists.sum() == sum(map(len, held.train)) == held.plays


def test_a_study_starts_from_the_last_run(road: Road, tmp_path: Path) -> None:
    found = start_of(road.work)
    expected = replace(road.parameters, order="played")
    assert found == expected
    assert start_of(road.work, seed=5) == replace(expected, seed=5)
    # An order that was told, against what is measured, is kept, and all else too.
    work = tmp_path / "work"
    shutil.copytree(road.work, work, copy_function=linked)
    told = replace(road.parameters, order="none", neighbours=33, catalog_min=2, mode="auto")
    outcome = pipeline.run(
        [road.file], {}, EmbeddedStore(tmp_path / "home"), work, told, SilentReporter()
    )
    found = start_of(work)
    assert (found.order, found.neighbours, found.catalog_min) == ("none", 33, 2)
    assert found.query_decay == 1.0
    assert found.dense_weight == outcome.manifest.origin.parameters["dense_weight"]


def test_what_came_of_a_study(outcome: dict[str, Any]) -> None:
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
    # What was not tuned, and is not as by default, is written too, or it would be lost.
    assert outcome["parameters"]["order"] == "played"
    assert not {"seed", "workers", "mode", "ranker"} & outcome["parameters"].keys()


def test_the_start_is_the_release_as_it_is_evaluated(
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
    """The arrays that the road's release was made of answer as that release does."""
    current = tune_outcome.score_current(place, work, SilentReporter())
    held = Places.of(work, work.parent / "arrays").held(QUICK)
    strengths = retrieval.read_strengths(
        work / "count" / "cooccurrence.parquet", len(held.playlists)
    )
    vectors = retrieval.read_vectors(work / "train" / "vectors.parquet")
    arrays = tune_space.arrays_of(held, strengths, vectors)
    system = tune_outcome.Choice(arrays, start_of(road.work))
    found = score_system(system, current.queries, current.data, DEPTH, SilentReporter())
    assert (found.rankings == current.scored.rankings).mean() > 0.98
    comparisons = tune_outcome.compare(found, current.scored)
    assert comparisons["ndcg@100"].difference.mean == pytest.approx(0, abs=0.005)
    assert not tune_outcome.is_better(comparisons)


def test_a_choice_that_is_no_better_is_not_offered(place: StoreLocation, work: Path) -> None:
    places = Places.of(work, work.parent / "unlucky")
    held = places.held(QUICK)
    current = tune_outcome.score_current(place, work, SilentReporter())
    for chosen in (QUICK, replace(QUICK, dense_weight=10.0, query_decay=0.0)):
        files.make_best(places, chosen)
        found = tune_outcome.outcome(places, held, current, QUICK, chosen, SilentReporter())
        assert not found["beyond chance"]
        assert found["parameters"] == tune_outcome.written(QUICK, held.plays)
        assert (found["test"], found["test_used"]) == ({}, False)
        lines = list(tune_outcome.describe(found))
        assert [line.split()[0] for line in lines] == ["current", "tuned"]
        assert "not significantly better (p = " in lines[1]


def test_a_choice_that_is_better_is_offered_and_scored_on_test_once(lane: Lane) -> None:
    lane.run(query_decay=0.0, neighbours=1, dimensions=2, epochs=1, workers=1, mode="dense")
    place, study = StoreLocation(lane.home.path), lane.work.parent / "study"
    found = tune(place, lane.work, study, QUICK, Budget(trials=6), SilentReporter())
    assert found["beyond chance"]
    assert found["p"] < 0.05
    figures = found["validation"]
    assert figures["tuned HR@100"] == found["tried"]["tuned HR@100"] > figures["start HR@100"]
    assert found["test_used"]
    asked = pq.read_metadata(lane.work / "split" / "test.parquet").num_rows
    current, tuned, test = tune_outcome.describe(found)
    assert f"release {place.release_ids()[-1]}" in current
    assert "significantly better (p" in tuned
    assert (
        f"{format_number(found['test']['tuned HR@100'])}: {asked} test playlists, asked now" in test
    )
    again = tune(place, lane.work, study, QUICK, Budget(trials=6), SilentReporter())
    # The same choice has the same figure on test: the playlists are not asked once more.
    assert (again["test"], again["test_used"]) == (found["test"], False)
    assert again["playlists"] == found["playlists"]
    assert list(tune_outcome.describe(again))[2].endswith("asked by an earlier run")


def test_nothing_is_left_behind_but_the_study(
    place: StoreLocation, work: Path, outcome: dict[str, Any]
) -> None:
    assert outcome
    study = work.parent / "study"
    names = {path.name.split("-")[0] for path in study.iterdir()}
    assert names <= {"trials.journal", "vectors", "best", "outcome.json"}
    places = Places.of(work, study)
    with files.with_scratch(places) as first, files.with_scratch(places) as second:
        assert first.scratch.is_dir()  # of a run that still goes on
        assert second.scratch.is_dir()
        (first.scratch / "tmp").mkdir()
        (first.scratch / "tmp" / "tests.support.corpus.txt").touch()  # of a trial that was given up
    assert not list(study.glob("scratch-*"))


def test_the_first_trial_is_the_start(work: Path, outcome: dict[str, Any]) -> None:
    study = studies(work, work.parent / "study")["count"]
    assert {*outcome["trials"]} == {*tune_space.PHASES}
    first = study.get_trials()[0]
    start = replace(QUICK, order="played")
    assert first.params == tune_space.start_of(start, tune_space.space("count", start, 1), 1)
    assert study.best_value >= first.value


def test_a_study_goes_on_where_it_stopped(
    place: StoreLocation, work: Path, outcome: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the vectors of the best trial are kept")

    monkeypatch.setattr(tune_space, "trained", never)
    again = tune(place, work, work.parent / "study", QUICK, Budget(trials=9), SilentReporter())
    assert again["trials"] == outcome["trials"]
    assert again["parameters"] == outcome["parameters"]
    assert again["tried"] == outcome["tried"]
    assert again["test"] == outcome["test"]
    assert not again["test_used"]


def test_trials_of_other_arrays_are_not_believed(work: Path, outcome: dict[str, Any]) -> None:
    assert outcome
    places = Places.of(work, work.parent / "names")
    start = replace(QUICK, order="played")
    names = {phase: Phase.of(places, phase, start, 1).study for phase in tune_space.PHASES}
    same = {phase: Phase.of(places, phase, start, 1).study for phase in tune_space.PHASES}
    assert names == same
    for change, differ in (
        ({"backward": 0.9}, {"query"}),
        ({"neighbours": 50}, {"count", "query"}),
        ({"window": 5}, {"query"}),
        ({"seed": 3}, {"count", "train", "query"}),
        ({"dense_weight": 0.3, "workers": 2, "mode": "dense"}, set()),
    ):
        changed = replace(start, **change)  # type: ignore[arg-type]
        found = {
            phase
            for phase in tune_space.PHASES
            if Phase.of(places, phase, changed, 1).study != names[phase]
        }
        assert found == differ, change
    assert len(list(places.study.glob("best-*.npz"))) == 1  # the others are superseded


class Judge:
    """Stands in for an optuna trial that is judged: weak from a step on."""

    def __init__(self, weak_from: int) -> None:
        self._weak_from = weak_from
        self.steps: list[int] = []

    def report(self, _value: float, step: int) -> None:
        self.steps.append(step)

    def should_prune(self) -> bool:
        return self.steps[-1] >= self._weak_from


def test_a_weak_trial_is_ended_early(work: Path) -> None:
    places = Places.of(work, work.parent / "pruned")
    held = places.held(QUICK)
    arrays = tune_space.arrays_of(held, tune_space.counted(held, QUICK))
    weak, strong = Judge(2), Judge(9)
    with pytest.raises(optuna.TrialPruned):
        judged(weak, arrays, held, QUICK, "count")
    assert weak.steps == [1, 2]
    value = judged(strong, arrays, held, QUICK, "count")
    assert strong.steps == [1, 2, 3]
    assert value == pytest.approx(tune_space.value_of(arrays, held, QUICK, "count"))


def test_a_failing_trial_ends_no_worker_and_says_why(work: Path) -> None:
    places = Places.of(work, work.parent / "failing")
    start = replace(QUICK, order="played")
    phase = replace(
        Phase.of(places, "train", start, 1),
        start=replace(start, min_count=900_000),
        space={"negative": (3, 5)},
    )
    with pytest.raises(MismatchError, match=r"all 3 trials .* no song is in 900000 training"):
        run_phase(
            places, phase, 3, None, 1, SilentReporter().task("x").__enter__(), SilentReporter()
        )
    assert [t.state.name for t in study_of(places, phase.study).get_trials()] == ["FAIL"] * 3


def test_minutes_alone_bound_a_study(place: StoreLocation, work: Path) -> None:
    found = tune(place, work, work.parent / "short", QUICK, Budget(None, 0.2, 1), SilentReporter())
    assert min(found["trials"].values()) >= 1  # the start is always tried, and judged
    assert found["budget"]["trials"] is None


def test_samplers_are_seeded(work: Path) -> None:
    places = Places.of(work, work.parent / "seeded")

    def drawn(name: str, seed: int) -> list[float]:
        study = study_of(places, name, seed)
        return [study.ask().suggest_float("x", 0, 1) for _ in range(3)]

    assert drawn("a", 1) == drawn("b", 1) != drawn("c", 2)


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
    # What is said on the command line goes first.
    assert (parameters["dimensions"], parameters["epochs"]) == (8, 2)
    for name, value in chosen["parameters"].items():
        follows_the_plays = value is None
        told = name in ("dimensions", "epochs")
        assert told or follows_the_plays or parameters[name] == value
    assert chosen["validation"].items() <= release.manifest.validation.items()
    study = parameters["study"]
    for name in ("trials", "validation", "test", "split_fingerprint"):
        assert study[name] == chosen[name]
    (tuned,) = runs.load(home, kind="tune")
    assert tuned.payload["figures"]["hr@100"] == chosen["validation"]["tuned HR@100"]
    assert (tuned.payload["split"], tuned.payload["holdout"]) == ("validation", "last")
    assert not tuned.payload["test_used"]  # an earlier run of the study asked, and is counted


def test_what_cannot_succeed_ends_before_a_trial(
    place: StoreLocation, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tuned(*options: str) -> str:
        arguments = ["--home", str(place.folder), "--work", str(work)]
        result = CliRunner().invoke(main, ["tune", *arguments, *options])
        assert result.exit_code == 1
        return result.stderr

    study = tmp_path / "study"
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "tuned.json")
    assert "a file stands where a folder is needed" in tuned("--study", str(study), "--out", out)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        assert "needs matplotlib, which is not installed" in tuned("--study", str(study))
    assert "publish one with" in tuned("--study", str(study), "--home", str(tmp_path))
    assert not list(tmp_path.rglob("trials.journal"))


def test_another_study_makes_another_release(lane: Lane) -> None:
    def published(study: dict[str, Any]) -> bool:
        return pipeline.run(
            [lane.file],
            {},
            lane.home,
            lane.work,
            lane.road.parameters,
            SilentReporter(),
            study=study,
        ).published

    first = {"trials": {"count": 3}, "test": {"tuned HR@10": 0.1}}
    assert published(first)
    assert not published(first)
    assert published(first | {"trials": {"count": 4}})
    manifest = lane.home.manifest(str(lane.home.current()))
    assert manifest.origin.parameters["study"]["trials"] == {"count": 4}


def test_a_parameter_file_may_be_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[parameters]\nwindow = 9\nbackward = 1\nskip_gram = false\norder = 'none'\n")
    chosen = parameter_files.read(path)
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
def test_what_is_wrong_in_a_parameter_file_is_named(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        parameter_files.read(path)


def test_a_missing_parameter_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        parameter_files.read(tmp_path / "none.json")


def test_gains_by_hand() -> None:
    np.testing.assert_allclose(
        tune_space.discounted_gains(np.array([1, 3, 0, 100])), [1.0, 0.5, 0.0, 1 / np.log2(101)]
    )
