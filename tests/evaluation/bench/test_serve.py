"""`nextsong bench serve` with small data and few calls."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from catalog.console.progress import SilentReporter
from cli.main import main
from evaluation.bench import results as bench_results
from evaluation.bench.engine import measure_engine
from evaluation.bench.load import Load, run_load
from evaluation.bench.processes import read_cpu_seconds
from evaluation.bench.results import Measurement, Result, describe_ratios, summarise
from evaluation.bench.serve import Plan, run
from tests.support.fakes import FakeRelease, points_of
from tests.support.snapshots import check, shape

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

RESULT = Result(1000, "engine", "closed, 1", 100, 100, 1, 2, 3, 4, {}, None)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("bench")
    plan = Plan(sizes=[1_000], seeds=5, callers=2, seconds=0.3, rates=[20])
    return run(plan, folder, None, SilentReporter())


def test_engine_and_service_are_measured_under_each_load(results: list[Result]) -> None:
    names = [(result.where, result.load) for result in results]
    for filtered in ("", ", filtered"):
        for load in ("closed, 1", "open, 50%"):
            assert (f"engine{filtered}", load) in names
            assert (f"ranking{filtered}", load) in names
        for load in ("closed, 2", "single caller", "open, 25%", "open, 50%", "open, 80%"):
            assert (f"service{filtered}", load) in names
    assert ("empty call", "closed, 2") in names
    assert ("service", "open, 20/s") in names
    assert len(set(names)) == len(names)
    for result in results:
        assert result.failures == {}
        assert result.answered_per_s > 0
        assert 0 < result.p50 <= result.p90 <= result.p99 <= result.p999
    assert len(list(describe_ratios(results))) == 4


def test_results_are_a_table_and_a_json_document(
    results: list[Result], capsys: pytest.CaptureFixture[str]
) -> None:
    bench_results.print_results([*results, replace(RESULT, songs=7, failures={"UNAVAILABLE": 3})])
    shown = capsys.readouterr().out
    assert "3 UNAVAILABLE" in shown
    assert "as many calls per second as the engine called directly" in shown
    written = json.loads(json.dumps(bench_results.to_json(results)))
    assert len(written["results"]) == len(results)
    assert written["results"][0]["songs"] == 1_000
    check("bench_serve", shape([written]))


def test_ratios_by_hand() -> None:
    service = replace(RESULT, where="service", load="closed, 8", answered_per_s=60.0)
    half_service = replace(RESULT, where="service", load="open, 50%", p99=7.5)
    most = replace(RESULT, load="closed, 8", answered_per_s=120.0, p99=9.0)
    half_engine = replace(RESULT, load="open, 50%", answered_per_s=60.0, p99=4.0)
    ratio, difference = describe_ratios([RESULT, most, half_engine, service, half_service])
    assert "0.50 times as many" in ratio  # ratio to the maximum throughput of the engine alone
    assert "+3.5 ms" in difference


def test_the_engine_has_as_many_callers_as_the_load() -> None:
    class Distant(FakeRelease):
        now = most = 0

        async def find(self, searches: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return await super().find(searches)

    release = Distant(points_of(*((f"Artist {n // 10}", f"Song {n}", 9, (1, n)) for n in range(9))))
    load = Load(songs=9, seeds=2, limit=3, seconds=0.2)
    measurements = list(measure_engine(release, load, 8))
    assert [measurement.load for measurement in measurements] == [
        "closed, 1",
        "closed, 8",
        "open, 50%",
    ] * 2
    assert release.most >= 8
    single, many, half = measurements[:3]
    assert len(many.latencies) > 2 * len(single.latencies)
    assert half.rate == pytest.approx(len(many.latencies) / many.seconds / 2)


def test_failed_calls_are_counted_by_status() -> None:
    outcome = asyncio.run(run_load(Load("127.0.0.1:1", seconds=0.2)))
    assert outcome["failures"].keys() == {"UNAVAILABLE"}
    assert json.loads(json.dumps(outcome)) == outcome
    assert outcome["latencies_ms"] == []


def test_cpu_time_of_a_process_grows() -> None:
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = read_cpu_seconds(spinning.pid)
        time.sleep(0.5)
        after = read_cpu_seconds(spinning.pid)
    finally:
        spinning.kill()
        spinning.wait()
    assert before is not None
    assert after is not None
    assert after > before
    assert read_cpu_seconds(0) is None


def test_without_answers_percentiles_are_not_numbers() -> None:
    measurement = Measurement("service", "open", 1.0, [], 5.0, {"UNAVAILABLE": 5})
    nothing = summarise(1, measurement)
    assert nothing.answered_per_s == 0
    assert nothing.asked_per_s == 5
    assert math.isnan(nothing.p99)


@pytest.mark.parametrize(
    ("sizes", "code", "message"),
    [
        ("x", 2, "not a list of whole numbers"),
        ("0", 2, "1,000 or more"),
        ("10", 2, "1,000 or more"),
    ],
)
def test_bad_sizes_are_refused(tmp_path: Path, sizes: str, code: int, message: str) -> None:
    result = CliRunner().invoke(
        main, ["bench", "serve", "--home", str(tmp_path), "--sizes", sizes, "--quiet"]
    )
    assert result.exit_code == code
    assert message in result.output
