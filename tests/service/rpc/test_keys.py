"""Access to the service: keys, TLS and mutual TLS."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from catalog.errors import NoKeyError, SettingsError, UnavailableError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.client.client import Client
from service.rpc.interceptors import keys as key_files
from service.rpc.interceptors.keys import Keys
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_calls import KEY, OTHER, call_recommend, get_refusal, read_reason
from tests.support.rpc_servers import PATIENCE_S, POINTS, SERVING, WATERLOO, Loop

if TYPE_CHECKING:
    from pathlib import Path


# API keys


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
def test_only_a_known_key_is_accepted(
    loop: Loop, keys_file: Path, name: str, value: str, known: bool
) -> None:
    with loop.serve(FakeStore(FakeRelease(POINTS)), keys_file=keys_file) as server:
        if known:
            assert call_recommend(server.address, (name, value))[0].songs
        else:
            error = get_refusal(server.address, (name, value))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert read_reason(error) == "NO_KEY"
            assert KEY[:-1] not in (error.details() or "")


def test_reflection_requires_a_key_and_health_does_not(loop: Loop, keys_file: Path) -> None:
    with (
        loop.serve(FakeStore(FakeRelease(POINTS)), keys_file=keys_file) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert check.status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            ProtoReflectionDescriptorDatabase(channel).get_services()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_client_sends_its_key(loop: Loop, keys_file: Path) -> None:
    with loop.serve(FakeStore(FakeRelease(POINTS)), keys_file=keys_file) as server:
        with Client(server.address, key=KEY) as client:
            assert client.recommend(WATERLOO).songs
        with Client(server.address) as client, pytest.raises(NoKeyError, match="a key is required"):
            client.recommend(WATERLOO)


def test_a_changed_file_of_keys_is_loaded_and_a_broken_file_is_ignored(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_files, "RELOAD_INTERVAL_S", 0.0)
    keys = Keys(keys_file)
    assert keys.find_caller({"x-api-key": KEY}) == "line 3"
    assert keys.find_caller({"x-api-key": OTHER}) == "shop"
    keys_file.write_text(f"shop {KEY}-new\n")
    assert keys.find_caller({"x-api-key": f"{KEY}-new"}) == "shop"
    with pytest.raises(NoKeyError, match="unknown"):
        keys.find_caller({"x-api-key": OTHER})
    keys_file.write_text("short\n")
    assert keys.find_caller({"x-api-key": f"{KEY}-new"}) == "shop"
    keys_file.unlink()
    assert keys.find_caller({"x-api-key": f"{KEY}-new"}) == "shop"
    keys_file.write_text(KEY)
    assert keys.find_caller({"x-api-key": KEY}) == "line 1"
    assert "the old ones stay valid" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no key"),
        (b"# only a comment\n", "contains no key"),
        (f"{KEY}\nshort-key\n".encode(), "line 2"),
        (f"a b {KEY}\n".encode(), "line 1"),
        ("ключ-из-многих-букв\n".encode(), "line 1"),
        (b"\xff\xfe" + KEY.encode(), "not UTF-8"),
    ],
)
def test_an_invalid_file_of_keys_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        Keys(path)
    assert "key-of" not in str(caught.value)


# TLS and mutual TLS


def test_tls_and_mutual_tls(loop: Loop, pem: Path) -> None:
    store = FakeStore(FakeRelease(POINTS))
    tls = {"tls_cert": pem / "server.pem", "tls_key": pem / "server.key"}
    with loop.serve(store, **tls) as server:
        with Client(server.address, ca=pem / "ca.pem") as client:
            assert client.recommend(WATERLOO).songs
        with Client(server.address, timeout=2) as plain, pytest.raises(UnavailableError):
            plain.recommend(WATERLOO)
    with loop.serve(store, **tls, tls_client_ca=pem / "ca.pem") as server:
        certificate = {"cert": pem / "caller.pem", "key_of_cert": pem / "caller.key"}
        with Client(server.address, ca=pem / "ca.pem", **certificate) as client:
            assert client.recommend(WATERLOO).songs
        with (
            Client(server.address, ca=pem / "ca.pem", timeout=2) as stranger,
            pytest.raises(UnavailableError),
        ):
            stranger.recommend(WATERLOO)


def test_renewed_certificates_are_used_without_a_restart(
    loop: Loop, pem: Path, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(name: str) -> None:
        shutil.copy(pem / f"{name}.pem", cert)
        shutil.copy(pem / f"{name}.key", key)

    def read_certificate() -> str:
        with grpc.secure_channel(
            server.address, grpc.ssl_channel_credentials((pem / "ca.pem").read_bytes())
        ) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            stub.GetRelease(pb.GetReleaseRequest(), timeout=PATIENCE_S)
        command = ["openssl", "s_client", "-connect", server.address, "-alpn", "h2"]
        done = subprocess.run(command, input=b"", capture_output=True, check=False)
        return done.stdout.decode(errors="replace")

    install("server")
    with loop.serve(FakeStore(FakeRelease(POINTS)), tls_cert=cert, tls_key=key) as server:
        assert "CN = server" in read_certificate() or "CN=server" in read_certificate()
        install("renewed")
        assert "CN = renewed" in read_certificate() or "CN=renewed" in read_certificate()
        cert.write_text("no certificate")
        assert "CN = renewed" in read_certificate() or "CN=renewed" in read_certificate()


@pytest.mark.parametrize("broken", ["cert", "key", "other key", "ca", "missing"])
def test_invalid_certificates_are_refused_at_the_start(
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
        loop.serve(FakeStore(FakeRelease(POINTS)), **chosen),
    ):
        raise AssertionError
