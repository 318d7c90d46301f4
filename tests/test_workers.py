"""Several serving processes: one port, one metrics endpoint, and always all of them."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from catalog.errors import BusyError, StorageError
from nextsong.v1 import recommender_pb2 as pb
from server_fixtures import PATIENCE_S, until
from service import metrics
from service.client import Client
from service.workers import _ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Road

STARTING_S = 60.0


class Service:
    """`nextsong serve` in a process of its own.

    Its log goes to a file: a pipe that nobody reads holds it up once there are 64 kB of calls.
    """

    def __init__(self, log: IO[str], home: Path, *options: str) -> None:
        self._log = log
        command = [sys.executable, "-m", "evaluation.main", "serve", "--home", str(home)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--drain", "0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())
            if line.startswith("serving"):
                return

    @property
    def address(self) -> str:
        return self.said[-1].split()[-1]

    def metrics(self) -> str:
        port = self.said[0].split()[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> tuple[int, str]:
        """Exit code and log."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Exit code and log, once it has ended by itself."""
        self.process.communicate(timeout=STARTING_S)
        self._log.seek(0)
        return self.process.returncode, self._log.read()


@contextmanager
def serving(home: Path, *options: str) -> Iterator[Service]:
    with tempfile.TemporaryFile("w+") as log:
        service = Service(log, home, *options)
        try:
            yield service
        finally:
            if service.process.poll() is None:
                service.process.kill()
                service.process.communicate()


def calls_told(text: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith("nextsong_calls_total{")]
    return sum(float(line.split()[-1]) for line in lines)


def files_of_metrics(pid: int) -> list[Path]:
    """The files of metrics that the children of a process have in their memory."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    maps = "".join(Path(f"/proc/{child}/maps").read_text() for child in children)
    (folder,) = {Path(line.split()[-1]).parent for line in maps.splitlines() if ".db" in line}
    return list(folder.iterdir())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_family_of_processes(road: Road) -> None:
    options = ("--workers", "2", "--metrics-port", "0", "--log-level", "error")
    with serving(road.home.path, *options) as service:
        members = service.children()
        assert len(members) == 2
        for _ in range(12):  # each connection goes to one of them
            with Client(service.address) as client:
                client.get_release()
        assert calls_told(service.metrics()) == 12
        release = road.outcome.manifest.release
        in_use = f'nextsong_release_in_use{{release="{release}"}} 2.0'
        assert in_use in service.metrics()

        os.kill(members[0], signal.SIGKILL)
        until(lambda: len(service.children()) == 2 and members[0] not in service.children())
        until(lambda: in_use in service.metrics())
        with Client(service.address) as client:
            client.get_release()
        assert calls_told(service.metrics()) == 13  # what the dead one counted is not forgotten
        assert len(files_of_metrics(service.process.pid)) == 2 * 4  # and it left none of its own

        with pytest.raises(BusyError, match="the port is in use"):
            _ReservedPort("127.0.0.1", int(service.address.split(":")[1])).__enter__()

        members = service.children()
        code, log = service.end()
        assert code == 0
        assert "a process ended before its time" in log
        assert "Traceback" not in log
        assert not any(alive(member) for member in members)


def test_no_call_fails_while_a_family_ends(road: Road) -> None:
    with serving(road.home.path, "--workers", "2", "--drain", "0.5") as service:
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
        until(lambda: len(outcomes) > 20)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # it goes on answering for half a second
        before = len(outcomes)
        until(lambda: len(outcomes) > before)
        ending.set()
        for caller in callers:
            caller.join(PATIENCE_S)
        assert not any(caller.is_alive() for caller in callers)
        code, log = service.ended()
        assert code == 0
        assert "code=OK" in log.replace("\x1b", "")
        assert "INTERNAL" not in log


def test_metrics_have_their_room_before_they_are_written(tmp_path: Path) -> None:
    metrics.reserve(tmp_path, 0)
    for path in tmp_path.iterdir():
        room = metrics.LONGEST_RELEASE if path.name == "release_0" else metrics.ROOM
        assert path.stat().st_blocks * 512 >= path.stat().st_size == room
    live = tmp_path / f"{metrics.LIVE}_0.db"
    for path in tmp_path.iterdir():
        path.write_bytes(b"x" * metrics.ROOM)
    metrics.reserve(tmp_path, 0)
    assert {path for path in tmp_path.iterdir() if not any(path.read_bytes())} == {live}


def test_a_disk_without_room_for_metrics_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="the disk is full"):
        metrics.reserve(tmp_path, 0)


def test_a_port_that_a_server_has_just_left_can_be_taken() -> None:
    with socket.socket() as before:
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind(("127.0.0.1", 0))
        before.listen()
        port = before.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = before.accept()
            accepted.close()  # the side that closes first waits in TIME_WAIT
    with _ReservedPort("127.0.0.1", port) as reserved:
        assert reserved == port


def test_orphans_end(road: Road) -> None:
    with serving(road.home.path, "--workers", "2") as service:
        members = service.children()
        service.process.kill()
        service.process.communicate()
        until(lambda: not any(alive(member) for member in members))


def test_what_stops_a_process_is_said_once(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "3") as service:
        code, log = service.ended()
        assert code == 1
        (line,) = [line for line in log.splitlines() if line.startswith("Error: ")]
        assert "no release in" in line
        assert "Traceback" not in log


def test_a_taken_port_is_noticed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"cannot listen on 127.0.0.1:{port}"):
            _ReservedPort("127.0.0.1", port).__enter__()
    with _ReservedPort("localhost", 0) as free:
        assert free > 0
