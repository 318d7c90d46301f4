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
from catalog.errors import BusyError, MismatchError
from cli.main import main
from evaluation.judge.scoring import DEPTH, score_system
from evaluation.judge.significance import ALPHA, format_p_equals
from evaluation.report.headline import format_number
from evaluation.runs import log as runs
from evaluation.systems.location import StoreLocation
from evaluation.tune import data as tuning_data
from evaluation.tune import outcome as tuning_outcome
from evaluation.tune import space as tuning_space
from evaluation.tune.objective import compute_mean_gain, prepare_phase, score_in_chunks
from evaluation.tune.page import write_report
from evaluation.tune.study import (
    Budget,
    compute_deadline,
    divide_trials,
    lock_scratch_folder,
    read_start,
    tune,
)
from evaluation.tune.trials import Limits, open_study, run_phase
from ingest import pipeline
from ingest.learn.arrays import read_vectors, read_weights
from ingest.learn.rank_metrics import discounted_gains
from ingest.parameters import Parameters
from tests.support.road import QUICK, linked
from tests.support.snapshots import check, shape

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.tune.data import StudyFiles
    from evaluation.tune.outcome import Outcome
    from tests.support.pipeline_runs import Lane
    from tests.support.road import Road


START = replace(QUICK, order="played")
TRIALS = 6  # the minimum number of trials in a study


def locate(work: Path, name: str) -> StudyFiles:
    """Return the files of a new study with this name, next to the work folder."""
    study = work.parent / name
    files = tuning_data.locate_files(work, study)
    files.scratch.mkdir(parents=True)
    return files


@pytest.fixture(scope="module")
def work(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("tune") / "work"
    shutil.copytree(road.work, work, copy_function=linked)
    return work


@pytest.fixture(scope="module")
def location(road: Road, work: Path) -> StoreLocation:
    """A copy of the release store of the fixture `road`, in which tests may record runs."""
    home = work.parent / "home"
    shutil.copytree(road.home.path, home, copy_function=linked)
    return StoreLocation(home)


@pytest.fixture(scope="module")
def outcome(location: StoreLocation, work: Path) -> Outcome:
    of_a_killed_run = work.parent / "study" / "scratch" / "tmp"
    of_a_killed_run.mkdir(parents=True)
    (of_a_killed_run / "corpus.txt").touch()
    return tune(
        location, work, work.parent / "study", START, Budget(trials=TRIALS), SilentReporter()
    )


def test_the_outcome_has_the_keys_of_the_snapshot(outcome: Outcome) -> None:
    # The snapshot contains keys without values, because values depend on the duration of trials.
    stable = {
        "parameters": dict.fromkeys(outcome.parameters),
        "playlists": {"validation": outcome.playlists["validation"]},
        "test": {},
    }
    check("tune", shape([outcome.to_json() | stable]))


PLAYED = Parameters(order="played")
PLAYS = 100_000


@pytest.mark.parametrize("phase", tuning_space.PHASES)
def test_every_suggestion_is_valid(phase: str) -> None:
    space = tuning_space.make_search_space(phase, PLAYED, PLAYS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        suggested = tuning_space.suggest(study.ask(), space)
        assert suggested.keys() == space.keys()
        parameters = tuning_space.set_values(PLAYED, suggested)
        if phase != "train":
            assert parameters.content_shares == {"artist": suggested["content_shares.artist"]}


@pytest.mark.parametrize("phase", tuning_space.PHASES)
@pytest.mark.parametrize(
    "start", [PLAYED, replace(PLAYED, dimensions=7, dense_weight=0.001, epochs=9, recency=3.0)]
)
def test_the_search_space_contains_the_start(phase: str, start: Parameters) -> None:
    space = tuning_space.make_search_space(phase, start, PLAYS)
    for name, value in tuning_space.get_start_values(start, space, PLAYS).items():
        distribution = space[name]
        assert distribution._contains(distribution.to_internal_repr(value))


def test_epochs_are_tried_around_the_default() -> None:
    def choices(start: Parameters) -> tuple[int, ...]:
        return tuning_space.make_search_space("train", start, PLAYS)["epochs"].choices

    assert choices(PLAYED) == (4, 8, 15, 30)
    assert choices(replace(PLAYED, epochs=2)) == (4, 8, 15, 30, 2)


def test_without_an_order_its_parameters_are_not_tuned() -> None:
    start = Parameters().with_order("none")
    tried = [
        name
        for phase in tuning_space.PHASES
        for name in tuning_space.make_search_space(phase, start, PLAYS)
    ]
    assert not {"distance_power", "backward", "recency", "dense_recency"} & {*tried}
    assert {"seed_exponent", "window", "dense_weight", "epochs"} <= {*tried}


def test_trials_are_divided_exactly() -> None:
    for trials in (*range(6, 200), 100_000):
        counts = [count or 0 for count in divide_trials(trials).values()]
        assert sum(counts) == trials
        assert min(counts) >= 2
    assert divide_trials(10) == {"count": 4, "train": 3, "query": 3}
    assert divide_trials(None) == {"count": None, "train": None, "query": None}


def test_time_is_divided_among_the_remaining_phases() -> None:
    first = compute_deadline("count", 100.0, 200.0)
    assert first == pytest.approx(135.0)
    assert compute_deadline("train", 110.0, 200.0) == pytest.approx(110 + 90 * 0.5 / 0.65)
    assert compute_deadline("query", 150.0, 200.0) == 200.0
    assert compute_deadline("query", 210.0, 200.0) == 210.0


def test_cases_come_from_validation_playlists_alone(work: Path) -> None:
    files = locate(work, "other")
    data = tuning_data.read_tuning_data(files, START)
    test = files.validation.with_name("test.parquet")
    others = tuning_data.read_tuning_data(replace(files, validation=test), START)
    assert len(data.cases.labels) != len(others.cases.labels)
    assert len(data.cases.labels) > 3 * pq.read_metadata(files.validation).num_rows
    assert all(len(query) for query in data.cases.queries)
    assert data.playlist_counts.sum() == sum(map(len, data.train)) == data.plays


def test_a_study_starts_from_the_last_run(road: Road, tmp_path: Path) -> None:
    selected = road.outcome.stages.choose.summary.selected.to_parameters()
    assert selected["content_shares"].keys() == {"artist"}
    expected = replace(road.parameters, order="played", **selected)
    assert read_start(road.work) == expected
    assert read_start(road.work, seed=5) == replace(expected, seed=5)
    # All parameters of the last run are kept, even an explicit order that differs from the detected
    # order.
    work = tmp_path / "work"
    shutil.copytree(road.work, work, copy_function=linked)
    explicit = replace(road.parameters, order="none", neighbours=33, catalog_min=2, mode="auto")
    outcome = pipeline.run(
        [road.file], EmbeddedStore(tmp_path / "home"), work, explicit, SilentReporter()
    )
    start = read_start(work)
    assert (start.order, start.neighbours, start.catalog_min) == ("none", 33, 2)
    assert start.recency == start.dense_recency == 0.0
    assert start.dense_weight == outcome.manifest.origin.parameters["dense_weight"]


def test_the_outcome_is_complete(outcome: Outcome) -> None:
    figures = outcome.validation
    assert figures.keys() == {"tuned HR@10", "tuned HR@100", "start HR@10", "start HR@100"}
    assert outcome.test.keys() == ({"tuned HR@10", "tuned HR@100"} if outcome.better else set())
    assert outcome.test_used == outcome.better
    assert all(0 <= value <= 1 for value in figures.values())
    assert sum(outcome.trials.values()) == TRIALS
    assert all(count >= 2 for count in outcome.trials.values())
    Parameters(**outcome.parameters)
    # Parameters that are not tuned are also written if they differ from their defaults.
    assert outcome.parameters["order"] == "played"
    assert not {"seed", "workers", "mode", "ranker"} & outcome.parameters.keys()


def test_the_figures_of_the_start_are_those_of_evaluate(
    location: StoreLocation, work: Path, outcome: Outcome
) -> None:
    evaluate = ["evaluate", "--home", str(location.folder), "--work", str(work), "--json", "-q"]
    options = ["--modes=auto", "--baselines=none", "--no-behaviours", "--no-recall"]
    result = CliRunner().invoke(main, [*evaluate, *options])
    conditions, _, system = map(json.loads, result.stdout.splitlines()[:3])
    assert outcome.release == conditions["release"]
    assert outcome.holdout == conditions["holdout"]
    assert outcome.playlists["validation"] == conditions["playlists"]
    for k in (10, 100):
        assert outcome.validation[f"start HR@{k}"] == system["figures"][f"hr@{k}"]["mean"]


def test_a_choice_is_scored_as_a_release_of_it_would_be(
    road: Road, location: StoreLocation, work: Path
) -> None:
    """The arrays of a release give the same rankings as the release itself."""
    current = tuning_outcome.evaluate_current(location, work, SilentReporter())
    data = tuning_data.read_tuning_data(locate(work, "arrays"), START)
    all_songs = np.ones(len(data.playlist_counts), bool)
    weights = read_weights(work / "count" / "cooccurrence.parquet", all_songs)
    vectors = read_vectors(work / "train" / "vectors.parquet")
    arrays = tuning_data.build_arrays(data, weights, vectors)
    choice = tuning_outcome.Choice(arrays, read_start(road.work))
    rescored = score_system(choice, current.cases, current.dataset, DEPTH, SilentReporter())
    assert (rescored.rankings == current.main.rankings).mean() > 0.98
    comparisons = tuning_outcome.compare_with_current(rescored, current.main)
    assert comparisons["ndcg@100"].difference.mean == pytest.approx(0, abs=0.005)
    assert not tuning_outcome.is_better(comparisons)


def test_a_choice_that_is_no_better_is_not_offered(location: StoreLocation, work: Path) -> None:
    files = locate(work, "unlucky")
    data = tuning_data.read_tuning_data(files, START)
    current = tuning_outcome.evaluate_current(location, work, SilentReporter())
    studies = {"query": open_study(files.study, "query")}
    for chosen in (START, replace(START, dense_weight=10.0, dense_recency=9.0)):
        tuning_data.save_best_arrays(files, data, chosen)
        choice = tuning_outcome.Choice(tuning_data.read_best_arrays(files, data, chosen), chosen)
        search = tuning_outcome.Search(START, chosen, "digest", data.plays, studies)
        outcome = tuning_outcome.assess(search, choice, current, {}, SilentReporter())
        assert not outcome.better
        assert outcome.parameters == tuning_outcome.select_parameters_to_write(START, data.plays)
        assert (outcome.test, outcome.test_used) == ({}, False)
        lines = list(tuning_outcome.describe(outcome))
        assert [line.split()[0] for line in lines] == ["current", "tuned"]
        expected = "not significantly better" if outcome.p >= ALPHA else "is significantly lower"
        assert f"{expected} ({format_p_equals(outcome.p)})" in lines[1]


@pytest.mark.slow
def test_a_choice_that_is_better_is_offered_and_scored_on_test_once(lane: Lane) -> None:
    lane.run(dense_recency=9.0, neighbours=1, dimensions=2, epochs=1, workers=1, mode="dense")
    location, study = StoreLocation(lane.home.path), lane.work.parent / "study"
    first = tune(location, lane.work, study, START, Budget(trials=TRIALS), SilentReporter())
    assert first.better
    assert first.p < 0.05
    figures = first.validation
    assert figures["tuned HR@100"] == first.tried["tuned HR@100"] > figures["start HR@100"]
    assert first.test_used
    playlists = pq.read_metadata(lane.work / "split" / "test.parquet").num_rows
    current, tuned, test = tuning_outcome.describe(first)
    assert f"release {location.release_ids()[-1]}" in current
    assert "significantly better (p" in tuned
    hit_rate = format_number(first.test["tuned HR@100"])
    assert f"{hit_rate}: {playlists} test playlists, scored now" in test
    again = tune(location, lane.work, study, START, Budget(trials=TRIALS), SilentReporter())
    # The test playlists are not scored again for the same parameters: earlier figures are reused.
    assert (again.test, again.test_used) == (first.test, False)
    assert again.playlists == first.playlists
    assert list(tuning_outcome.describe(again))[2].endswith("scored by an earlier run")


def test_a_study_leaves_no_temporary_files(work: Path, outcome: Outcome) -> None:
    assert outcome.trials
    names = {path.name.split("-")[0] for path in (work.parent / "study").iterdir()}
    assert names <= {"trials.journal", "best", ".lock"}


def test_a_study_that_another_process_uses_is_refused(location: StoreLocation, work: Path) -> None:
    files = locate(work, "shared")
    with lock_scratch_folder(files), pytest.raises(BusyError, match="wait for it to end"):
        tune(location, work, files.study, START, Budget(trials=TRIALS), SilentReporter())


def test_the_first_trial_is_the_start(work: Path, outcome: Outcome) -> None:
    study = open_study(work.parent / "study", outcome.studies["count"])
    assert {*outcome.trials} == {*tuning_space.PHASES}
    first = study.get_trials()[0]
    space = tuning_space.make_search_space("count", START, 1)
    assert first.params == tuning_space.get_start_values(START, space, 1)
    assert first.value is not None
    assert study.best_value >= first.value


def test_a_study_continues_where_it_stopped(
    location: StoreLocation, work: Path, outcome: Outcome
) -> None:
    study = work.parent / "study"
    (arrays,) = study.glob("best-*.npz")
    written = arrays.stat().st_mtime_ns
    again = tune(location, work, study, START, Budget(trials=TRIALS), SilentReporter())
    assert arrays.stat().st_mtime_ns == written
    assert again.trials == outcome.trials
    assert again.parameters == outcome.parameters
    assert again.tried == outcome.tried
    assert again.test == outcome.test
    assert not again.test_used


def test_trials_with_other_inputs_are_another_study(work: Path) -> None:
    files = locate(work, "names")

    def names(start: Parameters) -> dict[str, str]:
        return {
            phase: prepare_phase(files, phase, start, 1).study_name for phase in tuning_space.PHASES
        }

    assert names(START) == names(START)
    for change, expected in (
        ({"backward": 0.9}, {"query"}),
        ({"neighbours": 50}, {"count", "query"}),
        ({"window": 5}, {"query"}),
        ({"seed": 3}, {"count", "train", "query"}),
        ({"dense_weight": 0.3, "workers": 2, "mode": "dense"}, set()),
    ):
        changed = names(replace(START, **change))  # type: ignore[arg-type]
        differing = {phase for phase, name in names(START).items() if changed[phase] != name}
        assert differing == expected, change


def test_only_the_arrays_of_the_best_parameters_are_kept(work: Path) -> None:
    files = locate(work, "kept")
    data = tuning_data.read_tuning_data(files, START)
    for parameters in (START, replace(START, backward=0.9)):
        tuning_data.save_best_arrays(files, data, parameters)
        assert len(list(files.study.glob("best-*.npz"))) == 1
    arrays = tuning_data.read_best_arrays(files, data, parameters)
    expected = tuning_data.count_cooccurrence(data, parameters)
    assert abs(arrays.weights - expected).max() == 0


class FakeTrial:
    """A fake optuna trial that should be pruned at step `weak_from` and at later steps."""

    def __init__(self, weak_from: int) -> None:
        self._weak_from = weak_from
        self.steps: list[int] = []

    def report(self, _value: float, step: int) -> None:
        self.steps.append(step)

    def should_prune(self) -> bool:
        return self.steps[-1] >= self._weak_from


def test_a_weak_trial_is_pruned(work: Path) -> None:
    data = tuning_data.read_tuning_data(locate(work, "pruned"), START)
    arrays = tuning_data.build_arrays(data, tuning_data.count_cooccurrence(data, START))
    weak, strong = FakeTrial(2), FakeTrial(9)
    with pytest.raises(optuna.TrialPruned):
        score_in_chunks(weak, arrays, data.cases, START, "count")
    assert weak.steps == [1, 2]
    value = score_in_chunks(strong, arrays, data.cases, START, "count")
    assert strong.steps == [1, 2, 3]
    assert value == pytest.approx(compute_mean_gain(arrays, data.cases, START, "count"))


def test_a_failing_trial_does_not_end_its_worker(work: Path) -> None:
    files = locate(work, "failing")
    start = replace(START, min_count=900_000)
    phase = prepare_phase(files, "train", start, 1)
    space = {"negative": phase.space["negative"]}
    phase = replace(phase, space=space, first={"negative": 5})
    with (
        SilentReporter().task("train") as task,
        pytest.raises(MismatchError, match=r"all 3 trials .* no song is in 900000 training"),
    ):
        run_phase(phase, Limits(3, None, 2), task, SilentReporter())
    trials = open_study(files.study, phase.study_name).get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL"] * 3


@pytest.mark.slow
def test_minutes_alone_limit_a_study(location: StoreLocation, work: Path) -> None:
    budget = Budget(None, 0.2, 1)
    short = tune(location, work, work.parent / "short", START, budget, SilentReporter())
    assert min(short.trials.values()) >= 1  # the first trial of each phase always completes
    assert short.budget["trials"] is None


def test_samplers_are_seeded(tmp_path: Path) -> None:
    def draw(name: str, seed: int) -> list[float]:
        study = open_study(tmp_path, name, seed)
        return [study.ask().suggest_float("x", 0, 1) for _ in range(3)]

    assert draw("a", 1) == draw("b", 1) != draw("c", 2)


def test_the_command_writes_a_file_that_makes_a_release(
    road: Road, location: StoreLocation, work: Path, outcome: Outcome
) -> None:
    home = location.folder
    arguments = ["--home", str(home), "--work", str(work), "--study", str(work.parent / "study")]
    result = CliRunner().invoke(main, ["tune", *arguments, "--trials", str(TRIALS), "--quiet"])
    assert result.exit_code == 0, result.output
    printed = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert ("--params" in printed["parameters"]) == outcome.better
    assert f"release {outcome.release}" in printed["current"]
    assert ("test" in printed) == outcome.better
    report = (work.parent / "study" / "report.html").read_text()
    assert report.count("<svg") >= len(tuning_space.PHASES)
    assert "Co-occurrence" in report
    file = work.parent / "study" / "tuned.json"
    run = ["ingest", "run", str(road.file), "--home", str(home), "--params", str(file)]
    result = CliRunner().invoke(main, [*run, "--epochs", "2", "--dimensions", "8", "--quiet"])
    assert result.exit_code == 0, result.output
    release = EmbeddedStore(home).open()
    release.close()
    chosen = json.loads(file.read_text())
    parameters = release.manifest.origin.parameters
    # Command-line options override the file.
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
    # Only an earlier run of the study used the test playlists.
    assert not run_entry.payload["test_used"]


def test_the_report_shows_history_importances_and_the_most_important_parameters(
    outcome: Outcome, tmp_path: Path
) -> None:
    def gain(trial: optuna.Trial) -> float:
        small, none = (trial.suggest_float(name, 0, 1) for name in ("backward", "seed_exponent"))
        large = trial.suggest_categorical("cooccurrence_window", (5, 20, 60))
        return 10 * large + small + 0 * none

    study = open_study(tmp_path, "count of this test")
    study.optimize(gain, n_trials=12)
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL))
    path = write_report(replace(outcome, studies={"count": study.study_name}), tmp_path)
    pictures = {picture.name for picture in tmp_path.glob("*.svg")}
    assert pictures == {
        "count-history.svg",
        "count-importance.svg",
        "count-cooccurrence_window.svg",
        "count-backward.svg",
    }
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "12 trials completed; 0 were pruned. 1 failed or were abandoned." in page


def test_a_command_that_cannot_succeed_fails_before_the_first_trial(
    location: StoreLocation, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*options: str) -> str:
        arguments = ["--home", str(location.folder), "--work", str(work)]
        result = CliRunner().invoke(main, ["tune", *arguments, *options])
        assert result.exit_code == 1
        return result.stderr

    study = tmp_path / "study"
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "tuned.json")
    assert "a file exists where a folder is needed" in fail("--study", str(study), "--out", out)
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


def test_discounted_gains_by_hand() -> None:
    np.testing.assert_allclose(
        discounted_gains(np.array([1, 3, 0, 100])), [1.0, 0.5, 0.0, 1 / np.log2(101)]
    )
