"""Calls on a real channel: capacity, deadlines, cancellation, logs, metrics and traces."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import prometheus_client as prometheus
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from catalog.errors import EngineError, OverloadError, TooLateError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.client.client import Client
from service.operate import logs, metrics
from service.operate.tracing import Tracer
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_calls import KEY, OTHER, call_recommend, get_refusal, read_reason
from tests.support.rpc_servers import (
    PATIENCE_S,
    POINTS,
    WATERLOO,
    Call,
    Loop,
    SlowRelease,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from catalog.model import Hit, Search


# Capacity, deadlines and cancellation


def test_a_call_over_capacity_is_refused_at_once(loop: Loop) -> None:
    release = SlowRelease(POINTS)
    with loop.serve(FakeStore(release), max_concurrency=2, grace=PATIENCE_S) as server:
        with Client(server.address, PATIENCE_S) as client:
            calls = [Call(client), Call(client)]
            wait_until(lambda: release.call_counts.get("points", 0) == 2)
            error = get_refusal(server.address)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert read_reason(error) == "OVERLOAD"
            status = rpc_status.from_call(error)
            assert status is not None
            assert any(
                detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details
            )
            release.may_answer.set()
            for call in calls:
                call.join(PATIENCE_S)
                assert call.answer is not None
        assert call_recommend(server.address)[0].songs


def test_the_client_retries_an_overloaded_server(loop: Loop) -> None:
    release = SlowRelease(POINTS)
    with (
        loop.serve(FakeStore(release), max_concurrency=1) as server,
        Client(server.address, PATIENCE_S) as client,
        Client(server.address, 1) as hasty,
    ):
        first = Call(client)
        assert release.was_searched.wait(PATIENCE_S)
        with pytest.raises(OverloadError):
            hasty.recommend(WATERLOO)
        second = Call(client)
        time.sleep(0.1)
        release.may_answer.set()
        first.join(PATIENCE_S)
        second.join(PATIENCE_S)
        assert first.answer is not None
        assert second.answer is not None


@pytest.mark.parametrize("by_server", [True, False])
def test_no_call_takes_longer_than_allowed(loop: Loop, by_server: bool) -> None:
    release = SlowRelease(POINTS)
    with (
        loop.serve(FakeStore(release), call_timeout=0.1 if by_server else 60) as server,
        Client(server.address, PATIENCE_S if by_server else 0.1) as client,
        pytest.raises(TooLateError, match=r"no answer within|Deadline Exceeded"),
    ):
        client.recommend(WATERLOO)


class CancelCountingRelease(SlowRelease):
    """A slow release that counts cancelled searches."""

    cancelled = 0

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        try:
            return await super().find(searches)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def test_a_cancelled_call_stops_its_work(loop: Loop) -> None:
    release = CancelCountingRelease(POINTS)
    with (
        loop.serve(FakeStore(release)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        call = recommender_pb2_grpc.RecommenderStub(channel).Recommend.future(WATERLOO)
        assert release.was_searched.wait(PATIENCE_S)
        call.cancel()
        wait_until(lambda: release.cancelled == 1)


def test_a_request_that_is_too_large_is_refused(loop: Loop) -> None:
    with loop.serve(FakeStore(FakeRelease(POINTS)), max_request_bytes=1024) as server:
        assert call_recommend(server.address)[0].songs
        large = pb.RecommendRequest(seeds=[pb.Seed(artist="x" * 2000, title="y")])
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as e:
            recommender_pb2_grpc.RecommenderStub(channel).Recommend(large, timeout=PATIENCE_S)
        assert e.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# Request ids, logs, metrics and traces


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)]
)
def test_the_request_id_is_returned(loop: Loop, sent: str, kept: bool) -> None:
    with loop.serve(FakeStore(FakeRelease(POINTS))) as server:
        _, trailers = call_recommend(server.address, ("x-request-id", sent))
        assert (trailers["x-request-id"] == sent) is kept
        _, trailers = call_recommend(server.address)
        assert len(trailers["x-request-id"]) == 16
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as e:
            recommender_pb2_grpc.RecommenderStub(channel).Recommend(
                pb.RecommendRequest(), metadata=[("x-request-id", "my-id")], timeout=PATIENCE_S
            )
        assert ("x-request-id", "my-id") in e.value.trailing_metadata()


@contextmanager
def capture_log(level: str, form: str, capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """Yield a list. When the block ends, its log lines are added to the list."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("nextsong").level
    lines: list[str] = []
    try:
        logs.configure(level, form)
        yield lines
        lines += capsys.readouterr().err.splitlines()
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        logging.getLogger("nextsong").setLevel(before[2])


def test_each_call_has_a_log_line_without_secrets_or_songs(
    loop: Loop, keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        capture_log("info", "json", capsys) as lines,
        loop.serve(FakeStore(FakeRelease(POINTS)), keys_file=keys_file) as server,
    ):
        call_recommend(server.address, ("x-api-key", OTHER), ("x-request-id", "my-id"))
        get_refusal(server.address, ("x-api-key", "wrong-" + KEY))
    calls = [json.loads(line) for line in lines if '"call"' in line]
    assert [call["code"] for call in calls] == ["OK", "UNAUTHENTICATED"]
    first = calls[0]
    assert (first["request_id"], first["caller"], first["seeds"]) == ("my-id", "shop", 1)
    assert (first["method"], first["strategy"]) == ("Recommend", "STRATEGY_SEEDS")
    assert first["ms"] > 0
    text = "\n".join(lines)
    for hidden in (KEY, OTHER, "ABBA", "Waterloo"):
        assert hidden not in text


@pytest.mark.parametrize(
    ("level", "form", "calls"), [("debug", "json", True), ("warning", "console", False)]
)
def test_levels_and_formats_of_the_log(
    loop: Loop, capsys: pytest.CaptureFixture[str], level: str, form: str, calls: bool
) -> None:
    with capture_log(level, form, capsys) as lines:
        with loop.serve(FakeStore(FakeRelease(POINTS))) as server:
            call_recommend(server.address)
        logging.getLogger("other.library").error("a complaint of a library")
    text = "\n".join(lines)
    assert ("Waterloo" in text) is calls
    assert "a complaint of a library" in text
    assert all((line[0] == "{") is (form == "json") for line in lines)


class DeadlineRelease(FakeRelease):
    """A release that records the seconds until the deadline at each search."""

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        assert self.deadline is not None
        self.seconds_left = self.deadline - time.monotonic()
        return await super().find(searches)


@pytest.mark.parametrize(("timeout", "allowed"), [(5.0, 5.0), (60.0, 20.0)])
def test_a_release_gets_the_earlier_deadline_of_caller_and_service(
    loop: Loop, timeout: float, allowed: float
) -> None:
    release = DeadlineRelease(POINTS)
    with (
        loop.serve(FakeStore(release), call_timeout=20, look_every=600) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        recommender_pb2_grpc.RecommenderStub(channel).Recommend(WATERLOO, timeout=timeout)
    assert 0 < release.seconds_left <= allowed


class FailingRelease(FakeRelease):
    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        raise EngineError("no engine")


def test_metrics_count_calls_answers_and_failures(loop: Loop) -> None:
    registry = prometheus.CollectorRegistry()
    store = FakeStore(FakeRelease(POINTS, name="1"))
    with (
        metrics.serve_metrics("127.0.0.1", 0, registry) as port,
        loop.serve(store, metrics=metrics.Metrics(registry)) as server,
    ):
        assert port is not None
        call_recommend(server.address)
        with grpc.insecure_channel(server.address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            nobody = pb.RecommendRequest(seeds=[pb.Seed(artist="x", title="y")])
            batch = pb.BatchRecommendRequest(requests=[WATERLOO, nobody])
            stub.BatchRecommend(batch, timeout=PATIENCE_S)
        store.put("2", FailingRelease(POINTS, name="2"))
        wait_until(lambda: server.release is not None and server.release.manifest.release == "2")
        assert get_refusal(server.address).code() is grpc.StatusCode.INTERNAL
        store.put("3", EngineError("no release"))
        wait_until(lambda: "refused_releases_total 1.0" in scrape(port))
        text = scrape(port)
    for line in (
        'calls_total{code="OK",method="Recommend"} 1.0',
        'calls_total{code="OK",method="BatchRecommend"} 1.0',
        'calls_total{code="INTERNAL",method="Recommend"} 1.0',
        'call_seconds_count{method="Recommend"} 2.0',
        'stage_seconds_count{stage="resolve"} 3.0',
        'stage_seconds_count{stage="embed"} 3.0',
        # The artist of the unknown seed has no songs, so popular songs are retrieved as well.
        'stage_seconds_count{stage="search"} 4.0',
        'stage_seconds_count{stage="rank"} 5.0',
        'answers_total{strategy="STRATEGY_SEEDS"} 2.0',
        'answers_total{strategy="STRATEGY_POPULAR"} 1.0',
        'seeds_total{resolution="RESOLUTION_SONG"} 2.0',
        'seeds_total{resolution="RESOLUTION_UNKNOWN"} 1.0',
        "engine_errors_total 1.0",
        "calls_under_way 0.0",
        'release_in_use{release="2"} 1.0',
    ):
        assert f"nextsong_{line}" in text.splitlines()
    assert 'release="1"' not in text


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        return str(answer.read().decode())


def test_a_call_and_its_stages_are_traced(loop: Loop) -> None:
    exporting = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="no extra 'tracing'"
    )
    exporter = exporting.InMemorySpanExporter()
    tracer = Tracer("http://127.0.0.1:1", exporter=exporter)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with loop.serve(FakeStore(FakeRelease(POINTS)), tracer=tracer) as server:
        call_recommend(server.address, ("traceparent", parent))
    tracer.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call = spans["nextsong.v1.Recommender/Recommend"]
    assert f"{call.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{call.parent.span_id:016x}" == "b7ad6b7169203331"
    assert call.attributes["rpc.grpc.status_code_name"] == "OK"
    for name in ("resolve", "embed", "search", "rank"):
        assert spans[name].parent.span_id == call.context.span_id
        assert call.start_time <= spans[name].start_time <= spans[name].end_time <= call.end_time


def test_tracing_without_its_libraries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(Exception, match="OpenTelemetry traces need libraries"):
        Tracer("http://127.0.0.1:1")
