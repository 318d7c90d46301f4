"""Publishing to a real Qdrant server: interruption, continuation, and the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from qdrant_client import models

from catalog.console.progress import SilentReporter
from catalog.errors import BusyError
from catalog.server import lock as server_lock
from catalog.server import upload
from tests.support.embedded_releases import Notes
from tests.support.server_content import answers
from tests.support.store_content import SONGS, Content, made

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.draft import Draft
    from catalog.server.store import ServerStore


def test_an_interrupted_upload_is_continued(
    store: ServerStore, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "BATCH", 50)
    monkeypatch.setattr(upload, "UPLOADERS", 1)
    before = store.current()
    other = made(tmp_path, seed=1)

    def stop(done: float, _total: float | None) -> None:
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.publish(other.draft, Notes(stop))
    assert (store.current(), store.releases()) == (before, [before])
    (part,) = [release for release in store.all_releases() if release != before]
    upserts: list[int] = []
    upsert = store.nodes.client(store.options.urls[0]).upsert

    def counted(collection: str, points: Any, **more: Any) -> Any:
        upserts.append(len(points))
        return upsert(collection, points, **more)

    monkeypatch.setattr(store.nodes.client(store.options.urls[0]), "upsert", counted)
    manifest = store.publish(other.draft, SilentReporter())
    assert manifest.release == part == store.current()
    assert sum(size for size in upserts if size > 1) <= SONGS - 200
    assert store.verify(part, SilentReporter()) == manifest


def test_an_unfinished_upload_of_another_draft_is_removed(
    store: ServerStore, content: Content, tmp_path: Path
) -> None:
    def stop(_done: float, _total: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.publish(made(tmp_path, seed=1).draft, Notes(stop))
    assert len(store.all_releases()) == 2
    store.publish(content.draft, SilentReporter())
    assert store.all_releases() == store.releases()


def test_a_release_without_an_alias_is_made_current_by_the_next_run(
    store: ServerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.current()
    other = made(tmp_path, seed=1)

    def stop(_release: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "_move_alias", stop)
        with pytest.raises(KeyboardInterrupt):
            store.publish(other.draft, SilentReporter())
    assert store.current() == before
    waiting = store.releases()[-1]
    assert store.publish(other.draft, SilentReporter()).release == waiting == store.current()
    assert store.all_releases() == [before, waiting]


PUBLISHER = """
import pickle, sys
from catalog.server import upload
from catalog.server.store import ServerStore
from tests.support.embedded_releases import Notes
upload.BATCH, upload.UPLOADERS = 20, 1
options, draft = pickle.loads(bytes.fromhex(sys.argv[1]))
reporter = Notes(lambda done, total: print(done, flush=True))
print(ServerStore(options).publish(draft, reporter).release, flush=True)
"""


def publisher(store: ServerStore, draft: Draft) -> subprocess.Popen[str]:
    import pickle

    argument = pickle.dumps((store.options, draft)).hex()
    command = [sys.executable, "-c", PUBLISHER, argument]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_next_publisher_finishes_the_upload_of_a_killed_one(
    store: ServerStore, tmp_path: Path
) -> None:
    before, served = store.current(), answers(store)
    other = made(tmp_path, seed=1)
    with publisher(store, other.draft) as child:
        assert child.stdout is not None
        while float(child.stdout.readline()) < 100:
            pass
        os.kill(child.pid, signal.SIGKILL)
    assert (store.current(), answers(store)) == (before, served)
    # The lock is still valid for a minute, but its holder, a process of this machine, has ended.
    manifest = store.publish(other.draft, SilentReporter())
    assert store.current() == manifest.release
    assert store.all_releases() == [before, manifest.release]


def test_an_expired_lock_is_taken_over(store: ServerStore, content: Content) -> None:
    lock = f"{store.options.prefix}_lock"

    def held_until(expires: float) -> None:
        payload = {"token": "t", "holder": "another (process 1 on elsewhere)", "expires": expires}
        point = models.PointStruct(id=1, vector={}, payload=payload)
        store.nodes.request("", lambda client: client.upsert(lock, [point]))

    held_until(time.time() + 30)
    with pytest.raises(
        BusyError, match=r"another \(process 1 on elsewhere\).* s until the lock expires"
    ):
        store.publish(content.draft, SilentReporter())
    with pytest.raises(BusyError):
        store.prune(0)
    held_until(time.time() - 1)
    store.publish(content.draft, SilentReporter())


def test_the_alias_is_not_moved_after_the_lock_was_lost(
    store: ServerStore, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.current()

    def steal(done: float, _total: float | None) -> None:
        thief = {"token": "thief", "holder": "thief", "expires": time.time() + 0.1}
        point = models.PointStruct(id=1, vector={}, payload=thief)
        store.nodes.request(
            "", lambda client: client.upsert(f"{store.options.prefix}_lock", [point])
        )

    with pytest.raises(BusyError, match="lost"):
        store.publish(content.draft, Notes(steal))
    assert store.current() == before


def test_the_lock_is_renewed(
    store: ServerStore, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_lock, "LEASE_S", 2.0)
    monkeypatch.setattr(server_lock, "RENEW_S", 0.3)
    with server_lock.hold_lock(
        store.nodes, f"{store.options.prefix}_lock", "a test", None
    ) as lease:
        time.sleep(2.5)
        with pytest.raises(BusyError):
            store.publish(content.draft, SilentReporter())
        lease.require()
