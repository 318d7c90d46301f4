"""The engine called directly, in this process: what the service is measured beside.

`engine` are the searches of a call alone, as the service asks them; `ranking` is all that a call
does but for gRPC.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation.bench.load import Load, due_times, requests_of
from service.api import validation as parsing
from service.operate.process import freeze_garbage_collector
from service.recommend.engine import recommend_many

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from catalog.model import Hit, Search
    from catalog.store import OpenRelease

AT_LOAD = 0.5
"""The open loop runs at this share of what the closed loop reached."""


@dataclass(frozen=True)
class Measured:
    """Latencies in milliseconds of what was asked within `seconds`; `rate` 0: a closed loop."""

    where: str
    load: str
    seconds: float
    latencies: list[float]
    rate: float = 0.0


def measured(release: OpenRelease, load: Load, callers: int) -> Iterator[Measured]:
    """The engine and the ranking, in closed loops of one and of `callers`, and half loaded."""
    with freeze_garbage_collector():  # as the service does
        for where, whole in (("engine", False), ("ranking", True)):
            name = where + (", filtered" if load.filtered else "")
            yield from asyncio.run(_measured(release, load, callers, name, whole))


async def _measured(
    release: OpenRelease, load: Load, callers: int, where: str, whole: bool
) -> list[Measured]:
    ask = await _question(release, load, whole)
    found = []
    for number in sorted({1, callers}):
        closed = await _closed_loop(ask, number, load.seconds)
        found.append(Measured(where, f"closed, {number}", load.seconds, closed))
    rate = AT_LOAD * max(len(one.latencies) for one in found) / load.seconds
    latencies = await _open_loop(ask, rate, load)
    found.append(Measured(where, f"open, {AT_LOAD:.0%}", load.seconds, latencies, rate))
    return found


async def _question(
    release: OpenRelease, load: Load, whole: bool
) -> Callable[[int], Awaitable[Any]]:
    """What is asked at a place in a row of different questions."""
    payload = release.manifest.payload
    asks = [
        await parsing.parse_query(one, await parsing.parse_seeds(one.seeds), payload)
        for one in requests_of(load)
    ]
    if whole:
        return lambda number: recommend_many(release, [asks[number % len(asks)]])
    searches = []

    class Noting:
        """The release, noting what is searched for."""

        manifest = release.manifest
        points = staticmethod(release.points)
        popular = staticmethod(release.popular)

        @staticmethod
        async def find(wanted: Sequence[Search]) -> list[list[Hit]]:
            searches.append(wanted)
            return await release.find(wanted)

    for ask in asks:
        await recommend_many(Noting, [ask])  # type: ignore[arg-type]
    own = [[seed.song_id for seed in ask.seeds if seed.song_id] for ask in asks]

    async def search(number: int) -> None:
        place = number % len(asks)
        await release.points(own[place])
        await release.find(searches[place])

    return search


async def _closed_loop(
    ask: Callable[[int], Awaitable[Any]], callers: int, seconds: float
) -> list[float]:
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        while (begin := time.perf_counter()) < end:
            await ask(number)
            latencies.append((time.perf_counter() - begin) * 1e3)
            number += callers

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return latencies


async def _open_loop(ask: Callable[[int], Awaitable[Any]], rate: float, load: Load) -> list[float]:
    latencies: list[float] = []

    async def call(number: int, due: float) -> None:
        await ask(number)
        latencies.append((time.perf_counter() - due) * 1e3)

    under_way = set[asyncio.Task[None]]()
    for number, due in enumerate(due_times(rate, load.seconds, load.random)):
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(call(number, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return latencies
