"""Calls without a known key are refused before their message is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import prometheus_client as prometheus
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nextsong.v1 import recommender_pb2 as pb
from service.operate.metrics import Metrics
from service.rpc.health import SERVICE
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_calls import KEY, read_reason
from tests.support.rpc_servers import PATIENCE_S, POINTS, SERVING, Loop, SlowRelease, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["Recommender"].methods]
PATHS = [
    *(f"/{SERVICE}/{name}" for name in METHODS),
    f"/{SERVICE}/Nothing",
    "/nobody.v1.Nothing/Nothing",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]


@pytest.fixture
def registry() -> prometheus.CollectorRegistry:
    return prometheus.CollectorRegistry()


@pytest.fixture
def channel(
    loop: Loop, keys_file: Path, registry: prometheus.CollectorRegistry
) -> Iterator[grpc.Channel]:
    store = FakeStore(FakeRelease(POINTS))
    with (
        loop.serve(
            store, keys_file=keys_file, metrics=Metrics(registry), max_request_bytes=1024
        ) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel


def get_refusal(channel: grpc.Channel, path: str, sent: bytes, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(sent, timeout=PATIENCE_S, **options)
    return caught.value


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sent", [b"", b"\xff" * 50, b"\0" * 100_000], ids=["", "broken", "large"])
def test_every_method_refuses_calls_without_a_key(
    channel: grpc.Channel,
    registry: prometheus.CollectorRegistry,
    path: str,
    sent: bytes,
) -> None:
    for metadata in ([], [("x-api-key", "wrong-" + KEY)]):
        error = get_refusal(channel, path, sent, metadata=[*metadata, ("x-request-id", "my-id")])
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert read_reason(error) == "NO_KEY"
        assert ("x-request-id", "my-id") in error.trailing_metadata()
    values = {
        sample.name: sample.value for family in registry.collect() for sample in family.samples
    }
    assert values["nextsong_unauthenticated_calls_total"] == 2
    assert "nextsong_calls_total" not in values
    assert values["nextsong_calls_under_way"] == 0


def test_calls_with_a_key_are_validated(channel: grpc.Channel) -> None:
    key = [("x-api-key", KEY)]
    large = get_refusal(channel, f"/{SERVICE}/Recommend", b"\0" * 100_000, metadata=key)
    assert large.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    broken = get_refusal(channel, f"/{SERVICE}/Recommend", b"\xff" * 50, metadata=key)
    assert broken.code() is grpc.StatusCode.INVALID_ARGUMENT
    absent = get_refusal(channel, f"/{SERVICE}/Nothing", b"", metadata=key)
    assert absent.code() is grpc.StatusCode.UNIMPLEMENTED


def test_health_needs_no_key(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    assert stub.Check(request, timeout=PATIENCE_S).status == SERVING
    assert next(stub.Watch(request, timeout=PATIENCE_S)).status == SERVING


def test_a_full_server_refuses_calls_without_a_key_as_unauthenticated(
    loop: Loop, keys_file: Path
) -> None:
    release = SlowRelease(POINTS)
    seed = pb.Seed(artist="ABBA", title="Waterloo")
    request = pb.RecommendRequest(seeds=[seed]).SerializeToString()
    path = f"/{SERVICE}/Recommend"
    with (
        loop.serve(FakeStore(release), keys_file=keys_file, max_concurrency=1) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        key = [("x-api-key", KEY)]
        first = channel.unary_unary(path).future(request, timeout=PATIENCE_S, metadata=key)
        wait_until(lambda: release.call_counts.get("points", 0) == 1)
        full = get_refusal(channel, path, request, metadata=key)
        assert full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stranger = get_refusal(channel, path, request)
        assert stranger.code() is grpc.StatusCode.UNAUTHENTICATED
        release.may_answer.set()
        assert pb.RecommendResponse.FromString(first.result()).songs
