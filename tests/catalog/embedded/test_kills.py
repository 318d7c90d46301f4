"""Killed publishers leave a complete release, and two publishers never run at the same time."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from catalog.console.progress import SilentReporter
from catalog.embedded import store as embedded_store
from catalog.embedded.store import EmbeddedStore
from catalog.errors import BusyError
from tests.support.embedded_releases import Library, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from catalog.draft import Draft

pytestmark = pytest.mark.slow


PUBLISH = """
import pickle, sys
from pathlib import Path
from catalog.embedded.store import EmbeddedStore
from catalog.console.progress import SilentReporter
home, draft = pickle.loads(bytes.fromhex(sys.argv[1]))
print("go", flush=True)
print(EmbeddedStore(home).publish(draft, SilentReporter()).release, flush=True)
"""


@contextmanager
def publisher(store: EmbeddedStore, draft: Draft) -> Iterator[subprocess.Popen[str]]:
    """Yield a separate process that is about to publish. The process is killed at the end."""
    argument = pickle.dumps((store.path, draft)).hex()
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISH, argument], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "go\n"
            yield child
        finally:
            child.kill()


def builders(store: EmbeddedStore) -> list[str]:
    """Return the command lines of the processes that build a release in this store."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # the process has ended
            continue
    return [one for one in commands if "catalog.embedded.build" in one and str(store.path) in one]


def test_a_kill_at_any_moment_leaves_a_complete_release(
    store: EmbeddedStore, small: Library
) -> None:
    chance = random.Random(20261123)
    for part in range(4):
        old = store.current()
        with publisher(store, small.draft) as child:
            time.sleep(small.seconds * 0.2 * (part + chance.random()))
            child.kill()
        release = store.open()
        # The old release is still current, or the new release is complete if the kill came too
        # late.
        assert release.manifest.release in {old, store.releases()[-1]}
        assert run(release.popular(1))[0].song == small.songs[0]
        release.close()
    new = store.publish(small.draft, SilentReporter()).release
    assert store.current() == new
    store.open().close()
    assert [path.name for path in (store.path / "releases").iterdir() if path.name[0] == "."] == []
    deadline = time.monotonic() + 20
    while builders(store) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert builders(store) == []


FOLLOW = '''
import subprocess, sys
code = """
import time
from catalog.embedded.build import _die_with_parent
_die_with_parent()
print("ready", flush=True)
time.sleep(120)
"""
child = subprocess.Popen([sys.executable, "-c", code])
print(child.pid, flush=True)
child.wait()
'''


def is_alive(process: Path) -> bool:
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux notifies a child when its parent ends"
)
def test_a_builder_dies_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOW], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        assert parent.stdout.readline() == "ready\n"
        assert is_alive(child)
        parent.kill()
    deadline = time.monotonic() + 30
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def killed(action: Callable[[], object]) -> None:
    """Run `action` in a child process, and assert that SIGKILL ends the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does not use the engine
        child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("place", "name", "is_published"),
    [
        (Path, "rename", False),
        (embedded_store, "sync_folder", False),
        (embedded_store, "write_atomically", False),
        (Path, "replace", False),
        (EmbeddedStore, "_prune", True),
    ],
    ids=["before rename", "after rename", "before pointer", "during pointer", "before pruning"],
)
def test_a_kill_at_each_step_leaves_a_complete_release(
    store: EmbeddedStore,
    small: Library,
    quick: Draft,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    is_published: bool,
) -> None:
    old = store.current()
    with monkeypatch.context() as patch:
        patch.setattr(place, name, die)
        killed(lambda: store.publish(quick, SilentReporter()))
    assert (store.current() != old) == is_published
    store.open().close()
    new = store.publish(quick, SilentReporter()).release
    assert store.current() == new
    store.open().close()
    left = [path.name for path in store.path.rglob(".*") if path.name != ".lock"]
    assert left == []


def test_a_kill_while_pruning_leaves_complete_releases(
    tmp_path: Path, quick: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddedStore(tmp_path / "home")
    published = [store.publish(quick, SilentReporter()).release for _ in range(3)]

    def half(folder: Path, **_: object) -> None:
        next(path for path in folder.rglob("*") if path.is_file()).unlink()
        die()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        killed(lambda: store.publish(quick, SilentReporter()))
    kept = store.releases()
    assert kept[:2] == published[1:]
    for release in kept:  # the partly removed release is not in `kept`
        store.open(release).close()
    store.publish(quick, SilentReporter())
    assert len(list((store.path / "releases").iterdir())) == 3


def test_two_publishers_at_once(store: EmbeddedStore, small: Library) -> None:
    old = store.current()
    with publisher(store, small.draft) as other:
        deadline = time.monotonic() + 60
        while not list((store.path / "releases").glob(".*.partial")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with pytest.raises(BusyError) as caught:
            store.publish(small.draft, SilentReporter())
        assert f"is in use: publishing a release (process {other.pid})" in str(caught.value)
        assert store.current() == old
        assert other.stdout is not None
        release = other.stdout.readline().strip()
        assert other.wait() == 0
    assert store.current() == release
    assert store.releases() == [old, release]
    store.open().close()
