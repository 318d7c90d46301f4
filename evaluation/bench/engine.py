"""Measurements in this process, without gRPC, as a reference for the service.

The measurement `engine` sends only the searches of each query to Qdrant. The measurement `ranking`
computes whole recommendations.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evaluation.bench.load import Load, create_requests, drive
from evaluation.bench.results import Measurement
from service.api import validation as parsing
from service.operate.process import freeze_garbage_collector
from service.recommend.engine import recommend_many

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from catalog.model import Hit, Search
    from catalog.store import OpenRelease

    Call = Callable[[int], Awaitable[Any]]

OPEN_LOAD = 0.5  # rate of calls in the open loop, as a share of the rate in the closed loop


def measure_engine(release: OpenRelease, load: Load, callers: int) -> Iterator[Measurement]:
    """Measure searches (`engine`) and whole recommendations (`ranking`) under several loads.

    The loads are a closed loop with one caller, a closed loop with `callers` callers, and an open
    loop (see `evaluation.bench.load`).
    """
    with freeze_garbage_collector():  # as the service does
        for where, whole in (("engine", False), ("ranking", True)):
            name = where + (", filtered" if load.filtered else "")
            yield from asyncio.run(_measure(release, load, callers, name, whole))


async def _measure(
    release: OpenRelease, load: Load, callers: int, where: str, whole: bool
) -> list[Measurement]:
    call = await _prepare_call(release, load, whole)
    measurements = []
    for number in sorted({1, callers}):
        latencies = await _time_calls(call, replace(load, callers=number))
        measurements.append(Measurement(where, f"closed, {number}", load.seconds, latencies))
    most = max(len(measurement.latencies) for measurement in measurements)
    rate = OPEN_LOAD * most / load.seconds
    latencies = await _time_calls(call, replace(load, rate=rate))
    name = f"open, {OPEN_LOAD:.0%}"
    return [*measurements, Measurement(where, name, load.seconds, latencies, rate)]


async def _time_calls(call: Call, load: Load) -> list[float]:
    """Make the calls of a load, and return their latencies in milliseconds."""
    latencies: list[float] = []

    async def time_call(number: int, due: float) -> None:
        await call(number)
        latencies.append((time.perf_counter() - due) * 1e3)

    await drive(load, time_call, load.seconds)
    return latencies


async def _prepare_call(release: OpenRelease, load: Load, whole: bool) -> Call:
    """Return a function that makes one call. Its argument is the number of the call.

    The number selects one of the requests of the load. If `whole` is False, the function makes only
    the searches for the request, instead of a whole recommendation.
    """
    payload = release.manifest.payload
    queries = [
        await parsing.parse_query(request, await parsing.parse_seeds(request.seeds), payload)
        for request in create_requests(load)
    ]
    if whole:
        return lambda number: recommend_many(release, [queries[number % len(queries)]])
    searches = []

    class Recorder:
        """A stand-in for `release` that records the searches of each query."""

        manifest = release.manifest
        points = staticmethod(release.points)
        popular = staticmethod(release.popular)

        @staticmethod
        async def find(wanted: Sequence[Search]) -> list[list[Hit]]:
            searches.append(wanted)
            return await release.find(wanted)

    for query in queries:
        await recommend_many(Recorder, [query])  # type: ignore[arg-type]
    seeds = [[seed.song_id for seed in query.seeds if seed.song_id] for query in queries]

    async def search(number: int) -> None:
        index = number % len(queries)
        await release.points(seeds[index])
        await release.find(searches[index])

    return search
