"""Connections to a Qdrant server: clients, fail-over between nodes, errors, and the version."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import grpc
import httpx
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from catalog import deadline
from catalog.errors import EngineError, FileError, NextsongError, StorageError, UnavailableError
from catalog.server.options import API_KEY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from catalog.server.options import QdrantOptions

OLDEST = (1, 17)
"""The first version of Qdrant that weighs the lists which it fuses."""

TESTED = "1.19"

ROUNDS = 3
"""How often each node is asked, where none answers."""

PAUSE_S = 0.2
"""How long the first pause between two rounds is; each next one is twice as long."""

LONGEST_PAUSE_S = 2.0

TRY_S, SHORT_TRY_S = 4.0, 0.5
"""How long one node is waited for where a caller waits for us: half of what that allows, and no
longer than this; the shorter time once all were silent and until one has answered."""

T = TypeVar("T")

# A channel that lost its server must try again soon, not after gRPC's two minutes; and must notice
# a server that went away without a word.
_CHANNEL = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1_000,
    "grpc.max_reconnect_backoff_ms": 300,
    "grpc.keepalive_time_ms": 5_000,
    "grpc.keepalive_timeout_ms": 3_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
    # Of a batch that is refused, each point is named in the message, which travels as metadata.
    "grpc.max_metadata_size": 1 << 20,
    "grpc.absolute_max_metadata_size": 1 << 20,
}
_UNREACHABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_DISK_FULL = re.compile(r"no space left|disk space|os error 28|not enough space", re.IGNORECASE)
_NOT_READY = re.compile(
    r"not enough (active )?replicas|no(t)? (active )?replica|consensus|timeout|timed out"
    r"|connection|transport error|shard.*unavailable",
    re.IGNORECASE,
)


class Absent(EngineError):  # noqa: N818 -- never seen outside: what was asked for is not there
    """A collection that is not there."""


class _SilentError(UnavailableError):
    """A node that did not answer in time."""


@contextmanager
def server_errors(task: str, url: str) -> Iterator[None]:
    """Turn whatever the client raises during `task` into one of our errors."""
    try:
        yield
    except NextsongError:
        raise
    except grpc.RpcError as error:
        raise _of_call(error, task, url) from error
    except UnexpectedResponse as error:
        raise _of_response(error, task, url) from error
    except (ApiException, httpx.HTTPError, OSError) as error:
        raise _unreachable(url, error) from error
    except QdrantException as error:  # asked for too much at once
        raise UnavailableError(f"Qdrant at {url} is too busy to {task}: {_line(error)}") from error
    except AttributeError as error:
        if error.obj is not None:
            raise
        # gRPC gives None for an answer that it cannot read.
        raise UnavailableError(f"the answer of Qdrant at {url} to {task} came garbled") from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise EngineError(f"Qdrant failed to {task}: {_line(error)}") from error


def _of_call(error: grpc.RpcError, task: str, url: str) -> NextsongError:
    code, details = error.code(), error.details() or ""
    if code in _UNREACHABLE:
        return _unreachable(url, details or code.name.lower())
    if code in _REFUSED:
        return _refused(task, url, details)
    if code is grpc.StatusCode.NOT_FOUND:
        return Absent(f"Qdrant at {url} failed to {task}: {_line(details)}")
    return _failed(task, url, details or code.name.lower())


def _of_response(error: UnexpectedResponse, task: str, url: str) -> NextsongError:
    content = error.content.decode(errors="replace")
    if error.status_code in {401, 403}:
        return _refused(task, url, content)
    if error.status_code == 404:
        return Absent(f"Qdrant at {url} failed to {task}: {_line(content)}")
    if error.status_code in {408, 429, 502, 503, 504}:
        return _unreachable(url, content)
    return _failed(task, url, content)


def _unreachable(url: str, reason: object) -> UnavailableError:
    return UnavailableError(
        f"Qdrant at {url} does not answer ({_line(reason)}): does it run, and is that its address?"
    )


def _refused(task: str, url: str, reason: str) -> EngineError:
    return EngineError(
        f"Qdrant at {url} refuses to {task} with this API key ({_line(reason)}): set {API_KEY} "
        f"to a key with the right to do it"
    )


def _failed(task: str, url: str, reason: str) -> NextsongError:
    if _DISK_FULL.search(reason):
        return StorageError(
            f"the disk of Qdrant at {url} is full: free some room there and run again "
            f"({_line(reason)})"
        )
    if _NOT_READY.search(reason):
        return UnavailableError(f"Qdrant at {url} cannot {task} now: {_line(reason)}")
    return EngineError(f"Qdrant at {url} failed to {task}: {_line(reason)}")


def _line(reason: object) -> str:
    return (" ".join(str(reason).split()) or type(reason).__name__)[:300]


def _arguments(options: QdrantOptions, url: str) -> dict[str, Any]:
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


class Nodes:
    """The nodes of a Qdrant server, asked one after another until one answers."""

    def __init__(self, options: QdrantOptions) -> None:
        self.urls = options.urls
        self._options = options
        self._clients: dict[str, QdrantClient] = {}
        self._first = 0
        self._checked = False
        self._patience_s = 0.0

    def client(self, url: str) -> QdrantClient:
        """The client of one node. Raises `EngineError` if the server is too old."""
        if url not in self._clients:
            with server_errors("connect", url):
                self._clients[url] = QdrantClient(**_arguments(self._options, url))
        client = self._clients[url]
        if not self._checked:
            with server_errors("say its version", url):
                require_version(client.info().version, url)
            self._checked = True
        return client

    def version(self, url: str) -> str:
        """The version of one node, if it is one that can be used."""
        client = self.client(url)
        with server_errors("say its version", url):
            found: str = client.info().version
        require_version(found, url)
        return found

    def ask(self, task: str, call: Callable[[QdrantClient], T], *, hurry: bool = False) -> T:
        """What `call` returns of the first node that answers; the others are tried in turn.

        Where none answers, all are tried again, a few times or, within `patiently`, for as long as
        that says; in a `hurry`, never.
        """
        nodes = len(self.urls)
        end = time.monotonic() + self._patience_s
        for attempt in count():
            url = self.urls[self._first % nodes]
            try:
                client = self.client(url)
                with server_errors(task, url):
                    return call(client)
            except UnavailableError:
                self._first += 1
                late = attempt + 1 >= ROUNDS * nodes and time.monotonic() >= end
                if late or (hurry and attempt + 1 >= nodes):
                    raise
                time.sleep(_pause_after(attempt, nodes))
        raise AssertionError

    @contextmanager
    def patiently(self, seconds: float) -> Iterator[None]:
        """Go on trying for so long whenever no node answers."""
        before, self._patience_s = self._patience_s, seconds
        try:
            yield
        finally:
            self._patience_s = before

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


class AsyncNodes:
    """The same for coroutines. Each event loop gets connections of its own."""

    def __init__(self, options: QdrantOptions) -> None:
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: dict[str, AsyncQdrantClient] = {}
        self._first = 0
        self._answered = time.monotonic()
        self._all_silent = False

    async def ask(self, task: str, call: Callable[[AsyncQdrantClient], Awaitable[T]]) -> T:
        """What `call` returns of the first node that answers; the others are tried in turn.

        A node that says nothing at all is not asked twice.
        """
        urls = self._options.urls
        tries = ROUNDS * len(urls)
        silent = 0
        for attempt in range(tries):
            url = urls[self._first % len(urls)]
            try:
                return await self._answer(task, url, call)
            except UnavailableError as error:
                self._first += 1
                silent += isinstance(error, _SilentError)
                pause_s, left = _pause_after(attempt, len(urls)), deadline.left()
                late = left is not None and left <= pause_s
                if attempt == tries - 1 or silent == len(urls) or late:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError

    async def _answer(
        self, task: str, url: str, call: Callable[[AsyncQdrantClient], Awaitable[T]]
    ) -> T:
        left, begun = deadline.left(), time.monotonic()
        most = SHORT_TRY_S if self._all_silent else TRY_S
        try:
            async with asyncio.timeout(None if left is None else min(most, left / 2)):
                with server_errors(task, url):
                    answer = await call(self._client(url))
        except TimeoutError as error:
            # Where others were answered meanwhile, this question alone was too much.
            self._all_silent = self._answered < begun
            raise _SilentError(f"Qdrant at {url} said nothing when asked to {task}") from error
        self._answered, self._all_silent = time.monotonic(), False
        return answer

    def _client(self, url: str) -> AsyncQdrantClient:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._clients = {}
        if url not in self._clients:
            self._clients[url] = AsyncQdrantClient(**_arguments(self._options, url))
        return self._clients[url]

    def close(self) -> None:
        """Let go of the connections, in their event loop if it still runs."""
        clients, self._clients = self._clients, {}
        if self._loop is not None and self._loop.is_running():
            for client in clients.values():
                asyncio.run_coroutine_threadsafe(client.close(), self._loop)


def _pause_after(attempt: int, nodes: int) -> float:
    """Seconds to wait: none before the next node, and longer after each round."""
    done, place = divmod(attempt + 1, nodes)
    return 0.0 if place else min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** (done - 1))


def require_version(version: str, url: str) -> None:
    """Raise `EngineError` for a server that is too old, or of another major version."""
    found = re.match(r"(\d+)\.(\d+)", version)
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    if numbers < OLDEST or numbers[0] != OLDEST[0]:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            f"Qdrant at {url} is version {version}, and nextsong needs {oldest} or later below "
            f"{OLDEST[0] + 1}.0 (tested with {TESTED}): upgrade it, one minor version at a time"
        )
