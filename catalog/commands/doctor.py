"""The checks of `nextsong doctor` on versions, disk, server and releases, with advice."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from catalog.console.progress import SilentReporter
from catalog.errors import CorruptReleaseError, NextsongError, UnavailableError
from catalog.open_store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.manifest import Manifest
    from catalog.server.options import QdrantOptions
    from catalog.server.store import ServerStore
    from catalog.store import ReleaseStore

MIN_FREE_BYTES = 1 << 30  # with less free disk space, the check warns
_LIBRARIES = ("qdrant-client", "qdrant-edge-py", "grpcio", "duckdb", "gensim", "pyarrow", "numpy")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: a level, a description, and advice if action is needed."""

    level: Literal["ok", "warning", "failure"]
    what: str
    advice: str = ""


def examine(folder: Path, qdrant: QdrantOptions | None, options: str = "") -> Iterator[Finding]:
    """Check library versions, `folder`, all releases, and the Qdrant server if `qdrant` is given.

    Yields one finding per check. `options` holds the command-line options that select the store;
    the commands in the advice repeat these options.
    """
    yield from _check_versions()
    for finding in _check_disk(folder):
        yield finding
        if finding.level == "failure":
            return
    store = open_store(folder, qdrant)
    try:
        if qdrant is None:
            yield from _check_releases(store, options)
            return
        from catalog.server.store import ServerStore

        assert isinstance(store, ServerStore)
        for finding in _check_server(store):
            yield finding
            if finding.level == "failure":
                return
        yield from _check_releases(store, options)
        yield from _check_collections(store)
    finally:
        store.close()


def _check_versions() -> Iterator[Finding]:
    python = platform.python_version()
    versions = []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("failure", f"{name} is not installed", "run `make install`")
    yield Finding("ok", f"nextsong {version('nextsong')}, Python {python}, {', '.join(versions)}")


def _check_disk(folder: Path) -> Iterator[Finding]:
    absolute = folder.absolute()
    existing = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not existing.is_dir():
        yield Finding("failure", f"{existing} is a file", "name a folder with --home")
        return
    free = shutil.disk_usage(existing).free
    text = f"{folder}: {free / 1e9:.1f} GB free"
    if free < MIN_FREE_BYTES:
        yield Finding("warning", text, "free disk space: ingest needs several times its input")
    else:
        yield Finding("ok", text)


def _check_server(store: ServerStore) -> Iterator[Finding]:
    options = store.options
    is_reachable = False
    for url in options.urls:
        try:
            server_version = store.nodes.version(url)
        except UnavailableError as error:
            yield Finding("warning", str(error), "start the server, or remove it from --qdrant-url")
        except NextsongError as error:
            yield Finding("failure", str(error), "check the options of the Qdrant server")
        else:
            is_reachable = True
            yield Finding("ok", f"Qdrant {server_version} answers at {url}")
    if not is_reachable:
        yield Finding("failure", "no Qdrant server answers", "check --qdrant-url and the network")
        return
    yield from _check_encryption(options)
    try:
        _read_current(store)
    except NextsongError as error:
        yield Finding("failure", str(error), "set the API key that this server expects")
        return
    yield Finding("ok", "the key may read" if options.api_key else "reading needs no key")
    try:
        store.nodes.request("change aliases", lambda client: client.update_collection_aliases([]))
    except NextsongError:
        advice = "enough to serve; to publish, use a key that may write"
        yield Finding("ok", "the key may not write", advice)
    else:
        yield Finding("ok", "the key may write" if options.api_key else "writing needs no key")


def _check_encryption(options: QdrantOptions) -> Iterator[Finding]:
    for url in options.urls:
        parts = urlsplit(url)
        if parts.hostname in _LOOPBACK:
            continue
        if options.api_key and parts.scheme == "http":
            yield Finding("warning", f"the key is sent to {url} unencrypted", "use TLS: https://")
        if not options.api_key:
            yield Finding(
                "warning",
                f"{url} is used without a key",
                "anybody can write to a server without a key: set QDRANT__SERVICE__API_KEY there",
            )


def _check_releases(store: ReleaseStore, options: str) -> Iterator[Finding]:
    try:
        current, problem = _read_current(store)
        kept = store.releases()[::-1]
        states = {release: _verify(store, release) for release in kept}
    except NextsongError as error:
        yield Finding("failure", str(error), "solve this problem, then run the command again")
        return
    intact = [release for release, (manifest, _) in states.items() if manifest]
    if not kept and current is None and not problem:
        advice = f"publish one with `nextsong ingest run{options} FILE`"
        yield Finding("failure", f"no release in {store.location}", advice)
    elif current not in kept:
        if current is not None:
            problem = f"{store.location} names {current} as the current release, which is not there"
        problem = problem or f"{store.location} keeps {len(kept):,} releases, and none is current"
        yield Finding("failure", problem, _advise(current, intact, options))
    for release, (manifest, damage) in states.items():
        if manifest:
            name = f"release {release}" + (" (current)" if release == current else "")
            yield Finding("ok", f"{name}: {manifest.counts.songs:,} songs, all as published")
        elif release == current:
            yield Finding("failure", damage, _advise(current, intact, options))
        else:
            advice = f"remove it with `nextsong releases remove {release}{options}`"
            yield Finding("warning", damage, advice)


def _read_current(store: ReleaseStore) -> tuple[str | None, str]:
    """Return the id of the current release and "", or None and the reason for the failure."""
    try:
        return store.current(), ""
    except CorruptReleaseError as error:
        return None, error.problem


def _verify(store: ReleaseStore, release: str) -> tuple[Manifest | None, str]:
    """Return the manifest of an intact release and "", or None and a description of the damage."""
    try:
        return store.verify(release, SilentReporter()), ""
    except CorruptReleaseError as error:
        return None, error.problem


def _advise(current: str | None, intact: list[str], options: str) -> str:
    """Return advice for a store without a usable current release."""
    if not intact:
        command = f"nextsong ingest run --force{options} FILE"
        return f"publish again with `{command}`: no older one is intact"
    older = (release for release in intact if current is None or release < current)
    release = next(older, intact[0])
    step = f"go back to {release}" if current else f"make {release} current"
    return f"{step} with `nextsong releases rollback {release}{options}`"


def _check_collections(store: ServerStore) -> Iterator[Finding]:
    from catalog.server.health import check_collections

    for state in check_collections(store):
        yield Finding(*state)
