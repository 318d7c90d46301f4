"""What those who run the service rely on: keys, TLS, bounds, deadlines, log, metrics, traces."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import prometheus_client as prometheus
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from catalog.errors import (
    EngineError,
    NoKeyError,
    NoReleaseError,
    OverloadError,
    SettingsError,
    TooLateError,
    UnavailableError,
)
from fakes import FakeHome, FakeRelease
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from server_fixtures import PATIENCE_S, POINTS, SERVING, WATERLOO, Call, Loop, Slow, loop, until
from service import keys as key_files
from service import logs, metrics
from service.client import Client
from service.keys import Keys
from service.tracing import OtlpTracer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from catalog.release import Hit, Search

__all__ = ["loop"]  # fixtures

KEY, OTHER = "a-key-of-some-length", "another-key-of-length"


def ask(
    address: str, *metadata: tuple[str, str], timeout: float = PATIENCE_S
) -> tuple[pb.RecommendResponse, dict[str, Any]]:
    """The answer to a call with this metadata, and its trailing metadata."""
    with grpc.insecure_channel(address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        response, call = stub.Recommend.with_call(WATERLOO, metadata=metadata, timeout=timeout)
        return response, dict(call.trailing_metadata())


def refused(address: str, *metadata: tuple[str, str]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        ask(address, *metadata)
    return caught.value


def reason(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


# Keys


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{KEY}\nshop {OTHER}\n")
    return path


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("authorization", f"Bearer {KEY}", True),
        ("authorization", f"bearer  {OTHER} ", True),
        ("x-api-key", OTHER, True),
        ("authorization", KEY, False),
        ("authorization", f"Basic {KEY}", False),
        ("authorization", f"Bearer {KEY[:-1]}", False),
        ("authorization", "Bearer ", False),
        ("x-api-key", f"shop {OTHER}", False),
        ("x-api-key", "#", False),
        ("x-other", KEY, False),
    ],
)
def test_only_a_known_key_is_let_in(
    loop: Loop, keys_file: Path, name: str, value: str, known: bool
) -> None:
    with loop.serve(FakeHome(FakeRelease(POINTS)), keys_file=keys_file) as server:
        if known:
            assert ask(server.address, (name, value))[0].songs
        else:
            error = refused(server.address, (name, value))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert reason(error) == "NO_KEY"
            assert KEY[:-1] not in (error.details() or "")


def test_reflection_wants_a_key_and_health_does_not(loop: Loop, keys_file: Path) -> None:
    with (
        loop.serve(FakeHome(FakeRelease(POINTS)), keys_file=keys_file) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert check.status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            ProtoReflectionDescriptorDatabase(channel).get_services()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_client_brings_its_key(loop: Loop, keys_file: Path) -> None:
    with loop.serve(FakeHome(FakeRelease(POINTS)), keys_file=keys_file) as server:
        with Client(server.address, key=KEY) as client:
            assert client.recommend(WATERLOO).songs
        with Client(server.address) as client, pytest.raises(NoKeyError, match="a key is needed"):
            client.recommend(WATERLOO)


def test_a_changed_file_counts_and_a_broken_one_does_not(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_files, "LOOK_EVERY_S", 0.0)
    keys = Keys(keys_file)
    assert keys.caller({"x-api-key": KEY}) == "line 3"
    assert keys.caller({"x-api-key": OTHER}) == "shop"
    keys_file.write_text(f"shop {KEY}-new\n")
    assert keys.caller({"x-api-key": f"{KEY}-new"}) == "shop"
    with pytest.raises(NoKeyError, match="not known"):
        keys.caller({"x-api-key": OTHER})
    keys_file.write_text("short\n")
    assert keys.caller({"x-api-key": f"{KEY}-new"}) == "shop"
    keys_file.unlink()
    assert keys.caller({"x-api-key": f"{KEY}-new"}) == "shop"
    keys_file.write_text(KEY)
    assert keys.caller({"x-api-key": KEY}) == "line 1"
    assert "keys stay as they were" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no key"),
        (b"# only a comment\n", "holds no key"),
        (f"{KEY}\nshort-key\n".encode(), "line 2"),
        (f"a b {KEY}\n".encode(), "line 1"),
        ("ключ-из-многих-букв\n".encode(), "line 1"),
        (b"\xff\xfe" + KEY.encode(), "not UTF-8"),
    ],
)
def test_a_file_of_keys_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as caught:
        Keys(path)
    assert "key-of" not in str(caught.value)


# TLS


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and certificates of it for the server and for a caller."""
    folder = tmp_path_factory.mktemp("pem")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ours")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "caller", "renewed"):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("req", *new, *request)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder


def test_tls_and_mutual_tls(loop: Loop, pem: Path) -> None:
    home = FakeHome(FakeRelease(POINTS))
    tls = {"tls_cert": pem / "server.pem", "tls_key": pem / "server.key"}
    with loop.serve(home, **tls) as server:
        with Client(server.address, ca=pem / "ca.pem") as client:
            assert client.recommend(WATERLOO).songs
        with Client(server.address, timeout=2) as plain, pytest.raises(UnavailableError):
            plain.recommend(WATERLOO)
    with loop.serve(home, **tls, tls_client_ca=pem / "ca.pem") as server:
        own = {"cert": pem / "caller.pem", "key_of_cert": pem / "caller.key"}
        with Client(server.address, ca=pem / "ca.pem", **own) as client:
            assert client.recommend(WATERLOO).songs
        with (
            Client(server.address, ca=pem / "ca.pem", timeout=2) as stranger,
            pytest.raises(UnavailableError),
        ):
            stranger.recommend(WATERLOO)


def test_renewed_certificates_are_shown_without_a_restart(
    loop: Loop, pem: Path, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(name: str) -> None:
        shutil.copy(pem / f"{name}.pem", cert)
        shutil.copy(pem / f"{name}.key", key)

    def shown() -> str:
        with grpc.secure_channel(
            server.address, grpc.ssl_channel_credentials((pem / "ca.pem").read_bytes())
        ) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            stub.GetRelease(pb.GetReleaseRequest(), timeout=PATIENCE_S)
        command = ["openssl", "s_client", "-connect", server.address, "-alpn", "h2"]
        done = subprocess.run(command, input=b"", capture_output=True, check=False)
        return done.stdout.decode(errors="replace")

    install("server")
    with loop.serve(FakeHome(FakeRelease(POINTS)), tls_cert=cert, tls_key=key) as server:
        assert "CN = server" in shown() or "CN=server" in shown()
        install("renewed")
        assert "CN = renewed" in shown() or "CN=renewed" in shown()
        cert.write_text("no certificate")
        assert "CN = renewed" in shown() or "CN=renewed" in shown()


@pytest.mark.parametrize("broken", ["cert", "key", "other key", "ca", "missing"])
def test_certificates_that_are_none_are_refused_at_the_start(
    loop: Loop, pem: Path, tmp_path: Path, broken: str
) -> None:
    (tmp_path / "bad.pem").write_text("no PEM")
    bad = tmp_path / ("gone.pem" if broken == "missing" else "bad.pem")
    chosen = {
        "tls_cert": bad if broken in {"cert", "missing"} else pem / "server.pem",
        "tls_key": {"key": bad, "other key": pem / "caller.key"}.get(broken, pem / "server.key"),
        "tls_client_ca": bad if broken == "ca" else None,
    }
    with (
        pytest.raises(SettingsError, match="TLS cannot be set up"),
        loop.serve(FakeHome(FakeRelease(POINTS)), **chosen),
    ):
        raise AssertionError


# Bounds, deadlines, cancellation


def test_over_capacity_a_call_is_turned_away_at_once(loop: Loop) -> None:
    release = Slow(POINTS)
    with loop.serve(FakeHome(release), max_concurrency=2, grace=PATIENCE_S) as server:
        with Client(server.address, PATIENCE_S) as client:
            calls = [Call(client), Call(client)]
            until(lambda: release.asked.get("points", 0) == 2)
            error = refused(server.address)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason(error) == "OVERLOAD"
            status = rpc_status.from_call(error)
            assert status is not None
            assert any(
                detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details
            )
            release.may.set()
            for call in calls:
                call.join(PATIENCE_S)
                assert call.answer is not None
        assert ask(server.address)[0].songs


def test_the_client_comes_back_to_a_busy_server(loop: Loop) -> None:
    release = Slow(POINTS)
    with (
        loop.serve(FakeHome(release), max_concurrency=1) as server,
        Client(server.address, PATIENCE_S) as client,
        Client(server.address, 1) as hasty,
    ):
        first = Call(client)
        assert release.asked_for.wait(PATIENCE_S)
        with pytest.raises(OverloadError):
            hasty.recommend(WATERLOO)
        second = Call(client)
        time.sleep(0.1)
        release.may.set()
        first.join(PATIENCE_S)
        second.join(PATIENCE_S)
        assert first.answer is not None
        assert second.answer is not None


@pytest.mark.parametrize("own", [True, False])
def test_no_call_takes_longer_than_allowed(loop: Loop, own: bool) -> None:
    release = Slow(POINTS)
    with (
        loop.serve(FakeHome(release), call_timeout=0.1 if own else 60) as server,
        Client(server.address, PATIENCE_S if own else 0.1) as client,
        pytest.raises(TooLateError, match=r"no answer within|Deadline Exceeded"),
    ):
        client.recommend(WATERLOO)


class Counting(Slow):
    """Says how many searches were given up."""

    given_up = 0

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        try:
            return await super().find(searches)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


def test_a_call_that_is_given_up_stops_working(loop: Loop) -> None:
    release = Counting(POINTS)
    with (
        loop.serve(FakeHome(release)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        call = recommender_pb2_grpc.RecommenderStub(channel).Recommend.future(WATERLOO)
        assert release.asked_for.wait(PATIENCE_S)
        call.cancel()
        until(lambda: release.given_up == 1)


def test_a_request_that_is_too_large_is_turned_away(loop: Loop) -> None:
    with loop.serve(FakeHome(FakeRelease(POINTS)), max_request_bytes=1024) as server:
        assert ask(server.address)[0].songs
        large = pb.RecommendRequest(seeds=[pb.Seed(artist="x" * 2000, title="y")])
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as e:
            recommender_pb2_grpc.RecommenderStub(channel).Recommend(large, timeout=PATIENCE_S)
        assert e.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# Health, where releases or their home are missing


class Away(FakeHome):
    """Can be away."""

    away = False

    def current(self) -> str | None:
        if self.away:
            raise UnavailableError("the home does not answer")
        return super().current()

    def open(self, release: str | None = None) -> FakeRelease:
        if self.away:
            raise UnavailableError("the home does not answer")
        return super().open(release)


def healthy(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        return bool(check.status == SERVING)


def test_health_says_that_the_home_is_away_and_that_it_is_back(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    home = Away(FakeRelease(POINTS))
    with loop.serve(home) as server:
        assert healthy(server.address)
        home.away = True
        until(lambda: not healthy(server.address))
        time.sleep(0.1)  # a few more looks
        assert caplog.text.count("the home of releases is away") == 1
        home.away = False
        until(lambda: healthy(server.address))
        home.put("2", FakeRelease(POINTS, name="2"))
        until(lambda: ask(server.address)[0].release == "2")


def test_a_server_may_wait_for_its_first_release(loop: Loop) -> None:
    home = Away(FakeRelease(POINTS))
    home.away = True
    with loop.serve(home, wait=True) as server:
        assert not healthy(server.address)
        error = refused(server.address)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(error) == "NO_RELEASE"
        home.away = False
        until(lambda: healthy(server.address))
        assert ask(server.address)[0].songs
    home.put("none", NoReleaseError("none yet"))
    with loop.serve(home, wait=True) as server:
        assert not healthy(server.address)


# Ids, log, metrics, traces


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)]
)
def test_the_request_id_comes_back(loop: Loop, sent: str, kept: bool) -> None:
    with loop.serve(FakeHome(FakeRelease(POINTS))) as server:
        _, trailers = ask(server.address, ("x-request-id", sent))
        assert (trailers["x-request-id"] == sent) is kept
        _, trailers = ask(server.address)
        assert len(trailers["x-request-id"]) == 16
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as e:
            recommender_pb2_grpc.RecommenderStub(channel).Recommend(
                pb.RecommendRequest(), metadata=[("x-request-id", "my-id")], timeout=PATIENCE_S
            )
        assert ("x-request-id", "my-id") in e.value.trailing_metadata()


@contextmanager
def logged(level: str, form: str, capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """The lines of the log, once the block is left."""
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


def test_a_log_line_a_call_with_neither_secrets_nor_songs(
    loop: Loop, keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        logged("info", "json", capsys) as lines,
        loop.serve(FakeHome(FakeRelease(POINTS)), keys_file=keys_file) as server,
    ):
        ask(server.address, ("x-api-key", OTHER), ("x-request-id", "my-id"))
        refused(server.address, ("x-api-key", "wrong-" + KEY))
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
def test_levels_and_forms_of_the_log(
    loop: Loop, capsys: pytest.CaptureFixture[str], level: str, form: str, calls: bool
) -> None:
    with logged(level, form, capsys) as lines:
        with loop.serve(FakeHome(FakeRelease(POINTS))) as server:
            ask(server.address)
        logging.getLogger("other.library").error("a complaint of a library")
    text = "\n".join(lines)
    assert ("Waterloo" in text) is calls
    assert "a complaint of a library" in text
    assert all((line[0] == "{") is (form == "json") for line in lines)


class Failing(FakeRelease):
    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        raise EngineError("no engine")


def test_what_prometheus_is_told(loop: Loop) -> None:
    registry = prometheus.CollectorRegistry()
    endpoint = metrics.endpoint("127.0.0.1", 0, registry)
    home = FakeHome(FakeRelease(POINTS, name="1"))
    try:
        with loop.serve(home, metrics=metrics.Metrics(registry)) as server:
            ask(server.address)
            with grpc.insecure_channel(server.address) as channel:
                stub = recommender_pb2_grpc.RecommenderStub(channel)
                nobody = pb.RecommendRequest(seeds=[pb.Seed(artist="x", title="y")])
                batch = pb.BatchRecommendRequest(requests=[WATERLOO, nobody])
                stub.BatchRecommend(batch, timeout=PATIENCE_S)
            home.put("2", Failing(POINTS, name="2"))
            until(lambda: server.release is not None and server.release.manifest.release == "2")
            assert refused(server.address).code() is grpc.StatusCode.INTERNAL
            home.put("3", EngineError("no release"))
            until(lambda: "refused_releases_total 1.0" in told(endpoint.server_port))
            text = told(endpoint.server_port)
    finally:
        endpoint.shutdown()
        endpoint.server_close()
    for line in (
        'calls_total{code="OK",method="Recommend"} 1.0',
        'calls_total{code="OK",method="BatchRecommend"} 1.0',
        'calls_total{code="INTERNAL",method="Recommend"} 1.0',
        'call_seconds_count{method="Recommend"} 2.0',
        'stage_seconds_count{stage="resolve"} 3.0',
        'stage_seconds_count{stage="embed"} 3.0',
        'stage_seconds_count{stage="search"} 3.0',
        'stage_seconds_count{stage="rank"} 4.0',
        'answers_total{strategy="STRATEGY_SEEDS"} 2.0',
        'answers_total{strategy="STRATEGY_POPULAR"} 1.0',
        'seeds_total{resolution="RESOLUTION_SONG"} 2.0',
        'seeds_total{resolution="RESOLUTION_UNKNOWN"} 1.0',
        "engine_errors_total 1.0",
        "calls_under_way 0.0",
        'release_in_use{release="1"} 0.0',
        'release_in_use{release="2"} 1.0',
    ):
        assert f"nextsong_{line}" in text.splitlines()


def told(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        return str(answer.read().decode())


def test_a_call_and_its_stages_are_traced(loop: Loop) -> None:
    exporting = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="no extra 'tracing'"
    )
    exporter = exporting.InMemorySpanExporter()
    tracer = OtlpTracer("http://127.0.0.1:1", exporter=exporter)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with loop.serve(FakeHome(FakeRelease(POINTS)), tracer=tracer) as server:
        ask(server.address, ("traceparent", parent))
    tracer.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call = spans["nextsong.v1.Recommender/Recommend"]
    assert f"{call.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{call.parent.span_id:016x}" == "b7ad6b7169203331"
    assert call.attributes["rpc.grpc.status_code_name"] == "OK"
    for name in ("resolve", "embed", "search", "rank"):
        assert spans[name].parent.span_id == call.context.span_id
        assert call.start_time <= spans[name].start_time <= spans[name].end_time <= call.end_time


def test_traces_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(Exception, match="OpenTelemetry traces need libraries"):
        OtlpTracer("http://127.0.0.1:1")
