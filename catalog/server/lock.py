"""The lock of a store on a Qdrant server, which only one publisher holds at a time.

The lock is a point with a holder and an expiry time, which the holder renews while it works. Qdrant
can overwrite a point on the condition that the stored point matches a filter. Therefore, if two
publishers try to get the lock at the same time, only one of them succeeds. Another publisher gets
the lock after it has expired, or at once if the holder was a process on the same machine that no
longer runs. The clocks of all publishers must agree to within `LEASE_S`.
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

from catalog.errors import BusyError, NextsongError
from catalog.server.connection import create_collection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from catalog.server.connection import Nodes

LEASE_S = 60.0
"""Seconds until a lock expires if it is not renewed."""

RENEW_S = 10.0
"""Seconds between two renewals."""

_POINT = 1
"""Id of the point that stores the lock."""


@contextmanager
def hold_lock(nodes: Nodes, collection: str, task: str, replicas: int | None) -> Iterator[Lease]:
    """Hold the lock inside this block. Raises `BusyError` if another process holds the lock.

    `collection` stores the lock, and is created with `replicas` replicas if it does not exist.
    `task` tells other publishers what the holder does, such as "publishing a release".
    """
    create_collection(
        nodes, collection, vectors_config={}, shard_number=1, replication_factor=replicas
    )
    lease = Lease(nodes, collection, task)
    stopped = threading.Event()
    # The thread is named after the token, so that `_has_ended` recognises locks of this process.
    renewal = threading.Thread(target=lease.renew, args=[stopped], name=lease.token, daemon=True)
    renewal.start()
    try:
        lease.acquire()
        yield lease
    finally:
        stopped.set()
        renewal.join()
        lease.release()


class Lease:
    """The lock as held by one task. `token` distinguishes the task from all other holders."""

    def __init__(self, nodes: Nodes, collection: str, task: str) -> None:
        self.token = uuid4().hex
        self._nodes = nodes
        self._collection = collection
        self._holder = f"{task} (process {os.getpid()} on {socket.gethostname()})"
        self._valid_until = 0.0  # a time of `time.monotonic`

    def acquire(self) -> None:
        """Acquire the lock. Raises `BusyError` if another process holds it."""
        past = models.FieldCondition(key="expires", range=models.Range(lt=time.time()))
        if self._write(models.Filter(must=[past])):
            return
        stored = read_lock(self._nodes, self._collection)
        if _has_ended(stored) and self._write(_has_token(str(stored.get("token")))):
            return
        left = max(0.0, float(stored.get("expires", 0)) - time.time())
        raise BusyError(
            f"{self._collection} is held by {stored.get('holder', 'another process')}: wait until "
            f"that process ends; if it has ended, wait {left:.0f} s until the lock expires"
        )

    def require(self) -> None:
        """Renew the lock. Raises `BusyError` if the lock was lost.

        A lock is lost if it expires, for example because the server does not answer for a long
        time.
        """
        if time.monotonic() >= self._valid_until or not self._write(_has_token(self.token)):
            raise BusyError(
                f"the lock {self._collection} was lost while the server did not answer: run again"
            )

    def renew(self, stopped: threading.Event) -> None:
        """Renew the lock until `stopped` is set. Lost locks are not reported (see `require`)."""
        while not stopped.wait(RENEW_S):
            with suppress(NextsongError):
                self._write(_has_token(self.token), once=True)

    def release(self) -> None:
        """Remove the lock if this task still holds it."""
        with suppress(NextsongError):
            self._nodes.request(
                "release the lock",
                lambda client: client.delete(
                    self._collection,
                    models.FilterSelector(filter=_has_token(self.token)),
                    ordering=models.WriteOrdering.STRONG,
                ),
                once=True,
            )

    def _write(self, replaceable: models.Filter, *, once: bool = False) -> bool:
        """Write the lock if no lock is stored, or if `replaceable` matches the stored lock.

        If `once`, each node is tried only once. Returns whether this task holds the lock now.
        """
        start = time.monotonic()
        payload = {
            "token": self.token,
            "holder": self._holder,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "expires": time.time() + LEASE_S,
        }
        point = models.PointStruct(id=_POINT, vector={}, payload=payload)
        self._nodes.request(
            "write the lock",
            lambda client: client.upsert(
                self._collection,
                [point],
                ordering=models.WriteOrdering.STRONG,
                update_filter=replaceable,
            ),
            once=once,
        )
        is_ours = read_lock(self._nodes, self._collection).get("token") == self.token
        if is_ours:
            self._valid_until = start + LEASE_S
        return is_ours


def read_lock(nodes: Nodes, collection: str) -> Mapping[str, Any]:
    """Return the payload of the stored lock (see `Lease._write`), or an empty one if it is free."""
    records = nodes.request(
        "read the lock",
        # The majority of the replicas is asked, because a single replica may be outdated.
        lambda client: client.retrieve(
            collection, [_POINT], consistency=models.ReadConsistencyType.MAJORITY
        ),
        once=True,
    )
    return records[0].payload or {} if records else {}


def _has_ended(stored: Mapping[str, Any]) -> bool:
    """Return whether the holder was a process of this machine that no longer runs.

    In containers, an earlier process often had the same process id as this process. This process
    holds the lock only if it has a thread that renews the lock, which is named after the token.
    """
    process = stored.get("process")
    if stored.get("host") != socket.gethostname() or not isinstance(process, int):
        return False
    if process == os.getpid():
        return stored.get("token") not in {thread.name for thread in threading.enumerate()}
    try:
        os.kill(process, 0)
    except OSError as error:  # PermissionError: the process runs as another user
        return isinstance(error, ProcessLookupError)
    return False


def _has_token(token: str) -> models.Filter:
    match = models.MatchValue(value=token)
    return models.Filter(must=[models.FieldCondition(key="token", match=match)])
