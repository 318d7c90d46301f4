"""The home on a real Qdrant server: what is only true there, and what can go wrong there."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from qdrant_client import models
from test_homes import SONGS, VECTOR, WEIGHTS, Content, content, made

from catalog import qdrant, server_lock, server_upload
from catalog.doctor import examine
from catalog.errors import (
    BusyError,
    CorruptReleaseError,
    EngineError,
    NoReleaseError,
    StorageError,
    UnavailableError,
)
from catalog.qdrant_options import Layout
from catalog.release import Search
from catalog.reporting import Silent
from catalog.server import ServerHome
from embedded_fixtures import Notes, drafted, run, vectors_of
from qdrant_fixtures import (
    Program,
    Shared,
    needs_binary,
    options_of,
    qdrant_url,
    server_homes,
    wipe,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from catalog.draft import Draft

__all__ = ["content", "qdrant_url", "server_homes"]

QUERY = Search(VECTOR, WEIGHTS, limit=30)


@pytest.fixture
def home(server_homes: Shared, content: Content) -> ServerHome:
    home = server_homes()
    home.publish(content.draft, Silent())
    return home


def name_of(home: ServerHome) -> str:
    return home.collection(home.current() or "")


def answers(home: ServerHome) -> list[str]:
    release = home.open()
    (hits,) = run(release.find([QUERY]))
    release.close()
    return [str(hit.song.song_id) for hit in hits]


# How it is kept.


def test_the_collection_is_as_it_should_be(home: ServerHome) -> None:
    info = home.nodes.ask("look", lambda client: client.get_collection(name_of(home)))
    indexed = {name: index.data_type.value for name, index in info.payload_schema.items()}
    assert indexed == {
        "artist_key": "keyword",
        "ordinal": "integer",
        "playlists": "integer",
        "search_text": "text",
        "genre": "keyword",
        "year": "integer",
        "tempo": "float",
        "notes": "text",
    }
    assert info.config.strict_mode_config is not None
    assert info.config.strict_mode_config.enabled
    assert info.config.optimizer_config.indexing_threshold == server_upload.INDEXING_THRESHOLD_KB
    assert info.config.metadata is not None
    assert info.config.metadata["manifest"]["release"] == home.current()
    unindexed = models.FieldCondition(key="title", match=models.MatchValue(value="x"))
    with pytest.raises(EngineError, match="title"):
        home.nodes.ask(
            "search",
            lambda client: client.scroll(
                name_of(home), scroll_filter=models.Filter(must=[unindexed])
            ),
        )


def test_many_vectors_are_indexed_before_the_release_is_current(
    server_homes: Shared, tmp_path: Path
) -> None:
    home = server_homes(layout=Layout(storage="quantized"))
    draft = drafted(tmp_path, vectors_of(6_000, 200))
    notes = Notes()
    release = home.publish(draft, notes).release
    info = home.nodes.ask("look", lambda client: client.get_collection(name_of(home)))
    assert info.indexed_vectors_count == 6_000
    assert f"6,000 songs, 6,000 vectors indexed, in release {release}" in notes.results[0]
    vectors = info.config.params.vectors
    assert isinstance(vectors, dict)
    assert vectors["song"].on_disk
    assert vectors["song"].quantization_config is not None
    assert home.manifest(release).recall == pytest.approx(1.0, abs=0.03)
    assert home.verify(release, Silent()).counts.songs == 6_000


def test_several_shards_answer_as_one(
    server_homes: Shared, home: ServerHome, content: Content
) -> None:
    sharded = server_homes(layout=Layout(shards=3, replicas=1, write_consistency=1, storage="disk"))
    sharded.publish(content.draft, Silent())
    assert answers(sharded) == answers(home)
    info = sharded.nodes.ask("look", lambda client: client.get_collection(name_of(sharded)))
    assert info.config.params.shard_number == 3


def test_a_snapshot_brings_a_release_back(home: ServerHome, content: Content) -> None:
    release, name, before = home.current() or "", name_of(home), answers(home)
    address = home.options.urls[0]
    with httpx.Client(base_url=address, timeout=60) as http:
        snapshot = http.post(f"/collections/{name}/snapshots").raise_for_status().json()
        file = http.get(f"/collections/{name}/snapshots/{snapshot['result']['name']}").content
        home.publish(content.draft, Silent())
        home.nodes.ask("lose it", lambda client: client.delete_collection(name))
        assert release not in home.releases()
        upload = {"snapshot": ("release.snapshot", file)}
        http.post(
            f"/collections/{name}/snapshots/upload", params={"priority": "snapshot"}, files=upload
        ).raise_for_status()
    assert release in home.releases()
    home.verify(release, Silent())
    assert home.rollback(release) == release
    assert answers(home) == before


# What is noticed.

FIRST = "ordinal"


def point(home: ServerHome, content: Content) -> str:
    return str(content.songs[3].song_id)


def lose_a_song(home: ServerHome, content: Content) -> None:
    chosen: Any = [point(home, content)]
    home.nodes.ask(
        "", lambda client: client.delete(name_of(home), models.PointIdsList(points=chosen))
    )


def rename_a_song(home: ServerHome, content: Content) -> None:
    chosen: Any = [point(home, content)]
    home.nodes.ask(
        "", lambda client: client.set_payload(name_of(home), {"title": "x"}, points=chosen)
    )


def bend_a_vector(home: ServerHome, content: Content) -> None:
    moved = vectors_of(1, 12, seed=5)[0].tolist()
    changed = models.PointVectors(id=point(home, content), vector={"song": moved})
    home.nodes.ask("", lambda client: client.update_vectors(name_of(home), [changed]))


def bend_all_vectors(home: ServerHome, content: Content) -> None:
    for song, vector in zip(content.songs, content.vectors, strict=True):
        if vector is not None and str(song.song_id) in home.manifest(home.current() or "").canaries:
            gone: Any = [str(song.song_id)]
            home.nodes.ask(
                "", lambda client, gone=gone: client.delete_vectors(name_of(home), ["song"], gone)
            )
            return


def drop_an_index(home: ServerHome, content: Content) -> None:
    home.nodes.ask("", lambda client: client.delete_payload_index(name_of(home), "genre"))


def forge_the_manifest(home: ServerHome, content: Content) -> None:
    forged = {"manifest": {"dimensions": -1}}
    home.nodes.ask("", lambda client: client.update_collection(name_of(home), metadata=forged))


@pytest.mark.parametrize(
    ("tamper", "said", "opens"),
    [
        (lose_a_song, f"it holds {SONGS - 1} songs of {SONGS}", False),
        (rename_a_song, "a song was changed", True),
        (bend_a_vector, "a song was changed", True),
        (bend_all_vectors, "cannot be found by its own vector", False),
        (drop_an_index, "the field genre has no keyword index", False),
        (forge_the_manifest, "not a manifest", False),
    ],
)
def test_what_was_tampered_with(
    home: ServerHome,
    content: Content,
    tamper: Callable[[ServerHome, Content], None],
    said: str,
    opens: bool,
) -> None:
    tamper(home, content)
    with pytest.raises(CorruptReleaseError, match=said):
        home.verify(home.current() or "", Silent())
    if opens:
        home.open().close()
    else:
        with pytest.raises(CorruptReleaseError, match=said):
            home.open()
    again = home.publish(content.draft, Silent())
    assert home.verify(again.release, Silent()) == again


def test_an_alias_to_something_else(home: ServerHome) -> None:
    other = f"{home.options.prefix}_mine"
    home.nodes.ask("", lambda client: client.create_collection(other, vectors_config={}))
    alias = models.CreateAlias(collection_name=other, alias_name=home.options.prefix)
    gone = models.DeleteAlias(alias_name=home.options.prefix)
    home.nodes.ask(
        "",
        lambda client: client.update_collection_aliases(
            [
                models.DeleteAliasOperation(delete_alias=gone),
                models.CreateAliasOperation(create_alias=alias),
            ]
        ),
    )
    with pytest.raises(CorruptReleaseError, match="no release"):
        home.current()


def test_the_current_release_was_removed(home: ServerHome) -> None:
    release = home.open()
    home.nodes.ask("", lambda client: client.delete_collection(name_of(home)))
    with pytest.raises(NoReleaseError, match="is not on the server any more"):
        run(release.find([QUERY]))
    assert home.current() is None  # the alias went with it
    with pytest.raises(NoReleaseError):
        home.open()


@pytest.mark.parametrize("version", ["1.16.3", "0.11.0", "2.0.0", "nonsense", ""])
def test_versions_that_cannot_be_used(version: str) -> None:
    with pytest.raises(EngineError, match=r"needs 1\.17 or later below 2\.0 .*upgrade"):
        qdrant.require_version(version, "http://q")


@pytest.mark.parametrize("version", ["1.17.0", "1.19.2", "1.100.0-dev"])
def test_versions_that_can_be_used(version: str) -> None:
    qdrant.require_version(version, "http://q")


def test_a_server_that_is_too_old(
    home: ServerHome, server_homes: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant, "OLDEST", (1, 99))
    late = server_homes.again(home)
    with pytest.raises(EngineError, match=r"is version 1\..*needs 1\.99"):
        late.current()
    findings = list(examine(Path(), home.options))
    assert "upgrade it" in next(each.what for each in findings if each.level == "failure")


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant, "PAUSE_S", 0.01)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        options = options_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UnavailableError, match=r"does not answer .*does it run"):
            ServerHome(replace(options, timeout_s=1)).current()
        findings = list(examine(tmp_path, replace(options, timeout_s=1)))
    assert [each.level for each in findings][-2:] == ["warning", "failure"]


def test_doctor_finds_a_healthy_home_healthy(home: ServerHome, tmp_path: Path) -> None:
    findings = list(examine(tmp_path, home.options))
    # A server that is not on this machine is rightly said to need a key.
    others = [each for each in findings if "is asked without a key" not in each.what]
    assert {each.level for each in others} == {"ok"}
    text = "\n".join(each.what for each in findings)
    for part in ("answers at", "may write" if home.options.api_key else "writing needs no key"):
        assert part in text
    assert f"release {home.current()} (current): {SONGS} songs, all as published" in text
    assert "green" in text


def test_doctor_says_what_is_wrong(home: ServerHome, content: Content, tmp_path: Path) -> None:
    rename_a_song(home, content)
    part = f"{home.options.prefix}_20260101T000000000-abcdef01"
    home.nodes.ask(
        "",
        lambda client: client.create_collection(
            part, vectors_config={}, metadata={"state": "uploading"}
        ),
    )
    findings = list(examine(tmp_path, home.options))
    broken = next(each for each in findings if each.level == "failure")
    assert "a song was changed" in broken.what
    assert "no older one is kept" in broken.advice
    assert f"{part} is an upload that did not finish" in [each.what for each in findings]


# Interruptions.


def test_an_interrupted_upload_goes_on_where_it_was(
    home: ServerHome, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_upload, "BATCH", 50)
    monkeypatch.setattr(server_upload, "UPLOADERS", 1)
    before = home.current()
    other = made(tmp_path, seed=1)

    def stop(done: float, _total: float | None) -> None:
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        home.publish(other.draft, Notes(stop))
    assert (home.current(), home.releases()) == (before, [before])
    (part,) = [release for release in home.all_releases() if release != before]
    put = server_upload.point_of
    sent: list[str] = []

    def spied(row: Any) -> Any:
        sent.append(row["song_id"])
        return put(row)

    upserts: list[int] = []
    upsert = home.nodes.client(home.options.urls[0]).upsert

    def counted(collection: str, points: Any, **more: Any) -> Any:
        upserts.append(len(points))
        return upsert(collection, points, **more)

    monkeypatch.setattr(home.nodes.client(home.options.urls[0]), "upsert", counted)
    monkeypatch.setattr(server_upload, "point_of", spied)
    manifest = home.publish(other.draft, Silent())
    assert manifest.release == part == home.current()
    assert sum(size for size in upserts if size > 1) <= SONGS - 200
    assert home.verify(part, Silent()) == manifest


def test_what_another_draft_left_is_removed(
    home: ServerHome, content: Content, tmp_path: Path
) -> None:
    def stop(_done: float, _total: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        home.publish(made(tmp_path, seed=1).draft, Notes(stop))
    assert len(home.all_releases()) == 2
    home.publish(content.draft, Silent())
    assert home.all_releases() == home.releases()


def test_stopped_between_manifest_and_alias(
    home: ServerHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.current()
    other = made(tmp_path, seed=1)

    def stop(_release: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(home, "_point_at", stop)
        with pytest.raises(KeyboardInterrupt):
            home.publish(other.draft, Silent())
    assert home.current() == before
    waiting = home.releases()[-1]
    assert home.publish(other.draft, Silent()).release == waiting == home.current()
    assert home.all_releases() == [before, waiting]


PUBLISHER = """
import pickle, sys
from catalog import server_upload
from catalog.reporting import Silent
from catalog.server import ServerHome
server_upload.BATCH, server_upload.UPLOADERS = 20, 1
options, draft = pickle.loads(bytes.fromhex(sys.argv[1]))

class Says(Silent):
    def task(self, title):
        task = super().task(title)
        class Telling:
            def __enter__(self): task.__enter__(); return self
            def __exit__(self, *error): return task.__exit__(*error)
            def advance(self, done, total=None): print(done, flush=True)
            def result(self, text): pass
        return Telling()

print(ServerHome(options).publish(draft, Says()).release, flush=True)
"""


def publisher(home: ServerHome, draft: Draft) -> subprocess.Popen[str]:
    import pickle

    argument = pickle.dumps((home.options, draft)).hex()
    command = [sys.executable, "-c", PUBLISHER, argument]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_publisher_leaves_the_old_release_and_the_next_finishes(
    home: ServerHome, tmp_path: Path
) -> None:
    before, served = home.current(), answers(home)
    other = made(tmp_path, seed=1)
    with publisher(home, other.draft) as child:
        assert child.stdout is not None
        while float(child.stdout.readline()) < 100:
            pass
        os.kill(child.pid, signal.SIGKILL)
    assert (home.current(), answers(home)) == (before, served)
    # Its lease would last a minute, but it ran on this machine and is gone.
    manifest = home.publish(other.draft, Silent())
    assert home.current() == manifest.release
    assert home.all_releases() == [before, manifest.release]


def test_a_lease_that_ran_out_is_taken_over(home: ServerHome, content: Content) -> None:
    lock = f"{home.options.prefix}_lock"

    def held_until(expires: float) -> None:
        payload = {"token": "t", "holder": "another (process 1 on elsewhere)", "expires": expires}
        point = models.PointStruct(id=1, vector={}, payload=payload)
        home.nodes.ask("", lambda client: client.upsert(lock, [point]))

    held_until(time.time() + 30)
    with pytest.raises(BusyError, match=r"another \(process 1 on elsewhere\).* s for its lease"):
        home.publish(content.draft, Silent())
    with pytest.raises(BusyError):
        home.prune(0)
    held_until(time.time() - 1)
    home.publish(content.draft, Silent())


def test_a_lease_that_was_lost_moves_no_alias(
    home: ServerHome, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.current()

    def steal(done: float, _total: float | None) -> None:
        thief = {"token": "thief", "holder": "thief", "expires": time.time() + 0.1}
        point = models.PointStruct(id=1, vector={}, payload=thief)
        home.nodes.ask("", lambda client: client.upsert(f"{home.options.prefix}_lock", [point]))

    with pytest.raises(BusyError, match="lost"):
        home.publish(content.draft, Notes(steal))
    assert home.current() == before


def test_the_lease_is_renewed(
    home: ServerHome, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_lock, "LEASE_S", 2.0)
    monkeypatch.setattr(server_lock, "RENEW_S", 0.3)
    with server_lock.leased(home.nodes, f"{home.options.prefix}_lock", "a test", None) as lease:
        time.sleep(2.5)
        with pytest.raises(BusyError):
            home.publish(content.draft, Silent())
        lease.require()


# The network.


class Cable:
    """A TCP proxy in front of a port, that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._cut = False
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self._cut:
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

    def cut(self) -> None:
        self._cut = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self._closed = True
        self.cut()
        self._server.close()


@contextmanager
def cabled(home: ServerHome) -> Iterator[tuple[ServerHome, list[Cable]]]:
    """The same home over cables."""
    port = urlsplit(home.options.urls[0]).port or 6333
    cables = [Cable(port), Cable(home.options.grpc_port or port + 1)]
    url = f"http://127.0.0.1:{cables[0].port}"
    options = replace(home.options, urls=(url,), grpc_port=cables[1].port, timeout_s=2)
    try:
        yield ServerHome(options), cables
    finally:
        for cable in cables:
            cable.close()


def test_a_cut_network_is_said_and_survived(home: ServerHome) -> None:
    async def through() -> None:
        release = far.open()
        expected = await release.find([QUERY])
        for cable in cables:
            cable.cut()
        with pytest.raises(UnavailableError, match="does not answer"):
            await release.find([QUERY])
        with pytest.raises(UnavailableError):
            await release.points([expected[0][0].song.song_id])
        with pytest.raises(UnavailableError):
            await asyncio.to_thread(far.current)
        for cable in cables:
            cable.mend()
        assert [hit.song for hit in (await patient(release))[0]] == [
            hit.song for hit in expected[0]
        ]
        release.close()
        await asyncio.sleep(0.05)

    with cabled(home) as (far, cables):
        run(through())
        assert far.current() == home.current()


async def patient(release: Any) -> Any:
    """Ask until an answer comes."""
    end = time.monotonic() + 30
    while True:
        try:
            return await release.find([QUERY])
        except UnavailableError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)


def test_a_short_cut_does_not_stop_an_upload(home: ServerHome, tmp_path: Path) -> None:
    other = made(tmp_path, seed=1)
    cuts: list[float] = []
    with cabled(home) as (far, cables):

        def cut_once(done: float, _total: float | None) -> None:
            if not cuts:
                cuts.append(done)
                for cable in cables:
                    cable.cut()
                threading.Timer(1.0, lambda: [cable.mend() for cable in cables]).start()

        manifest = far.publish(other.draft, Notes(cut_once))
    assert cuts
    assert home.current() == manifest.release
    assert home.verify(manifest.release, Silent()) == manifest


# Servers of our own, to be killed, locked and filled.


@needs_binary
def test_a_server_killed_mid_publish(tmp_path: Path, content: Content) -> None:
    other = made(tmp_path, seed=1)
    (tmp_path / "q").mkdir()
    with Program(tmp_path / "q") as server:
        home = ServerHome(replace(options_of(server.url), timeout_s=2))
        home.publish(content.draft, Silent())
        before, served = home.current(), answers(home)
        patience = server_upload.PATIENCE_S

        def kill(_done: float, _total: float | None) -> None:
            server.kill()

        server_upload.PATIENCE_S = 0.5
        try:
            with pytest.raises(UnavailableError):
                home.publish(other.draft, Notes(kill))
        finally:
            server_upload.PATIENCE_S = patience
        server.start()
        assert (home.current(), answers(home)) == (before, served)
        again = ServerHome(home.options)
        manifest = again.publish(other.draft, Silent())
        assert home.current() == manifest.release
        assert home.all_releases() == [before, manifest.release]
        assert home.verify(manifest.release, Silent()) == manifest


@needs_binary
def test_keys_and_what_they_allow(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        "QDRANT__SERVICE__API_KEY": "may-write",
        "QDRANT__SERVICE__READ_ONLY_API_KEY": "may-read",
    }
    with Program(tmp_path, **keys) as server:
        options = options_of(server.url)
        writer = ServerHome(replace(options, api_key="may-write"))
        reader = ServerHome(replace(options, api_key="may-read"))
        release = writer.publish(content.draft, Silent()).release
        assert answers(reader) == answers(writer)
        assert reader.current() == release
        assert reader.verify(release, Silent()).release == release
        with pytest.raises(EngineError, match=r"refuses to .*NEXTSONG_QDRANT_API_KEY"):
            reader.publish(content.draft, Silent())
        for key in ("wrong", None):
            with pytest.raises(EngineError, match=r"refuses to .*NEXTSONG_QDRANT_API_KEY"):
                ServerHome(replace(options, api_key=key)).current()
        findings = list(examine(tmp_path, reader.options))
        assert "the key may not write" in [each.what for each in findings]
        assert {each.level for each in findings} == {"ok"}
        findings = list(examine(tmp_path, replace(options, api_key="wrong")))
        assert "refuses" in findings[-1].what
        assert "may-read" not in repr(reader.options)


@needs_binary
def test_a_full_disk_is_said(tmp_path: Path, content: Content) -> None:
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
                home = ServerHome(replace(options_of(server.url), timeout_s=5))
                draft = drafted(tmp_path, vectors_of(200_000, 64))
                with pytest.raises(StorageError, match=r"disk of Qdrant .* is full"):
                    home.publish(draft, Silent())
        finally:
            subprocess.run(["umount", str(small)], check=True)


def test_the_home_is_wiped(home: ServerHome) -> None:
    wipe(home)
    assert home.current() is None
    assert home.all_releases() == []
