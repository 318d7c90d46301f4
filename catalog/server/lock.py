"""One writer at a time on a Qdrant server: a point that says who holds the home, and until when.

The engine changes the point only where its lease has run out, so of two who ask at once one gets
it. The lease of a process that was killed on this machine is taken over at once. The clocks of
those who publish may differ by less than `LEASE_S`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from qdrant_client import models

from catalog.errors import BusyError, EngineError, NextsongError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.server.connection import Nodes

LEASE_S = 60.0
RENEW_S = 10.0
_POINT = 1
_HELD: set[str] = set()
"""The leases of this process."""


class Lease:
    """The right to change a home, renewed in the background until it is given back."""

    def __init__(self, nodes: Nodes, collection: str, task: str) -> None:
        self._nodes = nodes
        self._collection = collection
        self._token = uuid4().hex
        self._holder = f"{task} (process {os.getpid()} on {socket.gethostname()})"
        self._until = 0.0
        _HELD.add(self._token)

    def require(self) -> None:
        """Raise `BusyError` if the lease ran out, as when the server was away for long."""
        if time.monotonic() >= self._until or not self._write(_has_token(self._token)):
            raise BusyError(
                f"the lock {self._collection} was lost while the server did not answer: run again"
            )

    def take(self) -> None:
        """Take the lease; raises `BusyError` while another holds it."""
        past = models.FieldCondition(key="expires", range=models.Range(lt=time.time()))
        if not self._write(models.Filter(must=[past])):
            held = self._read()
            if _is_gone(held) and self._write(_has_token(str(held.get("token")))):
                return
            left = max(0.0, float(held.get("expires", 0)) - time.time())
            raise BusyError(
                f"{self._collection} is held: {held.get('holder', 'another process')}; wait for it "
                f"to end, or, if it is gone, {left:.0f} s for its lease to run out"
            )

    def renew(self, stopped: threading.Event) -> None:
        """Renew the lease until `stopped`; what fails is noticed by `require`."""
        while not stopped.wait(RENEW_S):
            with suppress(NextsongError):
                self._write(_has_token(self._token), hurry=True)

    def give_back(self) -> None:
        """End the lease at once."""
        with suppress(NextsongError):
            self._write(_has_token(self._token), hurry=True, lease_s=0.0)
        _HELD.discard(self._token)

    def _write(
        self, only_if: models.Filter, *, hurry: bool = False, lease_s: float | None = None
    ) -> bool:
        """Set the point where it passes `only_if` or is not there; whether it is ours now."""
        asked_at = time.monotonic()
        lease_s = LEASE_S if lease_s is None else lease_s
        payload = {
            "token": self._token,
            "holder": self._holder,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "expires": time.time() + lease_s,
        }
        point = models.PointStruct(id=_POINT, vector={}, payload=payload)
        self._nodes.ask(
            "take the lock",
            lambda client: client.upsert(
                self._collection,
                [point],
                wait=True,
                ordering=models.WriteOrdering.STRONG,
                update_filter=only_if,
            ),
            hurry=hurry,
        )
        ours = self._read().get("token") == self._token
        if ours:
            self._until = asked_at + lease_s
        return ours

    def _read(self) -> dict[str, Any]:
        records = self._nodes.ask(
            "read the lock",
            # A replica that was away may not know yet who holds it.
            lambda client: client.retrieve(
                self._collection, [_POINT], consistency=models.ReadConsistencyType.MAJORITY
            ),
            hurry=True,
        )
        return dict(records[0].payload or {}) if records else {}


def _is_gone(held: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and ended without giving the lease back."""
    process = held.get("process")
    if held.get("host") != socket.gethostname() or not isinstance(process, int):
        return False
    if process == os.getpid():
        return held.get("token") not in _HELD
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _has_token(token: str) -> models.Filter:
    match = models.MatchValue(value=token)
    return models.Filter(must=[models.FieldCondition(key="token", match=match)])


@contextmanager
def leased(nodes: Nodes, collection: str, task: str, replicas: int | None) -> Iterator[Lease]:
    """Hold the home for `task`; raises `BusyError` while another does."""
    _make(nodes, collection, replicas)
    lease = Lease(nodes, collection, task)
    try:
        lease.take()
    except NextsongError:
        lease.give_back()
        raise
    stopped = threading.Event()
    renewal = threading.Thread(target=lease.renew, args=(stopped,), daemon=True)
    renewal.start()
    try:
        yield lease
    finally:
        stopped.set()
        renewal.join()
        lease.give_back()


def _make(nodes: Nodes, collection: str, replicas: int | None) -> None:
    def exists() -> bool:
        return nodes.ask("look for the lock", lambda client: client.collection_exists(collection))

    if exists():
        return
    try:
        nodes.ask(
            "make the lock",
            lambda client: client.create_collection(
                collection, vectors_config={}, shard_number=1, replication_factor=replicas
            ),
        )
    except EngineError:
        if not exists():  # or else another made it just now
            raise
