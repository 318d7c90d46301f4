"""Qdrant servers for tests, and stores that use the in-memory emulation of `qdrant-client`.

The real server is the server at QDRANT_URL, else a process of the program NEXTSONG_QDRANT_BINARY,
else a container. If none of these is available, tests that need a server are skipped, and pytest's
summary shows the reason. If NEXTSONG_REQUIRE_SERVER is 1, these tests fail instead.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import time
import urllib.request
import warnings
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from qdrant_client import QdrantClient, models

from catalog.server.errors import MissingCollectionError, server_errors
from catalog.server.options import QdrantOptions, qdrant_options
from catalog.server.store import ServerStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

IMAGE = "qdrant/qdrant:v1.19.0"
START_S = 60.0
BINARY = os.environ.get("NEXTSONG_QDRANT_BINARY", "")


def without_server(reason: str) -> None:
    """Skip the test, or fail it if a server is required."""
    if os.environ.get("NEXTSONG_REQUIRE_SERVER") == "1":
        pytest.fail(f"NEXTSONG_REQUIRE_SERVER=1, but {reason}")
    pytest.skip(f"no Qdrant server: {reason}")


@contextmanager
def container() -> Iterator[str]:
    """Start a server in a container and yield its URL. Skip the test if this is not possible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from testcontainers.core.config import testcontainers_config
            from testcontainers.core.container import DockerContainer

            # The container is stopped below, so testcontainers' clean-up container is not needed.
            testcontainers_config.ryuk_disabled = True
            logging.getLogger("testcontainers").setLevel(logging.ERROR)
            started = DockerContainer(IMAGE).with_exposed_ports(6333, 6334)
            # In-memory folders make the tests faster.
            for folder in ("storage", "snapshots"):
                started.with_tmpfs_mount(f"/qdrant/{folder}")
            started.start()
    except Exception as error:  # noqa: BLE001 -- no engine, no image, no registry: each library its own errors
        first = (str(error).splitlines() or [type(error).__name__])[0]
        without_server(f"set QDRANT_URL or NEXTSONG_QDRANT_BINARY; a container failed: {first}")
    try:
        host = started.get_container_host_ip()
        rest, grpc = (int(started.get_exposed_port(port)) for port in (6333, 6334))
        await_ready(f"http://{host}:{rest}", grpc)
        yield f"http://{host}:{rest}#{grpc}"
    finally:
        started.stop()


def await_ready(url: str, grpc_port: int, alive: Callable[[], bool] = lambda: True) -> None:
    end = time.monotonic() + START_S
    host = urlsplit(url).hostname
    while time.monotonic() < end:
        assert alive(), f"the server at {url} ended"
        with (
            suppress(OSError),
            urllib.request.urlopen(f"{url}/readyz", timeout=2),
            socket.create_connection((host, grpc_port), timeout=2),
        ):
            return
        time.sleep(0.05)
    pytest.fail(f"the server at {url} did not become ready in time")


def free_port(*, pair: bool = False) -> int:
    """Return a free port. If `pair` is set, the next port is also free."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if not pair:
                return port
            with suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + 1))
                return port


class Program:
    """A Qdrant server process that can be killed and restarted with the same data and ports."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = free_port(pair=True)
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments: list[str] = []
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self.port),
            "QDRANT__SERVICE__GRPC_PORT": str(self.port + 1),
            "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
            "QDRANT__TELEMETRY_DISABLED": "true",
            "QDRANT__LOG_LEVEL": "WARN",
            **settings,
        }

    def start(self, *, wait: bool = True) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, *self.arguments],
                env=os.environ | self._settings,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            await_ready(
                self.url,
                self.port + 1,
                lambda: self._process is not None and self._process.poll() is None,
            )

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Program:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()


def options_of(url: str, prefix: str = "nextsong", **more: Any) -> QdrantOptions:
    """Return the options for a URL. The URL of a container ends with # and the gRPC port."""
    address, _, grpc_port = url.partition("#")
    return qdrant_options(
        address, prefix=prefix, grpc_port=int(grpc_port) if grpc_port else None, **more
    )


class Shared:
    """A factory of stores on one server, each with its own prefix. `clean` removes the stores."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: list[ServerStore] = []

    def __call__(self, **more: Any) -> ServerStore:
        store = ServerStore(options_of(self.url, f"test-{uuid4().hex[:12]}"), **more)
        self._made.append(store)
        return store

    def again(self, store: ServerStore, **more: Any) -> ServerStore:
        """Return a new object for the same store, as another process would create."""
        return ServerStore(store.options, **more)

    def clean(self) -> None:
        for store in self._made:
            wipe(store)
            store.close()


def wipe(store: ServerStore) -> None:
    """Remove all collections of a store."""
    prefix = store.options.prefix
    found = store.nodes.request("list", lambda client: client.get_collections()).collections
    for name in [each.name for each in found if each.name.startswith(f"{prefix}_")]:
        store.nodes.request("remove", lambda client, name=name: client.delete_collection(name))


class Memory(QdrantClient):
    """The in-memory emulation of `qdrant-client`. It has no indexes, nodes or optimizers."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self._indexes: dict[str, dict[str, Any]] = {}

    def create_collection(self, collection_name: str, vectors_config: Any, **more: Any) -> bool:
        # For unit vectors, the dot product equals the cosine, and the stored bits do not change.
        dot = {"distance": models.Distance.DOT}
        vectors = {name: one.model_copy(update=dot) for name, one in vectors_config.items()}
        return super().create_collection(collection_name, vectors, **more)

    def create_payload_index(
        self, collection_name: str, field_name: str, *args: Any, **_: Any
    ) -> Any:
        schema: Any = args[0]
        info = models.PayloadIndexInfo(data_type=schema.type.value, points=0)
        self._indexes.setdefault(collection_name, {})[field_name] = info

    def get_collection(self, collection_name: str, **more: Any) -> models.CollectionInfo:
        if not self.collection_exists(collection_name):
            raise MissingCollectionError(f"no collection {collection_name}")
        info = super().get_collection(collection_name, **more)
        return info.model_copy(update={"payload_schema": self._indexes.get(collection_name, {})})

    def collection_cluster_info(self, collection_name: str) -> Any:
        return models.CollectionClusterInfo(
            peer_id=1, shard_count=1, local_shards=[], remote_shards=[], shard_transfers=[]
        )


class MemoryNodes:
    """The only node of an emulated server."""

    def __init__(self) -> None:
        self.client = Memory()

    def request(self, task: str, call: Callable[[Any], Any], **_: Any) -> Any:
        with server_errors(task, ":memory:"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the emulation warns about features that it lacks
            return call(self.client)

    def retrying_for(self, _seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        pass


class _Awaited:
    """Wraps a client so that its methods are coroutines."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return awaited


def memory_store(**more: Any) -> ServerStore:
    """Return a store that uses the in-memory emulation of `qdrant-client`."""
    nodes = MemoryNodes()
    parts: Any = {"nodes": nodes, "open_nodes": lambda: AsyncMemoryNodes(nodes)}
    return ServerStore(QdrantOptions((":memory:",)), **parts, **more)


class AsyncMemoryNodes:
    def __init__(self, nodes: MemoryNodes) -> None:
        self._client = _Awaited(nodes.client)

    async def request(
        self, task: str, call: Callable[[Any], Any], deadline: float | None = None
    ) -> Any:
        with server_errors(task, ":memory:"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return await call(self._client)
            except ValueError as error:
                if "not found" in str(error):
                    raise MissingCollectionError(str(error)) from error
                raise

    def close(self) -> None:
        pass
