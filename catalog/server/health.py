"""Checks of the collections on a Qdrant server, for `nextsong doctor`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from qdrant_client import models

from catalog.errors import CorruptReleaseError
from catalog.server.indexing import read_cluster, replica_states
from catalog.server.lock import read_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.server.store import ServerStore

    Check = tuple[Literal["ok", "warning", "failure"], str, str]


def check_collections(store: ServerStore) -> Iterator[Check]:
    """Yield the result of each check: a level, an observation, and advice.

    Unfinished uploads, the current release, the collection of users' plays and the lock of
    publishers are checked. The advice is empty if nothing needs to be done.
    """
    try:
        current = store.current()
    except CorruptReleaseError:
        current = None  # another check of `nextsong doctor` reports a damaged alias
    finished = set(store.releases())
    for release in store.all_releases():
        name = store.collection(release)
        if release not in finished:
            yield (
                "warning",
                f"{name} is an upload that did not finish",
                "`nextsong ingest run` finishes or removes it",
            )
        elif release == current:
            yield from _check_current(store, name)
    yield from _check_history(store)
    yield from _check_lock(store)


def _check_current(store: ServerStore, name: str) -> Iterator[Check]:
    info = store.nodes.request("read the release", lambda client: client.get_collection(name))
    yield _check_status(name, info)
    strict = info.config.strict_mode_config
    if strict is None or not strict.enabled:
        yield "warning", f"strict mode of {name} is off", "publish again: new releases turn it on"
    yield _check_replicas(name, read_cluster(store.nodes, name))


def _check_status(name: str, info: models.CollectionInfo) -> Check:
    indexed = f"{info.indexed_vectors_count or 0:,} vectors indexed"
    segments = f"{info.segments_count} segments"
    if info.status == models.CollectionStatus.RED:
        return "failure", f"{name} is red: {info.optimizer_status}", "see the log of the server"
    if info.status == models.CollectionStatus.GREEN:
        return "ok", f"{name}: green, {indexed} (small segments need no index), {segments}", ""
    advice = "wait; a grey collection is optimized after the next write"
    return "warning", f"{name}: {info.status.value}, {indexed} so far, {segments}", advice


def _check_replicas(name: str, cluster: models.CollectionClusterInfo) -> Check:
    states = replica_states(cluster)
    inactive = sum(state != models.ReplicaState.ACTIVE for state in states)
    text = f"{name}: {cluster.shard_count} shards, {len(states)} replicas"
    if inactive:
        return "warning", f"{text}, {inactive} not active", "check the nodes of the cluster"
    return "ok", f"{text}, all active", ""


def _check_history(store: ServerStore) -> Iterator[Check]:
    name = f"{store.options.prefix}-history"
    if not store.nodes.request(
        "look up the history", lambda client: client.collection_exists(name)
    ):
        return
    info = store.nodes.request("read the history", lambda client: client.get_collection(name))
    missing = {"user", "at_ms"} - info.payload_schema.keys()
    text = f"{name}: {info.status.value}, {info.points_count or 0:,} plays"
    if info.status == models.CollectionStatus.RED:
        yield "failure", f"{text}: {info.optimizer_status}", "see the log of the server"
    elif missing:
        fields = " and ".join(sorted(missing))
        yield "warning", f"{text}, no index of {fields}", "restart the service, which creates it"
    else:
        yield "ok", text, ""


def _check_lock(store: ServerStore) -> Iterator[Check]:
    name = f"{store.options.prefix}_lock"
    if not store.nodes.request("look up the lock", lambda client: client.collection_exists(name)):
        return
    lock = read_lock(store.nodes, name)
    left = float(lock.get("expires", 0)) - time.time()
    if left > 0:
        yield "ok", f"locked by {lock.get('holder')}, for {left:.0f} s unless renewed", ""
