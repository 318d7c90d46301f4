"""The load test of the service, on a small scale: it measures what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from catalog.reporting import Silent
from evaluation import bench_serve
from evaluation.bench_serve import Plan, Result
from evaluation.main import main

if TYPE_CHECKING:
    from pathlib import Path

ONE = Result(1000, "engine", "closed, 1", 100, 100, 1, 2, 3, 4, {}, None)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("bench")
    plan = Plan(sizes=[1_000], seeds=5, callers=2, seconds=0.3, rates=[20])
    return bench_serve.run(plan, folder, None, Silent())


def test_all_is_measured(results: list[Result]) -> None:
    names = [(one.where, one.load) for one in results]
    for filtered in ("", ", filtered"):
        assert (f"engine{filtered}", "closed, 1") in names
        assert (f"ranking{filtered}", "closed, 1") in names
        for load in ("closed, 2", "single caller", "open, 25%", "open, 50%", "open, 80%"):
            assert (f"service{filtered}", load) in names
    assert ("empty call", "closed, 2") in names
    assert ("service", "open, 20/s") in names
    assert len(set(names)) == len(names)
    for one in results:
        assert one.failures == {}
        assert one.answered_per_s > 0
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.p999
    assert len(list(bench_serve.ratios(results))) == 3


def test_results_are_shown_and_written(
    results: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_serve.show([*results, replace(ONE, songs=7, failures={"UNAVAILABLE": 3})])
    shown = capsys.readouterr().out
    assert "3 UNAVAILABLE" in shown
    assert "as many as the engine called directly" in shown
    bench_serve.write_json(results, tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text())
    assert len(written["results"]) == len(results)
    assert written["results"][0]["songs"] == 1_000


def test_ratios_are_right() -> None:
    service = replace(ONE, where="service", load="closed, 8", answered_per_s=60.0)
    half = replace(ONE, where="service", load="open, 50%", p99=7.5)
    ratio, difference = bench_serve.ratios([ONE, service, half])
    assert "0.60 times as many" in ratio
    assert "+4.5 ms" in difference


def test_nothing_answered_is_no_number() -> None:
    nothing = bench_serve._result(1, "service", "open", 1.0, [], 5.0, {"UNAVAILABLE": 5})
    assert nothing.answered_per_s == 0
    assert nothing.asked_per_s == 5
    assert math.isnan(nothing.p99)


@pytest.mark.parametrize(
    ("sizes", "code", "said"),
    [("x", 2, "not whole numbers"), ("0", 2, "1 or more"), ("10", 1, "are too few")],
)
def test_bad_sizes_are_refused(tmp_path: Path, sizes: str, code: int, said: str) -> None:
    result = CliRunner().invoke(
        main, ["bench", "serve", "--home", str(tmp_path), "--sizes", sizes, "--quiet"]
    )
    assert result.exit_code == code
    assert said in result.output
