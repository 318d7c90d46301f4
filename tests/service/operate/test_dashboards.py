"""The dashboard of Grafana and Prometheus' alerts ask for what the service tells."""

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
from tests.support.road import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "nextsong.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
OF_QUANTILES = {"le"}


def queries() -> list[str]:
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked += [note["expr"] for note in DASHBOARD["annotations"]["list"]]
    return asked + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The series of the service by name, each with its labels."""
    registry = prometheus.CollectorRegistry()
    metrics = Metrics(registry)
    metrics.begin_call()
    metrics.end_call("Recommend", "OK", 0.1, [("search", 0, 1)])
    metrics.set_release("1")
    answer = pb.RecommendResponse(
        strategy=pb.STRATEGY_POPULAR, empty_reason=pb.EMPTY_REASON_FILTER, seeds=[pb.ResolvedSeed()]
    )
    metrics.count_answers(answer)
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


@pytest.mark.parametrize("query", queries())
def test_queries_use_existing_series_and_labels(query: str, told: dict[str, set[str]]) -> None:
    names = set(re.findall(r"nextsong_\w+", query))
    assert names <= set(told)
    labels = {name for found in re.findall(r"by \(([^)]*)\)", query) for name in found.split(", ")}
    labels |= set(re.findall(r"(\w+)=~?\"", query))
    if names:
        assert labels - OF_QUANTILES <= set[str]().union(*(told[name] for name in names))
    for strategy in re.findall(r'strategy="(\w+)"', query):
        assert pb.Strategy.Value(strategy)


def test_panels_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        assert apart(one, other, "x", "w") or apart(one, other, "y", "h"), (one, other)
    assert all(place["gridPos"]["x"] + place["gridPos"]["w"] <= 24 for place in panels)


def apart(one: dict[str, int], other: dict[str, int], start: str, size: str) -> bool:
    return one[start] + one[size] <= other[start] or other[start] + other[size] <= one[start]


def test_every_panel_uses_the_provisioned_source() -> None:
    (path,) = (DEPLOY / "grafana" / "provisioning" / "datasources").iterdir()
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    asking: list[Any] = [*DASHBOARD["panels"], *DASHBOARD["annotations"]["list"]]
    assert {(one["datasource"]["type"], one["datasource"]["uid"]) for one in asking} == {
        (source["type"], source["uid"])
    }
