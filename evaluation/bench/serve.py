"""`nextsong bench serve`: what the service does under load, beside its engine called directly.

The service and its callers are processes of their own. Ratios are of one run on one machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import UnavailableError
from catalog.files import make_folder, write_atomically
from catalog.open_store import open_store
from catalog.server.options import CollectionLayout
from catalog.tables import Console, Table
from catalog.terminal import echo, json_text
from evaluation.bench import engine as bench_engine
from evaluation.bench import release as bench_release
from evaluation.bench.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from catalog.progress import Reporter
    from catalog.server.options import QdrantOptions, Storage
    from catalog.store import ReleaseStore

SERVER_STOP_S = 30
AT_LOADS = (0.25, 0.5, 0.8)
"""Open loops run at these shares of what the closed loop reached."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    sizes: Sequence[int] = (10_000, 100_000)
    seeds: int = 20
    limit: int = 10
    callers: int = 8
    workers: int = 1
    seconds: float = 5.0
    rates: Sequence[float] = ()
    storage: Storage = "memory"


@dataclass(frozen=True)
class Result:
    """One measurement. Latencies in milliseconds; `cpu` of all serving processes, in cores."""

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


def run(plan: Plan, folder: Path, qdrant: QdrantOptions | None, reporter: Reporter) -> list[Result]:
    """Measure; releases are made below `folder`, or on the Qdrant server, and kept."""
    results: list[Result] = []
    for songs in plan.sizes:
        place = make_folder(folder / f"bench-{songs}")
        home = open_store(place, qdrant, layout=CollectionLayout(storage=plan.storage))
        manifest = bench_release.published(home, songs, place, reporter, plan.storage)
        if manifest.recall is not None:
            reporter.say(f"  {songs:,} songs: recall@10 of the index {manifest.recall:.4f}")
        # The embedded engine holds the interpreter: beside one caller there is room for no other.
        results += _directly(plan, home, songs, plan.callers if qdrant else 1)
        for one in _served(plan, place, qdrant, songs, reporter):
            results.append(one)
        home.close()
    return results


def show(results: Sequence[Result]) -> None:
    """Print a table, and how the service does beside its engine."""
    table = Table()
    for name in ("songs", "what answers", "load"):
        table.add_column(name, justify="right" if name == "songs" else "left")
    for name in ("asked/s", "answered/s", "p50 ms", "p90", "p99", "p99.9", "failed", "CPU"):
        table.add_column(name, justify="right")
    for one in results:
        table.add_row(
            f"{one.songs:,}",
            one.where,
            one.load,
            f"{one.asked_per_s:,.0f}",
            f"{one.answered_per_s:,.0f}",
            *(f"{value:.2f}" for value in (one.p50, one.p90, one.p99, one.p999)),
            ", ".join(f"{count:,} {code}" for code, count in one.failures.items()) or "0",
            "" if one.cpu is None else f"{one.cpu:.2f}",
        )
    Console().print(table)
    for line in ratios(results):
        echo(line)


def ratios(results: Sequence[Result]) -> Iterator[str]:
    """How the service does beside the engine called directly, for each size."""
    for songs in dict.fromkeys(one.songs for one in results):
        of_size = [one for one in results if one.songs == songs]
        for kind in ("", ", filtered"):
            service = _best(of_size, f"service{kind}", "closed")
            engine = _best(of_size, f"engine{kind}", "closed")
            if engine and service:
                yield (
                    f"{songs:,} songs{kind}: the service answers "
                    f"{service.answered_per_s / engine.answered_per_s:.2f} times as many as the "
                    f"engine called directly"
                )
            half = _best(of_size, f"service{kind}", "open, 50%")
            beside = _best(of_size, f"engine{kind}", "open, 50%")
            if beside and half:
                yield (
                    f"{songs:,} songs{kind}: p99 of the half loaded service is "
                    f"{half.p99 - beside.p99:+.1f} ms beside that of the half loaded engine"
                )


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """All results, with what is known of the machine."""
    about = {"cpus": os.cpu_count(), "python": sys.version.split()[0], "at": int(time.time())}
    return {"machine": about, "results": [asdict(one) for one in results]}


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write the results as JSON. Raises `StorageError`."""
    write_atomically(path, json_text(to_json(results), indent=2) + "\n")


def _best(results: Sequence[Result], where: str, load: str) -> Result | None:
    """Of the loads that begin so, the one with the most answers."""
    found = [one for one in results if one.where == where and one.load.startswith(load)]
    return max(found, key=lambda one: one.answered_per_s, default=None)


def _directly(plan: Plan, home: ReleaseStore, songs: int, callers: int) -> Iterator[Result]:
    """The engine in this process: the searches of a call alone, and all that a call does."""
    release = home.open()
    try:
        for filtered in (False, True):
            load = Load("", songs, plan.seeds, plan.limit, filtered, False, 1, 0, plan.seconds, 1)
            for one in bench_engine.measured(release, load, callers):
                yield _result(songs, one.where, one.load, one.seconds, one.latencies, one.rate)
    finally:
        release.close()


def _served(
    plan: Plan, place: Path, qdrant: QdrantOptions | None, songs: int, reporter: Reporter
) -> Iterator[Result]:
    with _service(place, qdrant, plan.workers) as (address, pid):

        def measured(
            where: str, name: str, *, callers: int = 1, rate: float = 0, filtered: bool = False
        ) -> Result:
            empty = where == "empty call"
            load = Load(
                *(address, songs, plan.seeds, plan.limit, filtered, empty, callers, rate),
                *(plan.seconds, 1),
            )
            reporter.say(f"  {songs:,} songs: {where}, {name}")
            return _under(load, where, name, pid, processes=2 if plan.workers > 1 else 1)

        yield measured("empty call", "closed, 1")
        yield measured("empty call", f"closed, {plan.callers}", callers=plan.callers)
        for filtered in (False, True):
            where = "service, filtered" if filtered else "service"
            most = measured(
                where, f"closed, {plan.callers}", callers=plan.callers, filtered=filtered
            )
            yield most
            yield measured(where, "single caller", filtered=filtered)
            for share in AT_LOADS:
                rate = share * most.answered_per_s
                yield measured(where, f"open, {share:.0%}", rate=rate, filtered=filtered)
        for rate in plan.rates:
            yield measured("service", f"open, {rate:g}/s", rate=rate)


def _under(load: Load, where: str, name: str, pid: int, processes: int) -> Result:
    """What several calling processes that share a load get."""
    command = [sys.executable, "-m", "evaluation.bench.load"]
    callers = []
    for number in range(processes):
        share = asdict(load) | {
            "rate": load.rate / processes,
            "callers": max(1, load.callers // processes),
            "random": number + 1,
            "serving": pid,
        }
        caller = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert caller.stdin is not None
        caller.stdin.write(json.dumps(share))
        caller.stdin.close()
        caller.stdin = None
        callers.append(caller)
    outcomes = []
    for caller in callers:
        told, _ = caller.communicate()
        if caller.returncode != 0:
            raise UnavailableError("a calling process failed: see its message above")
        outcomes.append(json.loads(told))
    cores = [outcome["cores"] for outcome in outcomes if outcome["cores"] is not None]
    cpu = sum(cores) / len(cores) if cores else None
    failures: dict[str, int] = {}
    for outcome in outcomes:
        for code, count in outcome["failures"].items():
            failures[code] = failures.get(code, 0) + count
    latencies = [one for outcome in outcomes for one in outcome["latencies_ms"]]
    seconds = max(outcome["seconds"] for outcome in outcomes)
    return _result(load.songs, where, name, seconds, latencies, load.rate, failures, cpu)


def _result(
    songs: int,
    where: str,
    load: str,
    seconds: float,
    latencies: Sequence[float],
    rate: float = 0.0,
    failures: dict[str, int] | None = None,
    cpu: float | None = None,
) -> Result:
    known = np.array(latencies if len(latencies) else [np.nan])
    p50, p90, p99, p999 = (float(one) for one in np.percentile(known, [50, 90, 99, 99.9]))
    failed = failures or {}
    asked = rate or (len(latencies) + sum(failed.values())) / seconds
    answered = len(latencies) / seconds
    return Result(songs, where, load, asked, answered, p50, p90, p99, p999, failed, cpu)


@contextmanager
def _service(place: Path, qdrant: QdrantOptions | None, workers: int) -> Iterator[tuple[str, int]]:
    """A service in processes of its own; yields its address and process id."""
    command = [sys.executable, "-m", "cli.main", "serve", "--home", str(place)]
    command += ["--port", "0", "--log-level", "warning", "--drain", "0", "--workers", str(workers)]
    environment = dict(os.environ)
    if qdrant:
        command += ["--qdrant-url", ",".join(qdrant.urls), "--qdrant-prefix", qdrant.prefix]
        command += ["--qdrant-grpc-port", str(qdrant.grpc_port)] if qdrant.grpc_port else []
        command += ["--qdrant-ca", str(qdrant.ca)] if qdrant.ca else []
        environment["NEXTSONG_QDRANT_API_KEY"] = qdrant.api_key or ""
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline().strip()
            if not line:
                raise UnavailableError("the service did not start: see its message above")
            yield line.rsplit(" ", 1)[-1], server.pid
        finally:
            server.terminate()
            try:
                server.wait(SERVER_STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
