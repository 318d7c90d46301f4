"""Calls by JSON over HTTP: same answers, keys, limits and errors as over gRPC."""

from __future__ import annotations

import base64
import json
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2

from catalog.errors import BusyError, MissingExtraError, NoReleaseError
from nextsong.v1 import recommender_pb2 as pb
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_calls import KEY, call_recommend
from tests.support.rpc_servers import PATIENCE_S, POINTS, Loop, SlowRelease

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from service.rpc.server import Server

SEEDS = {"seeds": [{"artist": "ABBA", "title": "Waterloo"}]}
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["Recommender"].methods]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


def request(
    server: Server,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    tls: ssl.SSLContext | None = None,
    **headers: str,
) -> Reply:
    """Send an HTTP request: POST with JSON or with bytes as `body`, GET without a body."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if sent is not None:
        given = {"content-type": "application/json"} | given
    url = f"{'https' if tls else 'http'}://127.0.0.1:{server.http_port}{path}"
    call = urllib.request.Request(url, sent, given, method=method)
    try:
        with urllib.request.urlopen(call, timeout=PATIENCE_S, context=tls) as answer:
            return Reply(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.headers, error.read())


def call(server: Server, method: str, body: Any, **more: Any) -> Reply:
    return request(server, f"/nextsong.v1.Recommender/{method}", body, **more)


@pytest.fixture(scope="module")
def server(loop: Loop) -> Iterator[Server]:
    with loop.serve(
        FakeStore(FakeRelease(POINTS)), http_port=0, max_request_bytes=100_000
    ) as server:
        yield server


def test_an_answer_is_the_same_as_over_grpc(server: Server) -> None:
    reply = call(server, "Recommend", SEEDS, x_request_id="my-id")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"] == "my-id"
    expected, _ = call_recommend(server.address)
    assert json_format.Parse(reply.body, pb.RecommendResponse()) == expected
    assert [scored["song"]["title"] for scored in reply.content["songs"]] == ["Fernando"]


def test_an_empty_body_is_an_empty_message(server: Server) -> None:
    assert call(server, "GetRelease", b"").content["release"]["songs"] == "2"


@pytest.mark.parametrize(
    ("method", "body", "code", "status"),
    [
        ("Recommend", {}, "invalid_argument", 400),
        ("SimilarSongs", {"song": {"artist": "A", "title": "b"}}, "not_found", 404),
        ("ForgetUser", {"userId": "ann"}, "failed_precondition", 400),
    ],
)
def test_errors_of_methods_have_the_status_of_their_code(
    server: Server, method: str, body: Any, code: str, status: int
) -> None:
    reply = call(server, method, body)
    assert (reply.status, reply.content["code"]) == (status, code)
    first, *_ = reply.content["details"]
    assert first["type"] == "google.rpc.ErrorInfo"
    padded = first["value"] + "=" * (-len(first["value"]) % 4)
    info = error_details_pb2.ErrorInfo.FromString(base64.b64decode(padded))
    assert first["debug"] == {"reason": info.reason, "domain": "nextsong"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{", {}, 400, "not a request in JSON"),
        (b"[1]", {}, 400, "not a request in JSON"),
        (b"[" * 90_000, {}, 400, "not a request in JSON"),
        ({"seedz": []}, {}, 400, 'no field named "seedz"'),
        ({"limit": "many"}, {}, 400, "limit"),
        (b" " * 100_001, {}, 413, "larger than 100000 bytes"),
        (b"\xff", {}, 400, "not a request in JSON"),
        (SEEDS, {"content_type": "text/plain"}, 415, "content-type: application/json"),
        (SEEDS, {"content_encoding": "gzip"}, 415, "must not be compressed"),
        (SEEDS, {"connect_timeout_ms": "1s"}, 400, "positive number of milliseconds"),
        (SEEDS, {"connect_timeout_ms": "0"}, 400, "positive number of milliseconds"),
    ],
)
def test_malformed_requests_are_refused(
    server: Server, body: Any, headers: dict[str, str], status: int, message: str
) -> None:
    reply = call(server, "Recommend", body, **headers)
    assert reply.status == status
    assert message in reply.content["message"]


def test_other_methods_and_paths_do_not_exist(server: Server) -> None:
    assert call(server, "Nothing", {}).status == 404
    assert request(server, "/nobody.v1.Nothing/Recommend", {}).status == 404
    assert call(server, "Recommend", None).status == 405


def test_a_time_limit_ends_a_call(loop: Loop) -> None:
    with loop.serve(FakeStore(SlowRelease(POINTS)), http_port=0) as server:
        reply = call(server, "Recommend", SEEDS, connect_timeout_ms="50")
    assert (reply.status, reply.content["code"]) == (504, "deadline_exceeded")


def test_keys_are_required_as_over_grpc(loop: Loop, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    with loop.serve(FakeStore(FakeRelease(POINTS)), http_port=0, keys_file=keys) as server:
        refused = call(server, "Recommend", SEEDS)
        assert (refused.status, refused.content["code"]) == (401, "unauthenticated")
        assert call(server, "Recommend", SEEDS, x_api_key="nøt-a-key-of-ours").status == 401
        assert call(server, "Recommend", SEEDS, authorization=f"Bearer {KEY}").status == 200
        assert request(server, "/health").status == 200


def test_web_pages_of_the_given_origins_may_call(loop: Loop, server: Server) -> None:
    asked = {"origin": "https://a.example", "access_control_request_method": "POST"}
    asked |= {"access_control_request_headers": "content-type,x-api-key"}
    path = "/nextsong.v1.Recommender/Recommend"
    store = FakeStore(FakeRelease(POINTS))
    origins = "https://a.example, https://b.example"
    with loop.serve(store, http_port=0, http_cors_origins=origins) as open_server:
        allowed = request(open_server, path, method="OPTIONS", **asked)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        refused = request(open_server, path, method="OPTIONS", **asked | {"origin": "https://c"})
        assert "access-control-allow-origin" not in refused.headers
    closed = request(server, path, method="OPTIONS", **asked)
    assert "access-control-allow-origin" not in closed.headers


def test_health_follows_the_release(loop: Loop, server: Server) -> None:
    assert request(server, "/health").content == {"status": "SERVING"}
    store = FakeStore(FakeRelease(POINTS))
    store.put("none", NoReleaseError("no release yet"))
    with loop.serve(store, http_port=0, wait=True) as waiting:
        reply = request(waiting, "/health")
        assert (reply.status, reply.content["status"]) == (503, "NOT_SERVING")


def test_the_openapi_document_describes_every_method_and_field(server: Server) -> None:
    document = request(server, "/openapi.json").content
    assert [*document["paths"]] == [f"/nextsong.v1.Recommender/{name}" for name in METHODS]
    schemas = document["components"]["schemas"]
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        fields = {field.json_name for field in message.fields}
        assert {*schemas[name]["properties"]} == fields
    references = set(json.dumps(document).split("#/components/schemas/")[1:])
    assert {text.partition('"')[0] for text in references} <= {*schemas}
    assert schemas["Seed"]["properties"]["title"]["description"].startswith("Compared like")
    extra = schemas["Song"]["properties"]["extra"]
    assert extra["additionalProperties"] == {"$ref": "#/components/schemas/Value"}


def test_the_page_of_the_api_loads_nothing_from_other_hosts(server: Server) -> None:
    page = request(server, "/docs/")
    assert b"http" not in page.body
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for path in ("start.js", "assets/swagger-ui.css", "assets/swagger-ui-bundle.js"):
        assert request(server, f"/docs/{path}").status == 200


def test_a_port_in_use_is_reported(loop: Loop, server: Server) -> None:
    with (
        pytest.raises(BusyError, match=f":{server.http_port}: the port is in use"),
        loop.serve(FakeStore(FakeRelease(POINTS)), http_port=server.http_port),
    ):
        pass


def test_the_extra_is_named_if_it_is_missing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.http.server", None)
    with (
        pytest.raises(MissingExtraError, match="http"),
        loop.serve(FakeStore(FakeRelease(POINTS)), http_port=0),
    ):
        pass


def test_tls_serves_http_as_well_and_follows_changed_certificates(
    loop: Loop, pem: Path, tmp_path: Path
) -> None:
    files = {name: tmp_path / name for name in ("server.pem", "server.key")}
    for name, path in files.items():
        path.write_bytes((pem / name).read_bytes())
    trusted = ssl.create_default_context(cafile=pem / "ca.pem")
    with loop.serve(
        FakeStore(FakeRelease(POINTS)),
        http_port=0,
        tls_cert=files["server.pem"],
        tls_key=files["server.key"],
    ) as server:
        assert call(server, "Recommend", SEEDS, tls=trusted).status == 200
        before = ssl.get_server_certificate(("127.0.0.1", server.http_port or 0))
        for name, path in files.items():
            path.write_bytes((pem / name.replace("server", "renewed")).read_bytes())
        after = ssl.get_server_certificate(("127.0.0.1", server.http_port or 0))
        assert before != after
        assert call(server, "Recommend", SEEDS, tls=trusted).status == 200


def test_mutual_tls_requires_a_certificate_of_the_caller(loop: Loop, pem: Path) -> None:
    tls = {"tls_cert": pem / "server.pem", "tls_key": pem / "server.key"}
    stranger = ssl.create_default_context(cafile=pem / "ca.pem")
    known = ssl.create_default_context(cafile=pem / "ca.pem")
    known.load_cert_chain(pem / "caller.pem", pem / "caller.key")
    store = FakeStore(FakeRelease(POINTS))
    with loop.serve(store, http_port=0, tls_client_ca=pem / "ca.pem", **tls) as server:
        assert call(server, "Recommend", SEEDS, tls=known).status == 200
        with pytest.raises((urllib.error.URLError, OSError)):
            call(server, "Recommend", SEEDS, tls=stranger)
