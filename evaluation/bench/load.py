"""A process of `nextsong bench serve` that calls the service: `python -m evaluation.bench.load`.

Standard input is a `Load` as JSON; standard output is the outcome as JSON. If the load has a rate,
calls begin at random times, even if earlier calls have not been answered (open loop). The latency
of such a call is measured from the time when the call was due, so that a slow service cannot hide
its slowness by delaying calls. Without a rate, each caller makes the next call as soon as the last
one has been answered (closed loop).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from evaluation.bench.processes import read_cpu_seconds
from evaluation.bench.release import make_song_id
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

REQUESTS = 500  # number of different requests, which are created before the calls begin
CONNECTIONS = 4  # several, because a service distributes connections (not calls) over its processes
EARLIEST_YEAR = 1990  # minimum year in filtered requests
TIMEOUT_S = 30.0  # deadline of a call
WARM_UP_S = 0.5  # duration of calls that are made first and not measured


@dataclass(frozen=True)
class Load:
    """A load on a service: the requests, and the number, rate and duration of calls.

    - `address`: address of the service, as HOST:PORT.
    - `songs`: number of songs in the synthetic release.
    - `seeds`, `limit`: number of songs in a query and in a recommendation.
    - `filtered`: whether requests have a filter with three conditions.
    - `empty`: whether calls request only the id of the current release, not a recommendation.
    - `rate`: calls per second in an open loop; 0 means a closed loop with `callers` callers.
    - `seconds`: duration of the load.
    - `serving`: id of the service's process, to measure its CPU time; 0 means no measurement.
    """

    address: str = ""
    songs: int = 10_000
    seeds: int = 20
    limit: int = 10
    filtered: bool = False
    empty: bool = False
    callers: int = 1
    rate: float = 0.0
    seconds: float = 5.0
    random_seed: int = 1
    serving: int = 0


def draw_due_times(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the due times of a Poisson process with `rate` calls per second, starting now.

    The times are in seconds of `time.perf_counter`.
    """
    begin = time.perf_counter()
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    yield from (begin + np.cumsum(gaps)).tolist()


def create_requests(load: Load) -> list[pb.RecommendRequest]:
    """Return random requests for synthetic songs, in which popular songs occur more often."""
    random = np.random.default_rng(load.random_seed)
    requests = []
    for _ in range(REQUESTS):
        songs = (load.songs * random.random(load.seeds) ** 3).astype(int)
        conditions = None
        if load.filtered:
            conditions = pb.Filter(
                exclude_artists=[f"Artist {songs[0] // 10}"],
                max_playlists=int(load.songs * 0.9),
                conditions=[pb.Condition(field="year", minimum=EARLIEST_YEAR)],
            )
        seeds = [pb.Seed(song_id=str(make_song_id(int(song)))) for song in songs]
        requests.append(pb.RecommendRequest(seeds=seeds, limit=load.limit, filter=conditions))
    return requests


async def drive(load: Load, call: Callable[[int, float], Awaitable[None]], seconds: float) -> None:
    """Make calls for `seconds` seconds, in an open or a closed loop.

    `call` gets the number of the call and the time when it is due, in seconds of
    `time.perf_counter`.
    """
    if load.rate:
        calls = []
        for number, due in enumerate(draw_due_times(load.rate, seconds, load.random_seed)):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            calls.append(asyncio.ensure_future(call(number, due)))
        await asyncio.gather(*calls)
        return
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        while (now := time.perf_counter()) < end:
            await call(number, now)
            number += load.callers

    await asyncio.gather(*(caller(number) for number in range(load.callers)))


@dataclass
class _Counts:
    latencies_ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


class _Caller:
    """Makes calls over several connections, and counts their outcomes."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = create_requests(load)
        self._channels = [
            grpc.aio.insecure_channel(load.address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(CONNECTIONS)
        ]
        self._stubs = [recommender_pb2_grpc.RecommenderStub(channel) for channel in self._channels]
        self.counts = _Counts()

    async def call(self, number: int, due: float) -> None:
        stub = self._stubs[number % CONNECTIONS]
        counts = self.counts
        try:
            if self._load.empty:
                await stub.GetRelease(pb.GetReleaseRequest(), timeout=TIMEOUT_S)
            else:
                await stub.Recommend(self._requests[number % REQUESTS], timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            counts.failures[error.code().name] += 1
        else:
            counts.latencies_ms.append((time.perf_counter() - due) * 1e3)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def run_load(load: Load) -> dict[str, Any]:
    """Make the calls, and return the outcome.

    - `seconds`: actual duration.
    - `cores`: CPU seconds of the service per second, or None if not measured.
    - `latencies_ms`: latency of each answered call.
    - `failures`: number of failed calls by status code.
    """
    caller = _Caller(load)
    await drive(load, caller.call, WARM_UP_S)
    caller.counts = _Counts()
    begin, cpu_before = time.perf_counter(), read_cpu_seconds(load.serving)
    await drive(load, caller.call, load.seconds)
    seconds, cpu_after = time.perf_counter() - begin, read_cpu_seconds(load.serving)
    cores = None
    if cpu_before is not None and cpu_after is not None:
        cores = (cpu_after - cpu_before) / seconds
    await caller.close()
    return {"seconds": seconds, "cores": cores, **vars(caller.counts)}


def main() -> None:
    """Run the load that is described on standard input, and print the outcome as JSON."""
    load = Load(**json.loads(sys.stdin.read()))
    sys.stdout.write(json.dumps(asyncio.run(run_load(load))))


if __name__ == "__main__":
    main()
