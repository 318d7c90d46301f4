"""Several serving processes on one port, with one metrics endpoint."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from catalog import errors
from catalog.errors import BusyError, StorageError
from nextsong.v1 import recommender_pb2 as pb
from service.client.client import Client
from service.operate import metrics
from service.operate.supervisor import supervise
from service.rpc.port import reserve_port
from service.settings import Settings
from tests.support.rpc_servers import PATIENCE_S, wait_until
from tests.support.service_process import run_service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.operate.process import Ready
    from tests.support.road import Road


def count_calls(text: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith("nextsong_calls_total{")]
    return sum(float(line.split()[-1]) for line in lines)


def list_metrics_files(pid: int) -> list[Path]:
    """Return the metrics files that the children of a process have mapped."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    maps = "".join(Path(f"/proc/{child}/maps").read_text() for child in children)
    (folder,) = {Path(line.split()[-1]).parent for line in maps.splitlines() if ".db" in line}
    return list(folder.iterdir())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_share_a_port_and_metrics_and_are_replaced(road: Road) -> None:
    options = ("--workers", "2", "--metrics-port", "0", "--log-level", "error")
    with run_service(road.home.path, *options) as service:
        pids = service.children()
        assert len(pids) == 2
        for _ in range(12):  # each connection is accepted by one of the processes
            with Client(service.address) as client:
                client.get_release()
        assert count_calls(service.metrics()) == 12
        release = road.outcome.manifest.release
        in_use = f'nextsong_release_in_use{{release="{release}"}} 2.0'
        assert in_use in service.metrics()

        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: len(service.children()) == 2 and pids[0] not in service.children())
        wait_until(lambda: in_use in service.metrics())
        with Client(service.address) as client:
            client.get_release()
        # The counters of the killed process are kept, and its other files are gone.
        assert count_calls(service.metrics()) == 13
        assert len(list_metrics_files(service.process.pid)) == 2 * 4

        with pytest.raises(BusyError, match="the port is in use"):
            reserve_port("127.0.0.1", int(service.address.split(":")[1])).__enter__()

        pids = service.children()
        code, log = service.stop()
        assert code == 0
        assert "a process ended unexpectedly" in log
        assert "Traceback" not in log
        assert not any(is_alive(pid) for pid in pids)


def test_no_call_fails_while_several_processes_stop(road: Road) -> None:
    with run_service(road.home.path, "--workers", "2", "--drain", "0.5") as service:
        seed = pb.Seed(artist="nobody", title="nothing")
        outcomes: list[str] = []
        ending = threading.Event()

        def call() -> None:
            with Client(service.address, timeout=10) as client:
                while not ending.is_set():
                    client.recommend(pb.RecommendRequest(seeds=[seed]))
                    outcomes.append("answered")

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        wait_until(lambda: len(outcomes) > 20)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # the drain takes half a second
        before = len(outcomes)
        wait_until(lambda: len(outcomes) > before)
        ending.set()
        for caller in callers:
            caller.join(PATIENCE_S)
        assert not any(caller.is_alive() for caller in callers)
        code, log = service.wait()
        assert code == 0
        assert "code=OK" in log.replace("\x1b", "")
        assert "INTERNAL" not in log


def test_metrics_files_have_their_full_size_before_they_are_written(tmp_path: Path) -> None:
    metrics.reserve_files(tmp_path, 7)
    for path in tmp_path.iterdir():
        is_release = path.name == "release_7"
        size = metrics.RELEASE_FILE_SIZE if is_release else metrics.METRICS_FILE_SIZE
        assert path.stat().st_blocks * 512 >= path.stat().st_size == size


def test_a_process_continues_the_counters_of_its_predecessor(tmp_path: Path) -> None:
    metrics.reserve_files(tmp_path, 7)
    for path in tmp_path.iterdir():
        path.write_bytes(b"x" * path.stat().st_size)
    metrics.clear_files(tmp_path, 7)
    metrics.reserve_files(tmp_path, 8, predecessor=7)
    kept = {path.name for path in tmp_path.iterdir() if any(path.read_bytes())}
    cleared = {path.name for path in tmp_path.iterdir() if not any(path.read_bytes())}
    assert kept == {"counter_8.db", "histogram_8.db"}
    assert cleared == {"gauge_livesum_8.db", "release_8"}


def test_metrics_are_read_again_if_files_are_renamed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_releases, calls = metrics.read_releases, list[Path]()

    def rename_before_the_first_read(folder: Path) -> list[str]:
        calls.append(folder)
        if len(calls) == 1:
            raise FileNotFoundError
        return read_releases(folder)

    monkeypatch.setattr(metrics, "read_releases", rename_before_the_first_read)
    metrics.reserve_files(tmp_path, 7)
    (tmp_path / "release_7").write_bytes(b"r-1".ljust(metrics.RELEASE_FILE_SIZE, b"\0"))
    (family,) = metrics.FolderCollector(tmp_path).collect()
    assert [sample.labels for sample in family.samples] == [{"release": "r-1"}]
    assert len(calls) == 2


def test_a_full_disk_is_reported_before_metrics_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_with_a_full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail_with_a_full_disk)
    with pytest.raises(StorageError, match="the disk is full"):
        metrics.reserve_files(tmp_path, 0)


def test_a_port_in_time_wait_can_be_reserved() -> None:
    with socket.socket() as before:
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind(("127.0.0.1", 0))
        before.listen()
        port = before.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = before.accept()
            accepted.close()  # the side that closes the connection first stays in TIME_WAIT
    with reserve_port("127.0.0.1", port) as reserved:
        assert reserved == port


def test_processes_end_if_their_parent_dies(road: Road) -> None:
    with run_service(road.home.path, "--workers", "2") as service:
        pids = service.children()
        service.process.kill()
        service.process.communicate()
        wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_the_error_that_stops_the_first_start_is_reported_once(tmp_path: Path) -> None:
    with run_service(tmp_path, "--workers", "3") as service:
        code, log = service.wait()
        assert code == 1
        (line,) = [line for line in log.splitlines() if line.startswith("Error: ")]
        assert "no release in" in line
        assert "Traceback" not in log


def test_a_port_in_use_cannot_be_reserved() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"cannot listen on 127.0.0.1:{port}"):
            reserve_port("127.0.0.1", port).__enter__()
    with reserve_port("localhost", 0) as free:
        assert free > 0


def test_an_extra_missing_in_a_process_is_reported(road: Road, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ImportError('not installed')")
    options = ("--workers", "2", "--otlp-endpoint", "http://127.0.0.1:1")
    with run_service(road.home.path, *options, path=tmp_path) as service:
        code, log = service.wait()
    assert code == 1
    (line,) = [line for line in log.splitlines() if line.startswith("Error: ")]
    assert "OpenTelemetry traces need libraries that are not installed" in line
    assert "Traceback" not in log


def test_output_of_a_serving_process_goes_to_standard_error(road: Road, tmp_path: Path) -> None:
    is_worker = "'service.operate.worker' in ' '.join(sys.orig_argv)"
    program = f"import sys\nif {is_worker}: print('a greeting', '9' * 200_000, flush=True)"
    (tmp_path / "sitecustomize.py").write_text(program)
    with run_service(road.home.path, "--workers", "2", path=tmp_path) as service:
        with Client(service.address) as client:
            client.get_release()
        code, log = service.stop()
    assert code == 0
    assert log.count("a greeting") == 2
    assert not any("a greeting" in line for line in service.printed)


def test_all_errors_can_be_sent_between_processes() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.NextsongError):
            named = kind in {errors.RequestError, errors.MissingExtraError}
            error = kind("one", "two") if named else kind("went wrong")
            copy = pickle.loads(pickle.dumps(error))
            assert type(copy) is kind
            assert str(copy) == str(error)
    assert pickle.loads(pickle.dumps(errors.OverloadError("busy", 0.5))).wait_s == 0.5


STAND_IN = """
import sys
from multiprocessing.connection import Connection
from service.operate.process import Ready
connection = Connection(int(sys.argv[1]))
connection.recv()
connection.send(Ready("here", None, 0))
connection.poll(None)
"""


class Spawning:
    """Starts stand-ins for serving processes.

    `fails` maps numbers of starts, counted from 1, to the exceptions that these starts raise.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Mapping[int, Exception]) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.starts = 0
        self._fails = fails
        self._spawn = asyncio.create_subprocess_exec
        monkeypatch.setattr(asyncio, "create_subprocess_exec", self)
        monkeypatch.setattr("service.operate.supervisor.MIN_PAUSE_S", 0.01)

    async def __call__(self, *command: str, **options: Any) -> asyncio.subprocess.Process:
        self.starts += 1
        if self.starts in self._fails:
            raise self._fails[self.starts]
        process = await self._spawn(sys.executable, "-c", STAND_IN, command[-1], **options)
        self.processes.append(process)
        return process


def run_supervisor(ready: Callable[[Ready], None] = lambda _ready: None) -> None:
    asyncio.run(supervise(Settings(workers=2, port=0, drain=0, grace=0), ready))


@pytest.mark.parametrize("start", [1, 2])
def test_a_first_start_that_fails_ends_the_service(
    monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    start_error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    spawning = Spawning(monkeypatch, {start: start_error})
    with pytest.raises(errors.SupervisionError, match=r"cannot be started: Resource temporarily"):
        run_supervisor()
    assert all(process.returncode is not None for process in spawning.processes)


def test_a_failed_replacement_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start_error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    spawning = Spawning(monkeypatch, {3: start_error, 4: start_error})

    async def end_when_replaced() -> None:
        spawning.processes[0].kill()
        while len(spawning.processes) < 3:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    tasks = []
    run_supervisor(lambda _ready: tasks.append(asyncio.ensure_future(end_when_replaced())))
    assert spawning.starts == 5
    assert caplog.text.count("a process could not start") == 2
    assert all(process.returncode is not None for process in spawning.processes)


def test_a_failure_of_supervision_ends_all_processes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spawning = Spawning(monkeypatch, {})
    reserve_files = metrics.reserve_files

    def fail_later(folder: Path, pid: int, predecessor: int | None = None) -> None:
        if predecessor is not None:
            raise ValueError("not foreseen")
        reserve_files(folder, pid)

    monkeypatch.setattr(metrics, "reserve_files", fail_later)
    with pytest.raises(errors.SupervisionError, match="not foreseen"):
        run_supervisor(lambda _ready: spawning.processes[0].kill())
    assert "Traceback" in caplog.text
    assert all(process.returncode is not None for process in spawning.processes)
