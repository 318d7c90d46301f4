"""Switching releases under a load of 100 calls per second: no call fails, and no memory leaks.

The environment variable NEXTSONG_SWITCH_S sets the duration of the load in seconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from catalog.embedded.store import EmbeddedStore
from evaluation.bench.load import Load
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from tests.support.fakes import FakeRelease, FakeStore, points_of, publish
from tests.support.rpc_servers import PATIENCE_S, POINTS, Loop, wait_until
from tests.support.service_process import run_service

if TYPE_CHECKING:
    from catalog.model import Point


SECONDS = float(os.environ.get("NEXTSONG_SWITCH_S", "8"))
RATE = 100  # calls per second
STALL_US = 1_500_000  # microseconds; during this time, more calls queue than the server admits
SONGS = points_of(
    *((f"Artist {n % 50}", f"Song {n}", 2_000 - n, (1, n, n * n)) for n in range(1_500))
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def build_edition(number: int) -> list[Point]:
    """Return the same songs and vectors with different titles, which identify the release."""
    return [
        replace(point, song=replace(point.song, title=f"{point.song.title} ({number})"))
        for point in SONGS
    ]


class Calls:
    """Makes calls at a steady rate, without retries, and without waiting for responses."""

    def __init__(self, address: str) -> None:
        self.failures: list[str] = []
        self.answers: list[tuple[str, set[str]]] = []
        self._address = address

    async def run(self, ended: asyncio.Event) -> None:
        async with grpc.aio.insecure_channel(
            self._address, options=[("grpc.enable_retries", 0)]
        ) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            begin, number, tasks = time.monotonic(), 0, set[asyncio.Task[None]]()
            while not ended.is_set():
                tasks.add(asyncio.create_task(self._call(stub, number)))
                number += 1
                await asyncio.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            await asyncio.gather(*tasks)

    async def _call(self, stub: recommender_pb2_grpc.RecommenderStub, number: int) -> None:
        numbers = (number % len(SONGS), (7 * number) % len(SONGS))
        seeds = [pb.Seed(song_id=str(SONGS[song].song.song_id)) for song in numbers]
        try:
            answer = await stub.Recommend(pb.RecommendRequest(seeds=seeds), timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            self.failures.append(f"{error.code().name}: {error.details()}")
        else:
            titles = [scored.song.title for scored in answer.songs]
            titles += [seed.song.title for seed in answer.seeds]
            self.answers.append((answer.release, {title.rpartition(" ")[2] for title in titles}))


def measure_memory(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def list_mapped_releases(pid: int, store: EmbeddedStore) -> set[str]:
    """Return the releases whose files a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    inside = f"{store.path}/releases/"
    return {line.split(inside)[1].split("/")[0] for line in lines if inside in line}


async def switch_releases(
    store: EmbeddedStore, address: str, pid: int
) -> tuple[Calls, dict[str, str], int]:
    """Make calls during three switches and a rollback.

    Returns the calls, the edition number of each release id, and the memory in use before the
    switches, in bytes.
    """
    calls, ended = Calls(address), asyncio.Event()
    running = asyncio.create_task(calls.run(ended))
    names = {store.current() or "": "(0)"}
    pause = SECONDS / 6
    await asyncio.sleep(pause)
    before = measure_memory(pid)

    async def wait_for_release(release: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not calls.answers or calls.answers[-1][0] != release:
                await asyncio.sleep(0.02)
        await asyncio.sleep(pause)

    for number in (1, 2, 3):
        published = await asyncio.to_thread(publish, store, build_edition(number))
        names[published.release] = f"({number})"
        await wait_for_release(published.release)
    await wait_for_release(await asyncio.to_thread(store.rollback))
    ended.set()
    await running
    return calls, names, before


@pytest.mark.timeout(60 + 10 * SECONDS)
def test_three_releases_and_a_rollback_under_load(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "home")
    publish(store, build_edition(0))
    # The capacity is high, because a busy machine may delay calls for seconds.
    options = ("--look-every", "0.2", "--log-level", "warning", "--max-concurrency", "1000")
    with run_service(store.path, *options) as service:
        pid = service.process.pid
        calls, names, before = asyncio.run(switch_releases(store, service.address, pid))
        assert calls.failures == []
        assert len(calls.answers) > 0.5 * RATE * SECONDS
        assert {release for release, _ in calls.answers} == set(names)
        for release, editions in calls.answers:
            assert editions == {names[release]}
        wait_until(lambda: list_mapped_releases(pid, store) <= {store.current() or ""})
        assert measure_memory(pid) < before + (32 << 20)
        code, log = service.stop()
        assert (code, log) == (0, "")


class BlockingStore(FakeStore):
    """A store that blocks the interpreter while it opens a release, as large releases do."""

    def open(self, release: str | None = None) -> FakeRelease:
        if self.opened:
            ctypes.PyDLL(None).usleep(STALL_US)
        return super().open(release)


def test_calls_that_queued_during_a_stall_are_admitted(loop: Loop) -> None:
    store = BlockingStore(FakeRelease(POINTS, name="1"))
    with loop.serve(store, max_concurrency=RATE // 2) as server:
        load = Load(server.address, songs=10, seeds=2, limit=5, rate=RATE, seconds=5.0)
        with subprocess.Popen(
            [sys.executable, "-m", "evaluation.bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as caller:
            assert caller.stdin is not None
            caller.stdin.write(json.dumps(asdict(load)))
            caller.stdin.close()
            caller.stdin = None
            wait_until(lambda: store.count_popular_queries("1") > 0.2 * RATE)
            for name in ("2", "3"):
                store.put(name, FakeRelease(POINTS, name=name))
                wait_until(lambda name=name: store.count_popular_queries(name) > 0.5 * RATE)
            output, _ = caller.communicate(timeout=PATIENCE_S)
    outcome = json.loads(output)
    assert outcome["failures"] == {}
    assert len(outcome["latencies_ms"]) > 2 * RATE
