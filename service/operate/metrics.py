"""The Prometheus metrics of the service, in one process or in several.

Several processes use the multiprocess mode of prometheus_client: if `PROMETHEUS_MULTIPROC_DIR` is
set, each process writes its metrics into files of that folder. The parent process serves the sums.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import prometheus_client as prometheus
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from catalog.errors import BusyError
from catalog.files import storage_errors
from nextsong.v1 import recommender_pb2 as pb
from service.operate.logs import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from google.protobuf.message import Message
    from prometheus_client.metrics_core import Metric

    from service.operate.timing import Timings

METRICS_FILE_SIZE = 1 << 20
"""Size in bytes of each metrics file. A process uses a few thousand of these bytes."""

RELEASE_FILE_SIZE = 256
"""Size in bytes of the file that holds the id of the release that a process uses."""

# The metrics files of a process. When the process is replaced, the new process continues the kept
# files, so that no counter decreases, and the other files are cleared.
_KEPT_FILES = ("counter_{pid}.db", "histogram_{pid}.db")
_RELEASE_FILE = "release_{pid}"
_CLEARED_FILES = ("gauge_livesum_{pid}.db", _RELEASE_FILE)

_BUCKETS = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1, 5]
"""Upper bounds of the buckets of the time histograms, in seconds."""


class Metrics:
    """The metrics of this process, in `registry`.

    If several processes serve, each process writes the id of its release to a file in `folder`.
    """

    def __init__(self, registry: prometheus.CollectorRegistry, folder: Path | None = None) -> None:
        def create(
            kind: Callable[..., Any], name: str, text: str, *labels: str, **options: Any
        ) -> Any:
            return kind(f"nextsong_{name}", text, labels, registry=registry, **options)

        counter, histogram, gauge = prometheus.Counter, prometheus.Histogram, prometheus.Gauge
        self._calls = create(counter, "calls", "Calls by outcome.", "method", "code")
        self._seconds = create(
            histogram, "call_seconds", "Time of calls.", "method", buckets=_BUCKETS
        )
        self._stages = create(
            histogram, "stage_seconds", "Time of stages of calls.", "stage", buckets=_BUCKETS
        )
        self._answers = create(
            counter, "answers", "Answered playlists by strategy, fallbacks included.", "strategy"
        )
        self._seeds = create(counter, "seeds", "Seeds by how they were resolved.", "resolution")
        self._empty = create(counter, "empty_answers", "Answers without a song.", "reason")
        self._unauthenticated = create(
            counter, "unauthenticated_calls", "Calls without a known key."
        )
        self._engine_errors = create(counter, "engine_errors", "Failures of Qdrant.")
        self._under_way = create(
            gauge, "calls_under_way", "Calls under way.", multiprocess_mode="livesum"
        )
        self._refused = create(
            counter, "refused_releases", "New releases that could not be opened."
        )
        self._release: str | None = None
        self._release_file = _build_path(folder, _RELEASE_FILE, os.getpid()) if folder else None
        registry.register(ReleasesInUse(lambda: [self._release] if self._release else []))

    def begin_call(self) -> None:
        """Increment the number of calls in progress."""
        self._under_way.inc()

    def end_call(self, method: str, code: str, seconds: float, timings: Timings) -> None:
        """Count a call of `method` that ended with the status `code`, and record its times.

        `seconds` is the duration of the call.
        """
        self._under_way.dec()
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)
        for name, begin, end in timings.spans:
            self._stages.labels(name).observe((end - begin) / 1e9)

    def count_answers(self, response: Message) -> None:
        """Count the strategy, seeds and empty reason of each recommendation in a response."""
        for recommendation in _list_recommendations(response):
            self._answers.labels(pb.Strategy.Name(recommendation.strategy)).inc()
            resolutions = Counter(seed.resolution for seed in recommendation.seeds)
            for resolution, count in resolutions.items():
                self._seeds.labels(pb.Resolution.Name(resolution)).inc(count)
            if recommendation.empty_reason:
                self._empty.labels(pb.EmptyReason.Name(recommendation.empty_reason)).inc()

    def count_unauthenticated(self) -> None:
        """Count a call that was refused because of its key. No other metric counts it."""
        self._unauthenticated.inc()

    def count_engine_error(self) -> None:
        """Count a call for which Qdrant failed or could not be reached."""
        self._engine_errors.inc()

    def count_refused_release(self) -> None:
        """Count a new release that could not be opened."""
        self._refused.inc()

    def set_release(self, release_id: str | None) -> None:
        """Report the release that this process uses from now on, or None if it uses none."""
        self._release = release_id
        if self._release_file:
            try:
                with self._release_file.open("r+b") as file:
                    file.write((release_id or "").encode().ljust(RELEASE_FILE_SIZE, b"\0"))
            except OSError as error:
                log.warning("the metrics do not show the release in use", reason=str(error))


def _list_recommendations(response: Message) -> Iterable[pb.RecommendResponse]:
    if isinstance(response, pb.RecommendResponse):
        return [response]
    return response.responses if isinstance(response, pb.BatchRecommendResponse) else []


class ReleasesInUse(Collector):
    """The number of processes that use each release.

    `releases` returns, for each process, the id of the release that it uses. Releases that no
    process uses have no time series.
    """

    def __init__(self, releases: Callable[[], Sequence[str]]) -> None:
        self._releases = releases

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        family = GaugeMetricFamily(
            "nextsong_release_in_use", "Processes that answer from a release.", labels=["release"]
        )
        for release, processes in Counter(self._releases()).items():
            family.add_metric([release], processes)
        yield family


class FolderCollector(Collector):
    """The sum of the metrics that all processes write into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._releases = ReleasesInUse(partial(read_releases, folder))

    def collect(self) -> Iterator[Metric]:
        """Yield the summed metrics."""
        try:
            metrics = self._read()
        except FileNotFoundError:  # the files of a replaced process were renamed meanwhile
            metrics = self._read()
        yield from metrics

    def _read(self) -> list[Metric]:
        collector = MultiProcessCollector(None, str(self._folder))  # type: ignore[no-untyped-call]
        return [*collector.collect(), *self._releases.collect()]  # type: ignore[no-untyped-call]


def read_releases(folder: Path) -> list[str]:
    """Return, for each process that writes into `folder`, the id of the release that it uses."""
    contents = (path.read_bytes() for path in sorted(folder.glob(_RELEASE_FILE.format(pid="*"))))
    return [release.decode() for content in contents if (release := content.rstrip(b"\0"))]


def reserve_files(folder: Path, pid: int, predecessor: int | None = None) -> None:
    """Create the metrics files of the process with the id `pid`.

    If the process replaces another one, with the id `predecessor`, rename the files of that process
    instead, so that the counters continue. prometheus_client maps the files into memory, and the
    kernel kills a process that writes to a mapped page when the disk is full. Therefore, the files
    are allocated at their full size. Raises `StorageError`.
    """
    for name in (*_KEPT_FILES, *_CLEARED_FILES):
        path = _build_path(folder, name, pid)
        size = RELEASE_FILE_SIZE if name == _RELEASE_FILE else METRICS_FILE_SIZE
        with storage_errors(path):
            if predecessor is not None:
                _build_path(folder, name, predecessor).rename(path)
            else:
                with path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)


def clear_files(folder: Path, pid: int) -> None:
    """Clear the gauges and the release of a process that has ended, but keep its counters."""
    for name in _CLEARED_FILES:
        path = _build_path(folder, name, pid)
        with storage_errors(path), path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))


def _build_path(folder: Path, name: str, pid: int) -> Path:
    return folder / name.format(pid=pid)


@contextmanager
def serve_metrics(
    host: str, port: int | None, registry: prometheus.CollectorRegistry
) -> Iterator[int | None]:
    """Serve the metrics of `registry` over HTTP, and yield the port.

    If `port` is None, serve nothing and yield None. Raises `BusyError`.
    """
    if port is None:
        yield None
        return
    try:
        server, thread = prometheus.start_http_server(port, host, registry)
    except OSError as error:
        raise BusyError(
            f"cannot serve metrics on {host}:{port} ({error.strerror}): choose another with "
            f"--metrics-port or --metrics-host"
        ) from error
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
