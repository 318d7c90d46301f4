"""How to reach a Qdrant server, and how releases are to be laid out in it."""

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
API_KEY = "NEXTSONG_QDRANT_API_KEY"

Storage = Literal["memory", "disk", "quantized"]
"""Where vectors are: all in memory; on disk, cached as memory allows; or on disk with a
quarter-size copy in memory that finds candidates, whose exact scores are then read from disk."""

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class QdrantOptions:
    """A Qdrant server, or the nodes of one cluster.

    `urls` are tried in turn where one does not answer. gRPC listens on `grpc_port`, or, where that
    is None, on the port after the URL's. `ca` is a file of certificates to trust instead of the
    system's. `prefix` begins the names of all collections, and is the alias of the current release.
    """

    urls: tuple[str, ...]
    api_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    prefix: str = "nextsong"
    grpc_port: int | None = None
    timeout_s: int = 10


@dataclass(frozen=True, slots=True)
class CollectionLayout:
    """How a release is laid out over the nodes and in their memory; None leaves it to the server.

    A write counts once `write_consistency` of the `replicas` of its shard have it.
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
    """The options for a comma-separated list of URLs; raises `InputError` for one that is none.

    The key comes from `key_file`, or else from the environment.
    """
    cleaned = tuple(_url(url.strip()) for url in urls.split(",") if url.strip())
    if not cleaned:
        raise InputError(
            f"'{redact_password(urls)}' names no Qdrant server: give http://HOST:{REST_PORT}"
        )
    if not _PREFIX.fullmatch(prefix):
        raise InputError(f"the prefix '{prefix}' is not a letter and up to 63 of A-Z a-z 0-9 _ -")
    if ca is not None and not ca.is_file():
        raise FileError(f"no file of certificates in {ca}")
    key = _key_in(key_file) if key_file else os.environ.get(API_KEY, "").strip()
    return QdrantOptions(cleaned, key or None, ca, prefix, grpc_port)


def redact_password(urls: str) -> str:
    """The same, with stars for what stands before an @ in an address."""
    return re.sub(r"(^|//|,)[^/@,]*@", r"\1**********@", urls)


def _url(url: str) -> str:
    given = url if "://" in url else f"http://{url}"
    problem = f"'{redact_password(url)}' is not the address of a Qdrant server: give http://HOST:{REST_PORT}"
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError as error:
        raise InputError(problem) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise InputError(problem)
    if parts.username or parts.password:
        raise InputError(f"a key does not belong into the URL: set {API_KEY}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or REST_PORT}{parts.path.rstrip('/')}"


def _key_in(file: Path) -> str:
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"the key in {file} cannot be read: {error}") from error
    if not key:
        raise FileError(f"{file} is empty: it must hold the key of the Qdrant server")
    return key
