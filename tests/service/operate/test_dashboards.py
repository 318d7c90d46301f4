"""The Grafana dashboard and the Prometheus alerts use only series that the service exports."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import prometheus_client as prometheus
import pytest
import yaml

from nextsong.v1 import recommender_pb2 as pb
from service.operate.metrics import Metrics
from service.operate.timing import Timings
from tests.support.road import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "nextsong.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
OF_QUANTILES = {"le"}


def all_queries() -> list[str]:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    queries += [note["expr"] for note in DASHBOARD["annotations"]["list"]]
    return queries + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """Return the labels of each series that the service exports, by name."""
    registry = prometheus.CollectorRegistry()
    metrics = Metrics(registry)
    metrics.begin_call()
    metrics.end_call("Recommend", "OK", 0.1, Timings([("search", 0, 1)]))
    metrics.set_release("1")
    answer = pb.RecommendResponse(
        strategy=pb.STRATEGY_POPULAR, empty_reason=pb.EMPTY_REASON_FILTER, seeds=[pb.ResolvedSeed()]
    )
    metrics.count_answers(answer)
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


@pytest.mark.parametrize("query", all_queries())
def test_queries_use_existing_series_and_labels(query: str, series: dict[str, set[str]]) -> None:
    names = set(re.findall(r"nextsong_\w+", query))
    assert names <= set(series)
    labels = {name for group in re.findall(r"by \(([^)]*)\)", query) for name in group.split(", ")}
    labels |= set(re.findall(r"(\w+)=~?\"", query))
    if names:
        assert labels - OF_QUANTILES <= set[str]().union(*(series[name] for name in names))
    for strategy in re.findall(r'strategy="(\w+)"', query):
        assert pb.Strategy.Value(strategy)


def test_panels_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for first, second in combinations([panel["gridPos"] for panel in panels], 2):
        assert is_apart(first, second, "x", "w") or is_apart(first, second, "y", "h"), (
            first,
            second,
        )
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def is_apart(first: dict[str, int], second: dict[str, int], start: str, size: str) -> bool:
    return (
        first[start] + first[size] <= second[start] or second[start] + second[size] <= first[start]
    )


def test_every_panel_uses_the_provisioned_source() -> None:
    (path,) = (DEPLOY / "grafana" / "provisioning" / "datasources").iterdir()
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    users: list[Any] = [*DASHBOARD["panels"], *DASHBOARD["annotations"]["list"]]
    assert {(user["datasource"]["type"], user["datasource"]["uid"]) for user in users} == {
        (source["type"], source["uid"])
    }
