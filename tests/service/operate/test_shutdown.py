"""Stopping the service: tasks end, events are logged, and a second Ctrl-C ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client as prometheus
import pytest

from service.operate import metrics
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.road import ROOT
from tests.support.rpc_servers import PATIENCE_S, POINTS, Loop, build_server, wait_until
from tests.support.service_process import Service, run_service

if TYPE_CHECKING:
    from catalog.store import OpenRelease
    from tests.support.road import Road


class SlowStore(FakeStore):
    """A store that opens the second release only once `may_open` is set."""

    def __init__(self, release: FakeRelease) -> None:
        super().__init__(release)
        self.opening = threading.Event()
        self.may_open = threading.Event()

    def open(self, release: str | None = None) -> OpenRelease:
        if release is not None:
            self.opening.set()
            assert self.may_open.wait(PATIENCE_S)
        return super().open(release)


def test_no_task_remains_after_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    store = SlowStore(FakeRelease(POINTS, name="1"))
    second = FakeRelease(POINTS, name="2")
    caplog.set_level("INFO", logger="nextsong.service")

    async def serve() -> None:
        before = asyncio.all_tasks()
        server = build_server(store)
        await server.start()
        store.put("2", second)
        while not store.opening.is_set():
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(server.stop())
        while "ending" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not stopping.done()
        store.may_open.set()
        await stopping
        remaining = asyncio.all_tasks() - before - {stopping}
        assert not [task for task in remaining if "grpc" not in repr(task)]

    asyncio.run(serve())
    assert second.closed
    assert "draining" in caplog.text


def test_a_port_in_use_is_reported_in_one_line(road: Road, loop: Loop) -> None:
    with loop.serve(FakeStore(FakeRelease(POINTS))) as server:
        command = [sys.executable, "-m", "cli.main", "serve", "--port", str(server.port)]
        done = subprocess.run(
            [*command, "--home", str(road.home.path)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{server.port}: the port is in use" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_interrupt_ends_the_service_at_once(road: Road, workers: int) -> None:
    options = ("--drain", "600", "--workers", str(workers))
    with run_service(road.home.path, *options) as service:
        pids = service.children()
        service.process.send_signal(signal.SIGINT)
        wait_until(lambda: read_log(service).count("draining") == workers)
        assert service.process.poll() is None
        service.process.send_signal(signal.SIGINT)
        assert service.wait()[0] == -signal.SIGINT
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def read_log(service: Service) -> str:
    # os.pread does not move the file position, which the writing processes share.
    return os.pread(service._log.fileno(), 1 << 20, 0).decode()


def test_an_unused_release_has_no_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", iter([7, 8]).__next__)
    for pid in (7, 8):
        metrics.reserve_files(tmp_path, pid)
    registry = prometheus.CollectorRegistry()
    registry.register(metrics.ReleasesInUse(lambda: metrics.read_releases(tmp_path)))
    processes = [metrics.Metrics(prometheus.CollectorRegistry(), tmp_path) for _ in range(2)]

    def in_use() -> dict[str, float]:
        (family,) = registry.collect()
        return {sample.labels["release"]: sample.value for sample in family.samples}

    assert in_use() == {}
    sizes = {path: path.stat().st_size for path in tmp_path.iterdir()}
    for number in range(1_000):
        for process in processes:
            process.set_release(f"release-{number}")
    assert in_use() == {"release-999": 2}
    processes[0].set_release("r")
    assert in_use() == {"release-999": 1, "r": 1}
    metrics.clear_files(tmp_path, 7)  # process 7, the first process, has ended
    processes[1].set_release(None)
    assert in_use() == {}
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == sizes
