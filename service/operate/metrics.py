"""What Prometheus is told of the service."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import prometheus_client as prometheus
from prometheus_client import values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from catalog.errors import BusyError
from catalog.files import storage_errors
from nextsong.v1 import recommender_pb2 as pb
from service.operate.logs import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from google.protobuf.message import Message

    from service.operate.timing import Spans

ROOM = 1 << 20
"""Bytes of one file of metrics, of which a process fills a few thousand."""

LIVE = "gauge_livesum"

LONGEST_RELEASE = 256
"""Bytes of the file that names a release."""

_BUCKETS = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1, 5]


class Metrics:
    """The service's metrics in `registry`.

    After `share`, each process writes into files of its place in the family, its release into
    `release_file`, and what is in a registry is not asked for.
    """

    def __init__(
        self, registry: prometheus.CollectorRegistry, release_file: Path | None = None
    ) -> None:
        def made(kind: Callable[..., Any], name: str, text: str, *labels: str, **more: Any) -> Any:
            return kind(f"nextsong_{name}", text, labels, registry=registry, **more)

        counter, histogram, gauge = prometheus.Counter, prometheus.Histogram, prometheus.Gauge
        self._calls = made(counter, "calls", "Calls by outcome.", "method", "code")
        self._seconds = made(
            histogram, "call_seconds", "How long calls took.", "method", buckets=_BUCKETS
        )
        self._stages = made(
            histogram, "stage_seconds", "How long stages took.", "stage", buckets=_BUCKETS
        )
        self._answers = made(
            counter, "answers", "Playlists by what answered: a fall-back, or not.", "strategy"
        )
        self._seeds = made(counter, "seeds", "Seeds by how they were understood.", "resolution")
        self._empty = made(counter, "empty_answers", "Answers without a song.", "reason")
        self._unauthenticated = made(
            counter, "unauthenticated_calls", "Calls without a key that is known."
        )
        self._engine_errors = made(counter, "engine_errors", "Failures of Qdrant.")
        self._under_way = made(
            gauge, "calls_under_way", "Calls under way.", multiprocess_mode="livesum"
        )
        self._release: str | None = None
        self._release_file = release_file
        registry.register(ReleasesInUse(lambda: [self._release] if self._release else []))
        self._refused = made(counter, "refused_releases", "New releases that could not be opened.")

    def begun(self) -> None:
        """A call has begun."""
        self._under_way.inc()

    def ended(self, method: str, code: str, seconds: float, spans: Spans) -> None:
        """It has ended."""
        self._under_way.dec()
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)
        for name, begin, end in spans:
            self._stages.labels(name).observe((end - begin) / 1e9)

    def answered(self, response: Message) -> None:
        """An answer was found; what it says of seeds and fall-backs is counted."""
        for one in _recommendations(response):
            self._answers.labels(pb.Strategy.Name(one.strategy)).inc()
            kinds = [seed.resolution for seed in one.seeds]
            for kind in set(kinds):
                self._seeds.labels(pb.Resolution.Name(kind)).inc(kinds.count(kind))
            if one.empty_reason:
                self._empty.labels(pb.EmptyReason.Name(one.empty_reason)).inc()

    def unauthenticated(self) -> None:
        """Count a call that was refused for its key; it counts nowhere else."""
        self._unauthenticated.inc()

    def engine_failed(self) -> None:
        """Qdrant failed, or could not be reached."""
        self._engine_errors.inc()

    def release_changed(self, new: str | None) -> None:
        """Another release answers now, or none."""
        self._release = new
        if self._release_file:
            try:
                with self._release_file.open("r+b") as file:
                    file.write((new or "").encode().ljust(LONGEST_RELEASE, b"\0"))
            except OSError as error:
                log.warning("the metrics do not say which release is in use", reason=str(error))

    def release_refused(self) -> None:
        """A new release could not be opened."""
        self._refused.inc()


class ReleasesInUse(Collector):
    """How many processes answer from each release that `releases` lists, once for each process.

    There is no series of a release that no process answers from any more.
    """

    def __init__(self, releases: Callable[[], Sequence[str]]) -> None:
        self._releases = releases

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The one metric."""
        family = GaugeMetricFamily(
            "nextsong_release_in_use",
            "How many processes answer from a release.",
            labels=["release"],
        )
        for release, processes in Counter(self._releases()).items():
            family.add_metric([release], processes)
        yield family


def release_file(folder: Path, place: int) -> Path:
    """The file that says from which release the process of a place answers."""
    return folder / f"release_{place}"


def releases_in(folder: Path) -> list[str]:
    """The releases that the processes of a family answer from."""
    files = (path.read_bytes() for path in sorted(folder.glob("release_*")))
    return [release.decode() for content in files if (release := content.rstrip(b"\0"))]


def reserve(folder: Path, place: int) -> None:
    """Make the files of one place in a family of processes; counts that are there go on.

    The library maps them into memory. They have all their room from the start: a process that
    writes into a file for which the disk has none left is killed. Raises `StorageError`.
    """
    live, release = folder / f"{LIVE}_{place}.db", release_file(folder, place)
    lasting = [folder / f"{kind}_{place}.db" for kind in ("counter", "histogram")]
    for path in (*lasting, live, release):
        room = LONGEST_RELEASE if path == release else ROOM
        with storage_errors(path), path.open("r+b" if path.exists() else "w+b") as file:
            os.posix_fallocate(file.fileno(), 0, room)
            if path in {live, release}:  # what a dead process was doing is over
                file.write(bytes(room))


def share(place: int) -> None:
    """Write the metrics that are made from now on into the files of this place."""
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def _recommendations(response: Message) -> Iterable[pb.RecommendResponse]:
    if isinstance(response, pb.RecommendResponse):
        return [response]
    return response.responses if isinstance(response, pb.BatchRecommendResponse) else []


def endpoint(host: str, port: int, registry: prometheus.CollectorRegistry) -> Any:
    """Answer HTTP with what `registry` holds, in a thread; `server_port` and `shutdown()` are its.

    Raises `BusyError`.
    """
    try:
        server, _thread = prometheus.start_http_server(port, host, registry)
    except OSError as error:
        raise BusyError(
            f"cannot serve metrics on {host}:{port} ({error.strerror}): choose another with "
            f"--metrics-port or --metrics-host"
        ) from error
    return server
