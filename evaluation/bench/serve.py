"""The benchmark `nextsong bench serve`: the service under load, compared with direct searches.

The service and its callers run in separate processes. Figures of different runs or machines cannot
be compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from catalog.errors import UnavailableError
from catalog.files import make_folder
from catalog.open_store import open_store
from catalog.server.options import CollectionLayout
from evaluation.bench.engine import measure_engine
from evaluation.bench.load import Load
from evaluation.bench.release import publish_synthetic
from evaluation.bench.results import Measurement, Result, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.server.options import QdrantOptions, Storage
    from catalog.store import ReleaseStore

SERVER_STOP_S = 30  # seconds to wait for the service to stop before it is killed
OPEN_LOADS = (0.25, 0.5, 0.8)  # rates of open loops, as shares of the rate of the closed loop


@dataclass(frozen=True)
class Plan:
    """The options of `nextsong bench serve`.

    - `sizes`: number of songs in each synthetic release.
    - `seeds`, `limit`: number of songs in a query and in a recommendation.
    - `callers`: number of callers in a closed loop (see `evaluation.bench.load`).
    - `workers`: number of serving processes.
    - `seconds`: duration of each measurement.
    - `rates`: calls per second of additional open loops.
    - `storage`: location of vectors on a Qdrant server.
    """

    sizes: Sequence[int] = (10_000, 100_000)
    seeds: int = 20
    limit: int = 10
    callers: int = 8
    workers: int = 1
    seconds: float = 5.0
    rates: Sequence[float] = ()
    storage: Storage = "memory"

    def load(self, songs: int) -> Load:
        """Return the load of a single caller on a release of `songs` songs."""
        return Load(songs=songs, seeds=self.seeds, limit=self.limit, seconds=self.seconds)


def run(plan: Plan, folder: Path, qdrant: QdrantOptions | None, reporter: Reporter) -> list[Result]:
    """Measure direct searches and the service with a synthetic release of each size.

    The releases are published in subfolders of `folder`, or on the Qdrant server, and are not
    removed.
    """
    results: list[Result] = []
    for songs in plan.sizes:
        home = make_folder(folder / f"bench-{songs}")
        store = open_store(home, qdrant, layout=CollectionLayout(storage=plan.storage))
        manifest = publish_synthetic(store, songs, home, reporter, plan.storage)
        if manifest.recall is not None:
            reporter.say(f"  {songs:,} songs: recall@10 of the index {manifest.recall:.4f}")
        # Qdrant Edge holds the global interpreter lock, so concurrent callers would only wait.
        results += _measure_engine(store, plan.load(songs), plan.callers if qdrant else 1)
        results += _measure_service(plan, home, qdrant, songs, reporter)
        store.close()
    return results


def _measure_engine(store: ReleaseStore, load: Load, callers: int) -> Iterator[Result]:
    release = store.open()
    try:
        for filtered in (False, True):
            for measurement in measure_engine(release, replace(load, filtered=filtered), callers):
                yield summarise(load.songs, measurement)
    finally:
        release.close()


def _measure_service(
    plan: Plan, home: Path, qdrant: QdrantOptions | None, songs: int, reporter: Reporter
) -> Iterator[Result]:
    with _run_service(home, qdrant, plan.workers) as (address, pid):
        single = replace(plan.load(songs), address=address, serving=pid)
        processes = 2 if plan.workers > 1 else 1

        def measure(where: str, name: str, **load: Any) -> Result:
            reporter.say(f"  {songs:,} songs: {where}, {name}")
            return summarise(songs, _measure_load(replace(single, **load), where, name, processes))

        closed = f"closed, {plan.callers}"
        yield measure("empty call", "closed, 1", empty=True)
        yield measure("empty call", closed, empty=True, callers=plan.callers)
        for filtered in (False, True):
            where = "service, filtered" if filtered else "service"
            full = measure(where, closed, callers=plan.callers, filtered=filtered)
            yield full
            yield measure(where, "single caller", filtered=filtered)
            for share in OPEN_LOADS:
                rate = share * full.answered_per_s
                yield measure(where, f"open, {share:.0%}", rate=rate, filtered=filtered)
        for rate in plan.rates:
            yield measure("service", f"open, {rate:g}/s", rate=rate)


def _measure_load(load: Load, where: str, name: str, processes: int) -> Measurement:
    """Divide a load among `processes` processes that make calls, and combine their outcomes."""
    shares = [
        replace(
            load,
            rate=load.rate / processes,
            callers=max(1, load.callers // processes),
            random_seed=number + 1,
        )
        for number in range(processes)
    ]
    with ThreadPoolExecutor(processes) as pool:
        outcomes = list(pool.map(_run_load_in_process, shares))
    cores = [outcome["cores"] for outcome in outcomes if outcome["cores"] is not None]
    failures: Counter[str] = Counter()
    for outcome in outcomes:
        failures.update(outcome["failures"])
    return Measurement(
        where,
        name,
        seconds=max(outcome["seconds"] for outcome in outcomes),
        latencies=[latency for outcome in outcomes for latency in outcome["latencies_ms"]],
        rate=load.rate,
        failures=failures,
        cpu=sum(cores) / len(cores) if cores else None,
    )


def _run_load_in_process(load: Load) -> dict[str, Any]:
    command = [sys.executable, "-m", "evaluation.bench.load"]
    done = subprocess.run(  # noqa: S603 -- our own module, no shell
        command, input=json.dumps(asdict(load)), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise UnavailableError("a process that calls the service failed: see its message above")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@contextmanager
def _run_service(
    home: Path, qdrant: QdrantOptions | None, workers: int
) -> Iterator[tuple[str, int]]:
    """Run the service in a new process, and yield its address and its process id."""
    command = [sys.executable, "-m", "cli.main", "serve", "--home", str(home)]
    command += ["--port", "0", "--log-level", "warning", "--drain", "0", "--workers", str(workers)]
    environment = dict(os.environ)
    if qdrant:
        command += ["--qdrant-url", ",".join(qdrant.urls), "--qdrant-prefix", qdrant.prefix]
        command += ["--qdrant-grpc-port", str(qdrant.grpc_port)] if qdrant.grpc_port else []
        command += ["--qdrant-ca", str(qdrant.ca)] if qdrant.ca else []
        environment["NEXTSONG_QDRANT_API_KEY"] = qdrant.api_key or ""
    with subprocess.Popen(  # noqa: S603 -- our own module, no shell
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
