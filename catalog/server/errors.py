"""Convert the errors of `qdrant-client` and gRPC to exceptions of nextsong."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from catalog.errors import EngineError, NextsongError, StorageError, UnavailableError
from catalog.server.options import API_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class MissingCollectionError(EngineError):
    """The requested collection does not exist on the server."""


@contextmanager
def server_errors(task: str, url: str) -> Iterator[None]:
    """Convert each error that the Qdrant client raises in this block to a `NextsongError`.

    The message contains `task`, a verb phrase such as "list collections", and the node's `url`.
    """
    try:
        yield
    except NextsongError:
        raise
    except grpc.RpcError as error:
        raise _from_grpc(error, task, url) from error
    except UnexpectedResponse as error:
        raise _from_http(error, task, url) from error
    except (ApiException, httpx.HTTPError, OSError) as error:
        raise _unreachable(url, error) from error
    except QdrantException as error:  # raised if the server refuses a request due to a rate limit
        message = f"Qdrant at {url} is too busy to {task}: {_one_line(error)}"
        raise UnavailableError(message) from error
    except AttributeError as error:
        if error.obj is not None:
            raise
        # gRPC returns None if it cannot parse a response, and reading an attribute of None fails.
        message = f"Qdrant at {url} failed to {task}: its response cannot be read"
        raise UnavailableError(message) from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise EngineError(f"Qdrant failed to {task}: {_one_line(error)}") from error


def _from_grpc(error: grpc.RpcError, task: str, url: str) -> NextsongError:
    code, details = error.code(), error.details() or ""
    if code in _UNREACHABLE:
        return _unreachable(url, details or code.name.lower())
    if code in _REFUSED:
        return _refused(task, url, details)
    if code is grpc.StatusCode.NOT_FOUND:
        return MissingCollectionError(f"Qdrant at {url} failed to {task}: {_one_line(details)}")
    return _failed(task, url, details or code.name.lower())


def _from_http(error: UnexpectedResponse, task: str, url: str) -> NextsongError:
    content = error.content.decode(errors="replace")
    if error.status_code in {401, 403}:
        return _refused(task, url, content)
    if error.status_code == 404:
        return MissingCollectionError(f"Qdrant at {url} failed to {task}: {_one_line(content)}")
    if error.status_code in {408, 429, 502, 503, 504}:
        return _unreachable(url, content)
    return _failed(task, url, content)


def _unreachable(url: str, reason: object) -> UnavailableError:
    return UnavailableError(
        f"Qdrant at {url} does not answer ({_one_line(reason)}): "
        f"check that it runs and that the address is right"
    )


def _refused(task: str, url: str, reason: str) -> EngineError:
    return EngineError(
        f"Qdrant at {url} refuses to {task} with this API key ({_one_line(reason)}): set {API_KEY} "
        f"to a key with this permission"
    )


def _failed(task: str, url: str, reason: str) -> NextsongError:
    if _DISK_FULL.search(reason):
        return StorageError(
            f"the disk of Qdrant at {url} is full: free disk space there and run again "
            f"({_one_line(reason)})"
        )
    if _NOT_READY.search(reason):
        return UnavailableError(f"Qdrant at {url} cannot {task} now: {_one_line(reason)}")
    return EngineError(f"Qdrant at {url} failed to {task}: {_one_line(reason)}")


def _one_line(reason: object) -> str:
    return (" ".join(str(reason).split()) or type(reason).__name__)[:300]
