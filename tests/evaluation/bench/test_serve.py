"""The load test of the service, on a small scale: it measures what it says."""

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

from catalog.progress import SilentReporter
from cli.main import main
from evaluation.bench import engine, serve
from evaluation.bench.load import Load, cpu_seconds
from evaluation.bench.serve import Plan, Result
from tests.support.fakes import FakeRelease, points_of
from tests.support.snapshots import check, shape

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

ONE = Result(1000, "engine", "closed, 1", 100, 100, 1, 2, 3, 4, {}, None)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("bench")
    plan = Plan(sizes=[1_000], seeds=5, callers=2, seconds=0.3, rates=[20])
    return serve.run(plan, folder, None, SilentReporter())


def test_all_is_measured(results: list[Result]) -> None:
    names = [(one.where, one.load) for one in results]
    for filtered in ("", ", filtered"):
        for load in ("closed, 1", "open, 50%"):
            assert (f"engine{filtered}", load) in names
            assert (f"ranking{filtered}", load) in names
        for load in ("closed, 2", "single caller", "open, 25%", "open, 50%", "open, 80%"):
            assert (f"service{filtered}", load) in names
    assert ("empty call", "closed, 2") in names
    assert ("service", "open, 20/s") in names
    assert len(set(names)) == len(names)
    for one in results:
        assert one.failures == {}
        assert one.answered_per_s > 0
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.p999
    assert len(list(serve.ratios(results))) == 4


def test_results_are_shown_and_written(
    results: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve.show([*results, replace(ONE, songs=7, failures={"UNAVAILABLE": 3})])
    shown = capsys.readouterr().out
    assert "3 UNAVAILABLE" in shown
    assert "as many as the engine called directly" in shown
    serve.write_json(results, tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text())
    assert len(written["results"]) == len(results)
    assert written["results"][0]["songs"] == 1_000
    check("bench_serve", shape([written]))


def test_ratios_are_right() -> None:
    service = replace(ONE, where="service", load="closed, 8", answered_per_s=60.0)
    half = replace(ONE, where="service", load="open, 50%", p99=7.5)
    more = replace(ONE, load="closed, 8", answered_per_s=120.0, p99=9.0)
    beside = replace(ONE, load="open, 50%", answered_per_s=60.0, p99=4.0)
    ratio, difference = serve.ratios([ONE, more, beside, service, half])
    assert "0.50 times as many" in ratio  # as the engine answers at its best
    assert "+3.5 ms" in difference


def test_an_engine_across_a_network_is_asked_by_as_many_callers() -> None:
    class Distant(FakeRelease):
        now = most = 0

        async def find(self, searches: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return await super().find(searches)

    release = Distant(points_of(*((f"Artist {n // 10}", f"Song {n}", 9, (1, n)) for n in range(9))))
    load = Load("", 9, 2, 3, False, False, 1, 0, 0.2, 1)
    found = list(engine.measured(release, load, 8))
    assert [one.load for one in found] == ["closed, 1", "closed, 8", "open, 50%"] * 2
    assert release.most >= 8
    one, many, half = found[:3]
    assert len(many.latencies) > 2 * len(one.latencies)
    assert half.rate == pytest.approx(len(many.latencies) / many.seconds / 2)


def test_only_the_time_under_load_counts_for_cpu() -> None:
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = cpu_seconds(spinning.pid)
        time.sleep(0.5)
        after = cpu_seconds(spinning.pid)
    finally:
        spinning.kill()
        spinning.wait()
    assert before is not None
    assert after is not None
    assert after > before
    assert cpu_seconds(0) is None


def test_nothing_answered_is_no_number() -> None:
    nothing = serve._result(1, "service", "open", 1.0, [], 5.0, {"UNAVAILABLE": 5})
    assert nothing.answered_per_s == 0
    assert nothing.asked_per_s == 5
    assert math.isnan(nothing.p99)


@pytest.mark.parametrize(
    ("sizes", "code", "said"),
    [("x", 2, "not whole numbers"), ("0", 2, "1,000 or more"), ("10", 2, "1,000 or more")],
)
def test_bad_sizes_are_refused(tmp_path: Path, sizes: str, code: int, said: str) -> None:
    result = CliRunner().invoke(
        main, ["bench", "serve", "--home", str(tmp_path), "--sizes", sizes, "--quiet"]
    )
    assert result.exit_code == code
    assert said in result.output
