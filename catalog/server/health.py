"""The state of the collections of a home: index, replicas, settings, lock, what is unfinished."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from qdrant_client import models

from catalog.errors import CorruptReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.server.store import ServerStore

    State = tuple[Literal["ok", "warning", "failure"], str, str]


def health(home: ServerStore) -> Iterator[State]:
    """What there is to say about each collection: level, what was found, what to do."""
    try:
        current = home.current()
    except CorruptReleaseError:
        current = None  # what is wrong with the alias is for others to say
    ready = set(home.releases())
    for release in home.all_releases():
        name = home.collection(release)
        if release not in ready:
            yield (
                "warning",
                f"{name} is an upload that did not finish",
                "`nextsong ingest run` finishes it, or removes it",
            )
            continue
        if release == current:
            yield from _of_current(home, name)
    yield from _history(home)
    yield from _lock(home)


def _of_current(home: ServerStore, name: str) -> Iterator[State]:
    info = home.nodes.ask("look at the release", lambda client: client.get_collection(name))
    status = info.status.value
    indexed = f"{info.indexed_vectors_count or 0:,} vectors indexed"
    segments = f"{info.segments_count} segments"
    if info.status == models.CollectionStatus.RED:
        yield "failure", f"{name} is red: {info.optimizer_status}", "look at the server's log"
    elif info.status == models.CollectionStatus.GREEN:
        yield "ok", f"{name}: green, {indexed} (small segments need no index), {segments}", ""
    else:
        wait = "wait; a grey one begins when it is next written to"
        yield "warning", f"{name}: {status}, {indexed} so far, {segments}", wait
    strict = info.config.strict_mode_config
    if strict is None or not strict.enabled:
        yield "warning", f"strict mode of {name} is off", "publish again: releases turn it on"
    cluster = home.nodes.ask(
        "look at the replicas", lambda client: client.collection_cluster_info(name)
    )
    states = [shard.state for shard in cluster.local_shards]
    states += [shard.state for shard in cluster.remote_shards]
    away = sum(state != models.ReplicaState.ACTIVE for state in states)
    text = f"{name}: {cluster.shard_count} shards, {len(states)} replicas"
    if away:
        yield "warning", f"{text}, {away} not active", "is a node of the cluster away?"
    else:
        yield "ok", f"{text}, all active", ""


def _history(home: ServerStore) -> Iterator[State]:
    name = f"{home.options.prefix}-history"
    if not home.nodes.ask("look for it", lambda client: client.collection_exists(name)):
        return
    info = home.nodes.ask("look at the history", lambda client: client.get_collection(name))
    missing = {"user", "at_ms"} - info.payload_schema.keys()
    text = f"{name}: {info.status.value}, {info.points_count or 0:,} plays"
    if info.status == models.CollectionStatus.RED:
        yield "failure", f"{text}: {info.optimizer_status}", "look at the server's log"
    elif missing:
        lacks = " and ".join(sorted(missing))
        yield "warning", f"{text}, no index of {lacks}", "restart the service, which makes it"
    else:
        yield "ok", text, ""


def _lock(home: ServerStore) -> Iterator[State]:
    name = f"{home.options.prefix}_lock"
    if not home.nodes.ask("look for the lock", lambda client: client.collection_exists(name)):
        return
    majority = models.ReadConsistencyType.MAJORITY
    records = home.nodes.ask(
        "read the lock", lambda client: client.retrieve(name, [1], consistency=majority)
    )
    held = dict(records[0].payload or {}) if records else {}
    left = float(held.get("expires", 0)) - time.time()
    if left > 0:
        yield "ok", f"held now: {held.get('holder')}, for {left:.0f} s unless renewed", ""
