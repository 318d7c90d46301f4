"""One calling process of `nextsong bench serve`: `python -m evaluation.bench.load`.

Standard input is a `Load` as JSON, standard output what came of it. With a rate, calls begin when
their time has come, however many are under way (open loop), and their time counts from then: a slow
server cannot hide behind callers that wait. Without one, each caller asks again as soon as it is
answered (closed loop).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from evaluation.bench.release import song_of
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

DIFFERENT = 500
"""So many different requests are made beforehand."""

LATEST_YEAR = 1990
TIMEOUT_S = 30.0
WARM_UP_S = 0.5


@dataclass(frozen=True)
class Load:
    """What to ask, how often and for how long. `rate` 0: closed loop of `callers`.

    `serving` is the process that answers, whose time is taken meanwhile; 0: none.
    """

    address: str
    songs: int
    seeds: int
    limit: int
    filtered: bool
    empty: bool
    callers: int
    rate: float
    seconds: float
    random: int
    serving: int = 0


def cpu_seconds(pid: int) -> float | None:
    """What a process and its children have used; None where the system does not tell."""
    proc = Path("/proc")
    try:
        children = (proc / str(pid) / "task" / str(pid) / "children").read_text().split()
        ticks = 0
        for one in [str(pid), *children]:
            fields = (proc / one / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    except OSError:
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def due_times(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """When calls begin that come by chance, `rate` of them a second, from now on."""
    begin = time.perf_counter()
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    yield from (begin + np.cumsum(gaps)).tolist()


def requests_of(load: Load) -> list[pb.RecommendRequest]:
    """Playlists of invented songs, popular ones more often; `filtered`: with three conditions."""
    random = np.random.default_rng(load.random)
    requests = []
    for _ in range(DIFFERENT):
        places = (load.songs * random.random(load.seeds) ** 3).astype(int)
        where = None
        if load.filtered:
            where = pb.Filter(
                exclude_artists=[f"Artist {places[0] // 10}"],
                max_playlists=int(load.songs * 0.9),
                conditions=[pb.Condition(field="year", minimum=LATEST_YEAR)],
            )
        seeds = [pb.Seed(song_id=str(song_of(int(place)))) for place in places]
        requests.append(pb.RecommendRequest(seeds=seeds, limit=load.limit, filter=where))
    return requests


class _Counts:
    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.failures: dict[str, int] = {}


async def _run(load: Load) -> dict[str, Any]:
    requests = requests_of(load)
    # Several connections: with several serving processes, each is dealt to one of them.
    channels = [
        grpc.aio.insecure_channel(load.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(4)
    ]
    stubs = [recommender_pb2_grpc.RecommenderStub(channel) for channel in channels]

    async def call(number: int, counts: _Counts, due: float) -> None:
        stub = stubs[number % len(stubs)]
        try:
            if load.empty:
                await stub.GetRelease(pb.GetReleaseRequest(), timeout=TIMEOUT_S)
            else:
                await stub.Recommend(requests[number % DIFFERENT], timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            name = error.code().name
            counts.failures[name] = counts.failures.get(name, 0) + 1
        else:
            counts.latencies_ms.append((time.perf_counter() - due) * 1e3)

    drive = _open_loop if load.rate else _closed_loop
    await drive(load, call, _Counts(), WARM_UP_S)
    counts = _Counts()
    begin, before = time.perf_counter(), cpu_seconds(load.serving)
    await drive(load, call, counts, load.seconds)
    seconds, after = time.perf_counter() - begin, cpu_seconds(load.serving)
    cores = None if before is None or after is None else (after - before) / seconds
    for channel in channels:
        await channel.close()
    return {"seconds": seconds, "cores": cores, **vars(counts)}


async def _closed_loop(load: Load, call: Any, counts: _Counts, seconds: float) -> None:
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        while (now := time.perf_counter()) < end:
            await call(number, counts, now)
            number += load.callers

    await asyncio.gather(*(caller(number) for number in range(load.callers)))


async def _open_loop(load: Load, call: Any, counts: _Counts, seconds: float) -> None:
    under_way = set()
    for number, due in enumerate(due_times(load.rate, seconds, load.random)):
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(call(number, counts, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


def main() -> None:
    """Run the load that standard input tells."""
    load = Load(**json.loads(sys.stdin.read()))
    sys.stdout.write(json.dumps({"load": asdict(load), **asyncio.run(_run(load))}))


if __name__ == "__main__":
    main()
