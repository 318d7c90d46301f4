"""The results of `nextsong bench serve`: figures of each measurement, and ratios between them."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.console.tables import Console, Table
from catalog.console.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Measurement:
    """The outcome of one measurement, which lasted `seconds` seconds.

    - `where`: the name of the measurement, such as "service" or "engine, filtered".
    - `load`: the kind of load. "closed, 8" is a closed loop with 8 callers, and "open, 50%" an open
      loop with half as many calls per second (see `evaluation.bench.load`).
    - `latencies`: latency of each answered call, in milliseconds.
    - `rate`: calls per second in an open loop; 0 for a closed loop.
    - `failures`: number of failed calls by status code.
    - `cpu`: CPU seconds that all serving processes use per second.
    """

    where: str
    load: str
    seconds: float
    latencies: Sequence[float]
    rate: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)
    cpu: float | None = None


@dataclass(frozen=True)
class Result:
    """The figures of a measurement.

    - `songs`: number of songs in the release.
    - `where`, `load`, `failures`, `cpu`: as in `Measurement`.
    - `asked_per_s`, `answered_per_s`: numbers of calls made and of calls answered per second.
    - `p50` to `p999`: percentiles of the latency in milliseconds.
    """

    songs: int
    where: str
    load: str
    asked_per_s: float
    answered_per_s: float
    p50: float
    p90: float
    p99: float
    p999: float
    failures: dict[str, int]
    cpu: float | None


def summarise(songs: int, measurement: Measurement) -> Result:
    """Return the figures of a measurement; percentiles are NaN if no call was answered."""
    answered, failed = len(measurement.latencies), sum(measurement.failures.values())
    latencies = np.array(measurement.latencies if answered else [np.nan])
    p50, p90, p99, p999 = (float(value) for value in np.percentile(latencies, [50, 90, 99, 99.9]))
    return Result(
        songs=songs,
        where=measurement.where,
        load=measurement.load,
        asked_per_s=measurement.rate or (answered + failed) / measurement.seconds,
        answered_per_s=answered / measurement.seconds,
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        failures=dict(measurement.failures),
        cpu=measurement.cpu,
    )


def print_results(results: Sequence[Result]) -> None:
    """Print a table of the results, and compare the service with direct searches."""
    table = Table()
    for name in ("songs", "what answers", "load"):
        table.add_column(name, justify="right" if name == "songs" else "left")
    for name in ("asked/s", "answered/s", "p50 ms", "p90", "p99", "p99.9", "failed", "CPU"):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(
            f"{result.songs:,}",
            result.where,
            result.load,
            f"{result.asked_per_s:,.0f}",
            f"{result.answered_per_s:,.0f}",
            *(f"{value:.2f}" for value in (result.p50, result.p90, result.p99, result.p999)),
            ", ".join(f"{count:,} {code}" for code, count in result.failures.items()) or "0",
            "" if result.cpu is None else f"{result.cpu:.2f}",
        )
    Console().print(table)
    for line in describe_ratios(results):
        echo(line)


def describe_ratios(results: Sequence[Result]) -> Iterator[str]:
    """Yield lines that compare the service with direct searches, for each size of the release."""
    for songs in dict.fromkeys(result.songs for result in results):
        of_size = [result for result in results if result.songs == songs]
        for kind in ("", ", filtered"):
            service = _find_fastest(of_size, f"service{kind}", "closed")
            engine = _find_fastest(of_size, f"engine{kind}", "closed")
            if engine and service:
                yield (
                    f"{songs:,} songs{kind}: the service answers "
                    f"{service.answered_per_s / engine.answered_per_s:.2f} times as many calls "
                    f"per second as the engine called directly"
                )
            service = _find_fastest(of_size, f"service{kind}", "open, 50%")
            engine = _find_fastest(of_size, f"engine{kind}", "open, 50%")
            if engine and service:
                yield (
                    f"{songs:,} songs{kind}: at half load, the p99 of the service differs from "
                    f"the p99 of the engine by {service.p99 - engine.p99:+.1f} ms"
                )


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return all results and a description of the machine as a JSON object."""
    machine = {"cpus": os.cpu_count(), "python": sys.version.split()[0], "at": int(time.time())}
    return {"machine": machine, "results": [asdict(result) for result in results]}


def _find_fastest(results: Sequence[Result], where: str, load: str) -> Result | None:
    """Return the result of `where` with the most answered calls per second, or None.

    Only results whose load begins with the text `load` are considered.
    """
    matching = [
        result for result in results if result.where == where and result.load.startswith(load)
    ]
    return max(matching, key=lambda result: result.answered_per_s, default=None)
