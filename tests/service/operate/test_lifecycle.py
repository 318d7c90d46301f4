"""Start and stop of the server: ports, hosts, releases, and calls under way."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import prometheus_client as prometheus
import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.errors import BusyError, CorruptReleaseError, NoReleaseError, UnavailableError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.client.client import Client
from service.operate.metrics import Metrics
from service.operate.process import Ready, serve
from service.settings import Settings
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.road import ROOT
from tests.support.rpc_servers import (
    PATIENCE_S,
    POINTS,
    WATERLOO,
    Call,
    Loop,
    SlowRelease,
    build_server,
    damage,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.model import Point
    from tests.support.road import Road


# Start of the server


def test_present_objects_are_exempt_from_garbage_collection(road: Road) -> None:
    spared = []

    async def serve_until_ready() -> None:
        stopped = asyncio.Event()

        def ready(_: Ready) -> None:
            spared.append(gc.get_freeze_count())
            stopped.set()

        settings = Settings(home=road.home.path, port=0, drain=0.0)
        await serve(settings, Metrics(prometheus.CollectorRegistry()), ready, stopped)

    asyncio.run(serve_until_ready())
    assert spared[0] > 10_000
    assert gc.get_freeze_count() == 0


def test_a_port_in_use_is_reported_and_the_release_closed(loop: Loop) -> None:
    release = FakeRelease(POINTS)

    async def start_second(port: int) -> None:
        build_server(FakeStore(release), port=port)

    with loop.serve(FakeStore(FakeRelease(POINTS))) as server:
        with pytest.raises(BusyError, match=f"cannot listen on 127.0.0.1:{server.port}: the port"):
            loop.run(start_second(server.port))
        assert release.closed
        with Client(server.address) as client:
            client.recommend(WATERLOO)


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
def test_hosts_are_accepted_in_any_form(loop: Loop, host: str) -> None:
    if "::1" in host and not has_ipv6():
        pytest.skip("no IPv6 here")

    async def answer() -> None:
        server = build_server(FakeStore(FakeRelease(POINTS)), host=host)
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            await stub.GetRelease(pb.GetReleaseRequest(), timeout=PATIENCE_S)
        await server.stop()
        assert server.address == f"{'[::1]' if '::1' in host else host}:{server.port}"

    loop.run(answer())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_server_needs_a_release(tmp_path: Path) -> None:
    async def start() -> None:
        build_server(EmbeddedStore(tmp_path / "nothing"))

    with pytest.raises(NoReleaseError, match="no release in"):
        asyncio.run(start())


def test_a_corrupt_release_is_reported_at_the_start(store: EmbeddedStore) -> None:
    async def start() -> None:
        build_server(store)

    release = store.current()
    assert release is not None
    damage(store, release)
    with pytest.raises(CorruptReleaseError, match=f"release {release} is damaged"):
        asyncio.run(start())


# Stop of the server


def is_refused(address: str) -> bool:
    with Client(address) as late:
        try:
            late.get_release()
        except UnavailableError:
            return True
    return False


def test_calls_under_way_finish_before_the_stop(
    loop: Loop,
) -> None:
    release = SlowRelease(POINTS)
    with (
        loop.serve(FakeStore(release), grace=PATIENCE_S) as server,
        Client(server.address, PATIENCE_S) as client,
    ):
        call = Call(client)
        assert release.was_searched.wait(PATIENCE_S)
        stopping = loop.start(server.stop())
        wait_until(lambda: is_refused(server.address))
        assert not stopping.done()
        release.may_answer.set()
        call.join(PATIENCE_S)
        stopping.result(PATIENCE_S)
        assert call.answer is not None
        assert call.answer.release == "slow"


def test_a_call_that_never_ends_does_not_delay_the_stop(
    loop: Loop,
) -> None:
    release = SlowRelease(POINTS)
    with (
        loop.serve(FakeStore(release), grace=0.1) as server,
        Client(server.address, PATIENCE_S) as client,
    ):
        call = Call(client)
        assert release.was_searched.wait(PATIENCE_S)
        loop.run(server.stop())
        call.join(PATIENCE_S)
        assert isinstance(call.failure, UnavailableError)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_command_serves_until_a_signal(road: Road, name: str, best_known: list[Point]) -> None:
    command = [sys.executable, "-m", "cli.main", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--home", str(road.home.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        release = road.outcome.manifest.release
        assert line.startswith(f"serving release {release} ({len(best_known):,} songs) on 127.0.")
        address = line.split()[-1]
        seed = pb.Seed(song_id=str(best_known[0].song.song_id))
        with Client(address) as client:
            assert len(client.recommend(pb.RecommendRequest(seeds=[seed])).songs) == 10
            process.send_signal(getattr(signal, name))
            rest, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert rest == ""
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()
