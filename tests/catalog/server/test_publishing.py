"""Publishing to a real Qdrant server: interrupted, continued, and by two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from qdrant_client import models

from catalog.errors import BusyError
from catalog.progress import SilentReporter
from catalog.server import lock as server_lock
from catalog.server import upload
from tests.support.embedded_releases import Notes
from tests.support.server_content import answers
from tests.support.store_content import SONGS, Content, made

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.draft import Draft
    from catalog.server.store import ServerStore


def test_an_interrupted_upload_goes_on_where_it_was(
    home: ServerStore, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "BATCH", 50)
    monkeypatch.setattr(upload, "UPLOADERS", 1)
    before = home.current()
    other = made(tmp_path, seed=1)

    def stop(done: float, _total: float | None) -> None:
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        home.publish(other.draft, Notes(stop))
    assert (home.current(), home.releases()) == (before, [before])
    (part,) = [release for release in home.all_releases() if release != before]
    upserts: list[int] = []
    upsert = home.nodes.client(home.options.urls[0]).upsert

    def counted(collection: str, points: Any, **more: Any) -> Any:
        upserts.append(len(points))
        return upsert(collection, points, **more)

    monkeypatch.setattr(home.nodes.client(home.options.urls[0]), "upsert", counted)
    manifest = home.publish(other.draft, SilentReporter())
    assert manifest.release == part == home.current()
    assert sum(size for size in upserts if size > 1) <= SONGS - 200
    assert home.verify(part, SilentReporter()) == manifest


def test_what_another_draft_left_is_removed(
    home: ServerStore, content: Content, tmp_path: Path
) -> None:
    def stop(_done: float, _total: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        home.publish(made(tmp_path, seed=1).draft, Notes(stop))
    assert len(home.all_releases()) == 2
    home.publish(content.draft, SilentReporter())
    assert home.all_releases() == home.releases()


def test_stopped_between_manifest_and_alias(
    home: ServerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.current()
    other = made(tmp_path, seed=1)

    def stop(_release: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(home, "_move_alias", stop)
        with pytest.raises(KeyboardInterrupt):
            home.publish(other.draft, SilentReporter())
    assert home.current() == before
    waiting = home.releases()[-1]
    assert home.publish(other.draft, SilentReporter()).release == waiting == home.current()
    assert home.all_releases() == [before, waiting]


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


def publisher(home: ServerStore, draft: Draft) -> subprocess.Popen[str]:
    import pickle

    argument = pickle.dumps((home.options, draft)).hex()
    command = [sys.executable, "-c", PUBLISHER, argument]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_publisher_leaves_the_old_release_and_the_next_finishes(
    home: ServerStore, tmp_path: Path
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
    manifest = home.publish(other.draft, SilentReporter())
    assert home.current() == manifest.release
    assert home.all_releases() == [before, manifest.release]


def test_a_lease_that_ran_out_is_taken_over(home: ServerStore, content: Content) -> None:
    lock = f"{home.options.prefix}_lock"

    def held_until(expires: float) -> None:
        payload = {"token": "t", "holder": "another (process 1 on elsewhere)", "expires": expires}
        point = models.PointStruct(id=1, vector={}, payload=payload)
        home.nodes.request("", lambda client: client.upsert(lock, [point]))

    held_until(time.time() + 30)
    with pytest.raises(
        BusyError, match=r"another \(process 1 on elsewhere\).* s until the lock expires"
    ):
        home.publish(content.draft, SilentReporter())
    with pytest.raises(BusyError):
        home.prune(0)
    held_until(time.time() - 1)
    home.publish(content.draft, SilentReporter())


def test_a_lease_that_was_lost_moves_no_alias(
    home: ServerStore, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.current()

    def steal(done: float, _total: float | None) -> None:
        thief = {"token": "thief", "holder": "thief", "expires": time.time() + 0.1}
        point = models.PointStruct(id=1, vector={}, payload=thief)
        home.nodes.request("", lambda client: client.upsert(f"{home.options.prefix}_lock", [point]))

    with pytest.raises(BusyError, match="lost"):
        home.publish(content.draft, Notes(steal))
    assert home.current() == before


def test_the_lease_is_renewed(
    home: ServerStore, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_lock, "LEASE_S", 2.0)
    monkeypatch.setattr(server_lock, "RENEW_S", 0.3)
    with server_lock.leased(home.nodes, f"{home.options.prefix}_lock", "a test", None) as lease:
        time.sleep(2.5)
        with pytest.raises(BusyError):
            home.publish(content.draft, SilentReporter())
        lease.require()
