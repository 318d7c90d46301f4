"""Options of a Qdrant server: its address, and the layout of collections."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from catalog.errors import FileError, InputError

if TYPE_CHECKING:
    from pathlib import Path

REST_PORT = 6333
"""Qdrant's default port for REST."""

API_KEY = "NEXTSONG_QDRANT_API_KEY"
"""Name of the environment variable that contains the API key."""

Storage = Literal["memory", "disk", "quantized"]
"""Where the server stores vectors.

- "memory": in memory.
- "disk": on disk, with a cache in memory.
- "quantized": on disk, with a compressed copy of the dense vectors in memory, a quarter of their
  size. Searches find candidates in the copy, and compute the exact scores of these candidates from
  the vectors on disk."""

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class QdrantOptions:
    """A Qdrant server, or the nodes of one cluster.

    - `urls`: the nodes. If a node does not answer, the next one is tried.
    - `ca`: a file of certificates (PEM) to trust instead of the system's certificates.
    - `prefix`: the alias of the current release, and the beginning of all collection names.
    - `grpc_port`: the gRPC port. By default, the port in the URL plus 1.
    - `timeout_s`: maximum seconds to wait for a response.
    """

    urls: tuple[str, ...]
    api_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    prefix: str = "nextsong"
    grpc_port: int | None = None
    timeout_s: int = 10


@dataclass(frozen=True, slots=True)
class CollectionLayout:
    """The layout of a collection on the server. If an option is None, the server's default is used.

    - `shards`: number of parts of the collection, which are distributed over the nodes.
    - `replicas`: number of copies of each shard, on different nodes.
    - `write_consistency`: number of replicas that must confirm a write.
    - `storage`: where vectors are stored.
    """

    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None
    storage: Storage = "memory"


def qdrant_options(
    urls: str,
    *,
    ca: Path | None = None,
    key_file: Path | None = None,
    prefix: str = "nextsong",
    grpc_port: int | None = None,
) -> QdrantOptions:
    """Return the options for a comma-separated list of URLs. Raises `InputError` or `FileError`.

    The API key is read from `key_file`, or by default from the environment variable `API_KEY`. For
    the other arguments, see `QdrantOptions`.
    """
    nodes = tuple(_clean_url(url.strip()) for url in urls.split(",") if url.strip())
    if not nodes:
        raise InputError(
            f"'{redact_password(urls)}' does not name a Qdrant server: give http://HOST:{REST_PORT}"
        )
    if not _PREFIX.fullmatch(prefix):
        raise InputError(
            f"the prefix '{prefix}' must be 1 to 64 characters of A-Z a-z 0-9 _ -, beginning "
            f"with a letter"
        )
    if ca is not None and not ca.is_file():
        raise FileError(f"the file of certificates {ca} does not exist")
    key = _read_key(key_file) if key_file else os.environ.get(API_KEY, "").strip()
    return QdrantOptions(nodes, key or None, ca, prefix, grpc_port)


def redact_password(urls: str) -> str:
    """Return the URLs with stars instead of user names and passwords."""
    return re.sub(r"(^|//|,)[^/@,]*@", r"\1**********@", urls)


def _clean_url(url: str) -> str:
    full = url if "://" in url else f"http://{url}"
    problem = f"'{redact_password(url)}' is not the address of a Qdrant server: give http://HOST:{REST_PORT}"
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise InputError(problem) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise InputError(problem)
    if parts.username or parts.password:
        raise InputError(f"the URL must not contain a user name or password: set {API_KEY}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or REST_PORT}{parts.path.rstrip('/')}"


def _read_key(file: Path) -> str:
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"the key in {file} cannot be read: {error}") from error
    if not key:
        raise FileError(f"{file} is empty: it must contain the key of the Qdrant server")
    return key
