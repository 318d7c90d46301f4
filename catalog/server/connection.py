"""Connections to a Qdrant server: clients, fail-over between nodes, retries, version checks."""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import stamina
from qdrant_client import AsyncQdrantClient, QdrantClient

from catalog.errors import EngineError, FileError, UnavailableError
from catalog.server.errors import server_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from catalog.server.options import QdrantOptions

OLDEST = (1, 17)
"""Oldest supported version of Qdrant: the first with weights for fused rankings."""

TESTED = "1.19"
"""Version of Qdrant that the tests use."""

ROUNDS = 3
"""Number of times that each node is tried if no node answers."""

PAUSE_S = 0.2
"""Pause after all nodes have been tried, in seconds. It doubles each time."""

LONGEST_PAUSE_S = 2.0
"""Maximum pause, in seconds."""

TRY_S, SHORT_TRY_S = 4.0, 0.5
"""Maximum seconds to wait for a node if the request has a deadline.

A request waits for a node at most half of the time left. After a wait in which no request was
answered, `SHORT_TRY_S` applies instead of `TRY_S` until a node answers again."""

T = TypeVar("T")

# By default, gRPC waits up to two minutes before it reconnects, and does not notice if a server
# disappears without closing the connection.
_CHANNEL = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1_000,
    "grpc.max_reconnect_backoff_ms": 300,
    "grpc.keepalive_time_ms": 5_000,
    "grpc.keepalive_timeout_ms": 3_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
    # If the server refuses a batch, the error message names all points of the batch. gRPC sends
    # error messages as metadata, so the limit must be large.
    "grpc.max_metadata_size": 1 << 20,
    "grpc.absolute_max_metadata_size": 1 << 20,
}


class _SilentError(UnavailableError):
    """A node did not answer within the time limit of a request."""


def _client_arguments(options: QdrantOptions, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    grpc_options: dict[str, Any] = dict(_CHANNEL)
    arguments: dict[str, Any] = {}
    if options.ca:
        arguments["verify"] = str(options.ca)
        try:
            grpc_options["root_certificates"] = options.ca.read_bytes()
        except OSError as error:
            raise FileError(f"{options.ca} cannot be read: {error.strerror}") from error
    if options.api_key:
        arguments["headers"] = {"api-key": options.api_key}
    return arguments | {
        "url": url,
        "grpc_port": options.grpc_port or (parts.port or 6333) + 1,
        "prefer_grpc": True,
        "timeout": options.timeout_s,
        "grpc_options": grpc_options,
        "check_compatibility": False,
        "pool_size": 1,
    }


def _retries(
    on: type[Exception] | Callable[[Exception], bool],
    attempts: int | None,
    timeout_s: float | None = None,
) -> Any:
    """Return an iterator over attempts (see `stamina.retry_context`).

    `on` selects the errors after which another attempt is made. There are at most `attempts`
    attempts, and no attempt begins later than `timeout_s` seconds after the first.
    """
    return stamina.retry_context(
        on=on,
        attempts=attempts,
        timeout=timeout_s,
        wait_initial=PAUSE_S,
        wait_max=LONGEST_PAUSE_S,
        wait_jitter=0.0,
    )


class _NodeOrder:
    """The URLs of the nodes in the order in which to try them. Failed nodes come last."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self._urls = list(urls)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._urls))

    def demote(self, url: str) -> None:
        """Move a node to the end of the order."""
        self._urls.remove(url)
        self._urls.append(url)


class Nodes:
    """The nodes of a Qdrant server. Each request goes to the first node that answers."""

    def __init__(self, options: QdrantOptions) -> None:
        self._options = options
        self._clients: dict[str, QdrantClient] = {}
        self._order = _NodeOrder(options.urls)
        self._is_supported = False
        self._retry_s = 0.0

    def client(self, url: str) -> QdrantClient:
        """Return the client of one node."""
        if url not in self._clients:
            with server_errors("connect", url):
                self._clients[url] = QdrantClient(**_client_arguments(self._options, url))
        return self._clients[url]

    def version(self, url: str) -> str:
        """Return the Qdrant version of one node. Raises `EngineError` if it is not supported."""
        client = self.client(url)
        with server_errors("return its version", url):
            version: str = client.info().version
        require_version(version, url)
        self._is_supported = True
        return version

    def request(self, task: str, call: Callable[[QdrantClient], T], *, once: bool = False) -> T:
        """Return the result of `call` from the first node that answers.

        If no node answers, all nodes are tried again: `ROUNDS` times, or, inside a `retrying_for`
        block, for as long as the block allows. With `once`, each node is tried only once. `task`
        completes error messages such as "failed to TASK". Raises `UnavailableError` if no node
        answers, and `EngineError` if the request fails or the server is too old.
        """
        attempts = 1 if once else None if self._retry_s else ROUNDS
        timeout_s = None if attempts else self._retry_s
        for attempt in _retries(UnavailableError, attempts, timeout_s):
            with attempt:
                return self._request_once(task, call)
        raise AssertionError

    def _request_once(self, task: str, call: Callable[[QdrantClient], T]) -> T:
        failure: UnavailableError | None = None
        for url in self._order:
            try:
                if not self._is_supported:
                    self.version(url)
                client = self.client(url)
                with server_errors(task, url):
                    return call(client)
            except UnavailableError as error:
                self._order.demote(url)
                failure = error
        assert failure
        raise failure

    @contextmanager
    def retrying_for(self, seconds: float) -> Iterator[None]:
        """Inside this block, retry requests for `seconds` seconds if no node answers."""
        before, self._retry_s = self._retry_s, seconds
        try:
            yield
        finally:
            self._retry_s = before

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


class AsyncNodes:
    """The nodes of a Qdrant server, for coroutines.

    When requests come from another event loop than before, new connections are opened, because
    connections belong to an event loop.
    """

    def __init__(self, options: QdrantOptions) -> None:
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: dict[str, AsyncQdrantClient] = {}
        self._order = _NodeOrder(options.urls)
        self._last_answer = time.monotonic()
        self._are_all_silent = False

    async def request(
        self,
        task: str,
        call: Callable[[AsyncQdrantClient], Awaitable[T]],
        deadline: float | None = None,
    ) -> T:
        """Return the result of `call` from the first node that answers.

        `deadline` is a time of `time.monotonic`, or None. Each node gets a part of the remaining
        time (see `TRY_S`). If no node answers, nodes that failed immediately are tried again, at
        most `ROUNDS` times in total. Nodes that exceeded their time are not tried again, because
        the deadline would pass. For `task` and errors, see `Nodes.request`.
        """
        silent: set[str] = set()

        def is_retryable(error: Exception) -> bool:
            left = _seconds_left(deadline)
            is_in_time = left is None or left > PAUSE_S
            has_nodes = len(silent) < len(self._options.urls)
            return isinstance(error, UnavailableError) and is_in_time and has_nodes

        async for attempt in _retries(is_retryable, ROUNDS):
            with attempt:
                return await self._request_once(task, call, deadline, silent)
        raise AssertionError

    async def _request_once(
        self,
        task: str,
        call: Callable[[AsyncQdrantClient], Awaitable[T]],
        deadline: float | None,
        silent: set[str],
    ) -> T:
        """Try each node that is not in `silent`, and add each node that times out to `silent`."""
        failure: UnavailableError | None = None
        for url in self._order:
            if url in silent:
                continue
            try:
                return await self._call_node(task, url, call, deadline)
            except UnavailableError as error:
                self._order.demote(url)
                if isinstance(error, _SilentError):
                    silent.add(url)
                failure = error
        assert failure
        raise failure

    async def _call_node(
        self,
        task: str,
        url: str,
        call: Callable[[AsyncQdrantClient], Awaitable[T]],
        deadline: float | None,
    ) -> T:
        left, start = _seconds_left(deadline), time.monotonic()
        longest = SHORT_TRY_S if self._are_all_silent else TRY_S
        try:
            async with asyncio.timeout(None if left is None else min(longest, left / 2)):
                with server_errors(task, url):
                    response = await call(self._client(url))
        except TimeoutError as error:
            # If another request was answered during the wait, only this request was too slow.
            self._are_all_silent = self._last_answer < start
            raise _SilentError(f"Qdrant at {url} did not {task} in time") from error
        self._last_answer, self._are_all_silent = time.monotonic(), False
        return response

    def _client(self, url: str) -> AsyncQdrantClient:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._clients = {}
        if url not in self._clients:
            self._clients[url] = AsyncQdrantClient(**_client_arguments(self._options, url))
        return self._clients[url]

    def close(self) -> None:
        """Close the connections, in their event loop if it still runs."""
        clients, self._clients = self._clients, {}
        if self._loop is not None and self._loop.is_running():
            for client in clients.values():
                asyncio.run_coroutine_threadsafe(client.close(), self._loop)


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def whole_seconds_left(deadline: float | None) -> int | None:
    """Return the time left in whole seconds, at least 1, because Qdrant's timeouts are integers."""
    left = _seconds_left(deadline)
    return None if left is None else max(1, math.ceil(left))


def create_collection(nodes: Nodes, name: str, **settings: Any) -> None:
    """Create a collection unless it exists.

    It is not an error if another process creates the collection at the same time, or if an earlier
    request created it but the response was lost.
    """

    def exists() -> bool:
        return nodes.request(f"look up {name}", lambda client: client.collection_exists(name))

    if exists():
        return
    try:
        nodes.request(f"create {name}", lambda client: client.create_collection(name, **settings))
    except EngineError:
        if not exists():
            raise


def require_version(version: str, url: str) -> None:
    """Raise `EngineError` if the server is too old or has another major version."""
    match = re.match(r"(\d+)\.(\d+)", version)
    numbers = (int(match[1]), int(match[2])) if match else (0, 0)
    if numbers < OLDEST or numbers[0] != OLDEST[0]:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            f"Qdrant at {url} is version {version}, and nextsong needs {oldest} or later below "
            f"{OLDEST[0] + 1}.0 (tested with {TESTED}): upgrade it, one minor version at a time"
        )
