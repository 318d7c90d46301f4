"""A real Qdrant server that is disconnected, killed, full or protected by keys."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from catalog.commands.doctor import examine
from catalog.console.progress import SilentReporter
from catalog.errors import EngineError, StorageError, UnavailableError
from catalog.server import store as server_store
from catalog.server.store import ServerStore
from tests.support.embedded_releases import Notes, drafted, run, vectors_of
from tests.support.qdrant_servers import Program, options_of
from tests.support.server_content import QUERY, answers
from tests.support.store_content import Content, made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Proxy:
    """A TCP proxy for a port. Its connections can be interrupted and restored."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._is_interrupted = False
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self._is_interrupted:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def interrupt(self) -> None:
        self._is_interrupted = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def restore(self) -> None:
        self._is_interrupted = False

    def close(self) -> None:
        self._closed = True
        self.interrupt()
        self._server.close()


@contextmanager
def behind_proxies(store: ServerStore) -> Iterator[tuple[ServerStore, list[Proxy]]]:
    """Yield a copy of the store that reaches the server through two proxies, and the proxies."""
    port = urlsplit(store.options.urls[0]).port or 6333
    proxies = [Proxy(port), Proxy(store.options.grpc_port or port + 1)]
    url = f"http://127.0.0.1:{proxies[0].port}"
    options = replace(store.options, urls=(url,), grpc_port=proxies[1].port, timeout_s=2)
    try:
        yield ServerStore(options), proxies
    finally:
        for proxy in proxies:
            proxy.close()


def test_a_network_failure_is_reported_and_survived(store: ServerStore) -> None:
    async def use_store() -> None:
        release = far.open()
        expected = await release.find([QUERY])
        for proxy in proxies:
            proxy.interrupt()
        with pytest.raises(UnavailableError, match="does not answer"):
            await release.find([QUERY])
        with pytest.raises(UnavailableError):
            await release.points([expected[0][0].song.song_id])
        with pytest.raises(UnavailableError):
            await asyncio.to_thread(far.current)
        for proxy in proxies:
            proxy.restore()
        assert [hit.song for hit in (await patient(release))[0]] == [
            hit.song for hit in expected[0]
        ]
        release.close()
        await asyncio.sleep(0.05)

    with behind_proxies(store) as (far, proxies):
        run(use_store())
        assert far.current() == store.current()


async def patient(release: Any) -> Any:
    """Repeat a search until it succeeds."""
    end = time.monotonic() + 30
    while True:
        try:
            return await release.find([QUERY])
        except UnavailableError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)


def test_a_short_network_failure_does_not_stop_an_upload(
    store: ServerStore, tmp_path: Path
) -> None:
    other = made(tmp_path, seed=1)
    interruptions: list[float] = []
    with behind_proxies(store) as (far, proxies):

        def interrupt_once(done: float, _total: float | None) -> None:
            if not interruptions:
                interruptions.append(done)
                for proxy in proxies:
                    proxy.interrupt()
                threading.Timer(1.0, lambda: [proxy.restore() for proxy in proxies]).start()

        manifest = far.publish(other.draft, Notes(interrupt_once))
    assert interruptions
    assert store.current() == manifest.release
    assert store.verify(manifest.release, SilentReporter()) == manifest


# Separate servers that are killed, protected by keys, or full


@pytest.mark.usefixtures("qdrant_binary")
def test_a_server_killed_while_publishing(tmp_path: Path, content: Content) -> None:
    other = made(tmp_path, seed=1)
    (tmp_path / "q").mkdir()
    with Program(tmp_path / "q") as server:
        store = ServerStore(replace(options_of(server.url), timeout_s=2))
        store.publish(content.draft, SilentReporter())
        before, served = store.current(), answers(store)
        patience = server_store.PATIENCE_S

        def kill(_done: float, _total: float | None) -> None:
            server.kill()

        server_store.PATIENCE_S = 0.5
        try:
            with pytest.raises(UnavailableError):
                store.publish(other.draft, Notes(kill))
        finally:
            server_store.PATIENCE_S = patience
        server.start()
        assert (store.current(), answers(store)) == (before, served)
        again = ServerStore(store.options)
        manifest = again.publish(other.draft, SilentReporter())
        assert store.current() == manifest.release
        assert store.all_releases() == [before, manifest.release]
        assert store.verify(manifest.release, SilentReporter()) == manifest


@pytest.mark.usefixtures("qdrant_binary")
def test_permissions_of_api_keys(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        "QDRANT__SERVICE__API_KEY": "may-write",
        "QDRANT__SERVICE__READ_ONLY_API_KEY": "may-read",
    }
    with Program(tmp_path, **keys) as server:
        options = options_of(server.url)
        writer = ServerStore(replace(options, api_key="may-write"))
        reader = ServerStore(replace(options, api_key="may-read"))
        release = writer.publish(content.draft, SilentReporter()).release
        assert answers(reader) == answers(writer)
        assert reader.current() == release
        assert reader.verify(release, SilentReporter()).release == release
        with pytest.raises(EngineError, match=r"refuses to .*NEXTSONG_QDRANT_API_KEY"):
            reader.publish(content.draft, SilentReporter())
        for key in ("wrong", None):
            with pytest.raises(EngineError, match=r"refuses to .*NEXTSONG_QDRANT_API_KEY"):
                ServerStore(replace(options, api_key=key)).current()
        findings = list(examine(tmp_path, reader.options))
        assert "the key may not write" in [each.what for each in findings]
        assert {each.level for each in findings} == {"ok"}
        findings = list(examine(tmp_path, replace(options, api_key="wrong")))
        assert "refuses" in findings[-1].what
        assert "may-read" not in repr(reader.options)


@pytest.mark.usefixtures("qdrant_binary")
def test_a_full_disk_is_reported(tmp_path: Path, content: Content) -> None:
    with suppress(PermissionError, subprocess.CalledProcessError):
        small = tmp_path / "small"
        small.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(small)],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            pytest.skip("a small file system cannot be mounted here")
        try:
            with Program(small) as server:
                store = ServerStore(replace(options_of(server.url), timeout_s=5))
                draft = drafted(tmp_path, vectors_of(200_000, 64))
                with pytest.raises(StorageError, match=r"disk of Qdrant .* is full"):
                    store.publish(draft, SilentReporter())
        finally:
            subprocess.run(["umount", str(small)], check=True)
