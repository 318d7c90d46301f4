"""Looks at everything that a home needs and says what is wrong and what to do about it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from catalog.draft import release_before
from catalog.errors import NextsongError, NoReleaseError, UnavailableError
from catalog.homes import open_home
from catalog.reporting import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.qdrant_options import QdrantOptions
    from catalog.release import Home
    from catalog.server import ServerHome

LEAST_FREE_BYTES = 1 << 30
_LIBRARIES = ("qdrant-client", "qdrant-edge-py", "grpcio", "duckdb", "gensim", "pyarrow", "numpy")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `advice` says what to do where something is to be done."""

    level: Literal["ok", "warning", "failure"]
    what: str
    advice: str = ""


def examine(folder: Path, qdrant: QdrantOptions | None) -> Iterator[Finding]:
    """Look at versions, at the folder, at the server if there is one, and at the releases."""
    yield from _versions()
    for finding in _disk(folder):
        yield finding
        if finding.level == "failure":
            return
    home = open_home(folder, qdrant)
    try:
        if qdrant is not None:
            from catalog.server import ServerHome

            assert isinstance(home, ServerHome)
            for finding in _server(home):
                yield finding
                if finding.level == "failure":
                    return
        yield from _releases(home)
        if qdrant is not None:
            yield from _collections(home)  # type: ignore[arg-type]
    finally:
        home.close()


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("failure", f"{name} is not installed", "run `make install`")
    yield Finding("ok", f"nextsong {version('nextsong')}, Python {python}, {', '.join(found)}")


def _disk(folder: Path) -> Iterator[Finding]:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        yield Finding("failure", f"{existing} is a file", "name a folder with --home")
        return
    free = shutil.disk_usage(existing).free
    what = f"{folder}: {free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        yield Finding("warning", what, "free some room: ingest needs a few times its input")
    else:
        yield Finding("ok", what)


def _server(home: ServerHome) -> Iterator[Finding]:
    options = home.options
    answered = 0
    for url in options.urls:
        try:
            found = home.nodes.version(url)
        except UnavailableError as error:
            yield Finding("warning", str(error), "start it, or leave it out of --qdrant-url")
        except NextsongError as error:
            yield Finding("failure", str(error), "see the message")
        else:
            answered += 1
            yield Finding("ok", f"Qdrant {found} answers at {url}")
    if not answered:
        yield Finding("failure", "no Qdrant server answers", "check --qdrant-url and the network")
        return
    yield from _secrecy(options)
    try:
        home.current()
    except NextsongError as error:
        yield Finding("failure", str(error), "set the key that this server was given")
        return
    yield Finding("ok", "the key may read" if options.api_key else "reading needs no key")
    try:
        home.nodes.ask("change aliases", lambda client: client.update_collection_aliases([]))
    except NextsongError:
        advice = "enough to serve; to publish, use a key that may write"
        yield Finding("ok", "the key may not write", advice)
    else:
        yield Finding("ok", "the key may write" if options.api_key else "writing needs no key")


def _secrecy(options: QdrantOptions) -> Iterator[Finding]:
    for url in options.urls:
        parts = urlsplit(url)
        if parts.hostname in _LOOPBACK:
            continue
        if options.api_key and parts.scheme == "http":
            yield Finding("warning", f"the key travels to {url} unencrypted", "use TLS: https://")
        if not options.api_key:
            yield Finding(
                "warning",
                f"{url} is asked without a key",
                "an open server takes anybody's writes: give it one (QDRANT__SERVICE__API_KEY)",
            )


def _releases(home: Home) -> Iterator[Finding]:
    try:
        current = home.current()
        kept = home.releases()
    except NextsongError as error:
        yield Finding("failure", str(error), "publish again with `nextsong ingest run --force`")
        return
    if current is None:
        yield Finding(
            "failure", f"no release in {home.place}", "publish one with `nextsong ingest run FILE`"
        )
    for release in reversed(kept):
        name = f"release {release}" + (" (current)" if release == current else "")
        try:
            manifest = home.verify(release, Silent())
        except NextsongError as error:
            level: Literal["failure", "warning"] = "failure" if release == current else "warning"
            yield Finding(level, str(error), _advice(home, release, current))
        else:
            yield Finding("ok", f"{name}: {manifest.counts.songs:,} songs, all as published")


def _advice(home: Home, release: str, current: str | None) -> str:
    if release != current:
        return "remove it with `nextsong releases prune`"
    try:
        older = release_before(home)
    except NoReleaseError:
        return "publish again with `nextsong ingest run FILE --force`: no older one is kept"
    return f"go back to {older} with `nextsong releases rollback`, or publish again"


def _collections(home: ServerHome) -> Iterator[Finding]:
    from catalog.server_health import health

    for state in health(home):
        yield Finding(*state)
