"""gRPC servers that run in the event loop of a separate thread, and calls to them."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry

from catalog.errors import NextsongError
from nextsong.v1 import recommender_pb2 as pb
from service.operate.metrics import Metrics
from service.rpc.server import Server
from service.settings import Settings
from tests.support.fakes import FakeRelease, points_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from concurrent.futures import Future

    from catalog.embedded.store import EmbeddedStore
    from catalog.model import Hit, Point, Search
    from catalog.store import ReleaseStore
    from service.client.client import Client
    from service.history import History
    from service.operate.tracing import Tracer

PATIENCE_S = 20.0
NOBODY = "00000000-0000-0000-0000-000000000001"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

POINTS = points_of(("ABBA", "Waterloo", 2, (1, 0)), ("ABBA", "Fernando", 1, (0, 1)))
WATERLOO = pb.RecommendRequest(seeds=[pb.Seed(artist="ABBA", title="Waterloo")])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds. Fail after `PATIENCE_S` seconds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.01)


def build_server(
    store: ReleaseStore,
    *,
    metrics: Metrics | None = None,
    tracer: Tracer | None = None,
    history: History | None = None,
    **settings: Any,
) -> Server:
    """Return a server on a free port. It checks for new releases often and stops quickly."""
    chosen = {"port": 0, "look_every": 0.02, "drain": 0, "grace": 0.5} | settings
    return Server(
        store, Settings(**chosen), metrics or Metrics(CollectorRegistry()), tracer, history
    )


class Loop:
    """An event loop in a separate thread. All asynchronous gRPC objects in a process share it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._loop.run_forever)
        self.thread.start()

    def start(self, task: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(task, self._loop)

    def run(self, task: Coroutine[Any, Any, Any]) -> Any:
        return self.start(task).result(PATIENCE_S)

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.thread.join(PATIENCE_S)
        self._loop.close()

    @contextmanager
    def serve(self, store: ReleaseStore, **settings: Any) -> Iterator[Server]:
        """Run a server, and stop it at the end."""
        server = self.run(self._start_server(store, settings))
        try:
            yield server
        finally:
            self.run(server.stop())

    async def _start_server(self, store: ReleaseStore, settings: dict[str, Any]) -> Server:
        server = build_server(store, **settings)
        await server.start()
        return server


def damage(store: EmbeddedStore, release: str) -> None:
    """Flip one bit of the largest file of a release."""
    files = (store.path / "releases" / release / "shard").rglob("*")
    largest = max((file for file in files if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.unlink()  # it may be a hard link of a file that tests share
    largest.write_bytes(content)


class SlowRelease(FakeRelease):
    """A release that does not answer searches until `may_answer` is set."""

    def __init__(self, points: list[Point], name: str = "slow") -> None:
        super().__init__(points, name=name)
        self.was_searched = threading.Event()
        self.may_answer = threading.Event()

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        self.was_searched.set()
        while not self.may_answer.is_set():
            await asyncio.sleep(0.005)
        return await super().find(searches)


class Call(threading.Thread):
    """A call to `Recommend` in a thread. Sets `answer` or `failure` when the call ends."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.answer: pb.RecommendResponse | None = None
        self.failure: NextsongError | None = None
        self._client = client
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._client.recommend(WATERLOO)
        except NextsongError as error:
            self.failure = error
