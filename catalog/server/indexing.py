"""Let the server index the vectors of a collection, and wait for the index and the replicas."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from catalog.errors import EngineError

if TYPE_CHECKING:
    from catalog.console.progress import Task
    from catalog.draft import Draft
    from catalog.server.connection import Nodes

INDEXING_THRESHOLD_KB = 1_000
"""Size of vectors, in KB, above which a segment is indexed.

In smaller segments, searches compare all vectors."""

POLL_S = 0.25
"""Seconds between two requests for the state of a collection."""

STABLE_POLLS = 3
"""Number of successive polls in which the index must be complete and unchanged."""

IDLE_S, STUCK_S = 120.0, 6 * 3600.0
"""Maximum seconds without progress of the index, before publishing fails.

The first maximum applies while Qdrant's optimizer, which builds the index, is idle. The second
maximum applies while it works."""

NUDGE_S = 10.0
"""Seconds after which an idle optimizer is started again if the index is not complete."""

REPLICAS_S = 1800.0
"""Maximum seconds without a change in the states of the replicas, before publishing fails."""


class _Stopwatch:
    """Measure for how long a state has not changed."""

    def __init__(self) -> None:
        self._state: Any = None
        self._start = time.monotonic()

    def seconds_in(self, state: Any) -> float:
        """Return the number of seconds for which successive calls have had the same `state`."""
        now = time.monotonic()
        if state != self._state:
            self._state, self._start = state, now
        return now - self._start


def build_index(nodes: Nodes, collection: str, draft: Draft, task: Task) -> int:
    """Let the server index the vectors, wait for it, and return the number of indexed vectors.

    The number includes sparse vectors, which the server indexes during the upload. The status of a
    collection can be green, which means optimized, even before the dense vectors are indexed.
    Therefore, their index counts as complete when its state is stable and all dense vectors without
    an index would fit into segments that are too small to be indexed. `task` displays the progress.
    Raises `EngineError` if the optimizer fails or makes no progress.
    """
    vectors = draft.counts.vectors
    smallest_segment = INDEXING_THRESHOLD_KB * 1024 // (4 * draft.dimensions) + 1
    info = nodes.request("read the collection", lambda client: client.get_collection(collection))
    segments = info.segments_count + 1  # indexing adds an empty segment
    # All indexed vectors are sparse, unless an earlier run was interrupted while indexing.
    counts = draft.counts
    sparse = min(info.indexed_vectors_count or 0, counts.songs + counts.predicted)
    _start_indexing(nodes, collection, segments)
    stopwatch, stable_polls, indexed = _Stopwatch(), 0, 0
    started = time.monotonic()
    while stable_polls < STABLE_POLLS:
        time.sleep(POLL_S)
        info = nodes.request(
            "read the state of the index", lambda client: client.get_collection(collection)
        )
        if info.optimizer_status != models.OptimizersStatusOneOf.OK:
            raise EngineError(f"Qdrant failed to index {collection}: {info.optimizer_status}")
        indexed, status = info.indexed_vectors_count or 0, info.status.value
        unchanged_s = stopwatch.seconds_in((indexed, status))
        is_idle = info.status != models.CollectionStatus.YELLOW
        if unchanged_s > (IDLE_S if is_idle else STUCK_S):
            raise EngineError(
                f"Qdrant stopped indexing {collection} at {indexed - sparse:,} of {vectors:,} "
                f"vectors ({status}): see the log of the server, and run again"
            )
        if is_idle and min(unchanged_s, time.monotonic() - started) > NUDGE_S:
            _start_indexing(nodes, collection, segments)
            started = time.monotonic()
        is_complete = indexed - sparse >= vectors - smallest_segment * max(1, info.segments_count)
        is_stable = info.status == models.CollectionStatus.GREEN and unchanged_s > 0
        stable_polls = stable_polls + 1 if is_stable and is_complete else 0
        task.advance(min(indexed - sparse, vectors), vectors)
    await_replicas(nodes, collection)
    return indexed


def _start_indexing(nodes: Nodes, collection: str, segments: int) -> None:
    # With fewer than `segments` segments allowed, the optimizer would merge segments and index the
    # merged segments again.
    config = models.OptimizersConfigDiff(
        indexing_threshold=INDEXING_THRESHOLD_KB, default_segment_number=segments
    )
    nodes.request(
        "start indexing",
        lambda client: client.update_collection(collection, optimizers_config=config),
    )


def await_replicas(nodes: Nodes, collection: str) -> None:
    """Wait until all replicas of each shard are active.

    Raises `EngineError` if a replica is dead, or if the replicas make no progress.
    """
    stopwatch = _Stopwatch()
    while True:
        states = replica_states(read_cluster(nodes, collection))
        if models.ReplicaState.DEAD in states:
            raise EngineError(f"a replica of {collection} is dead: check the nodes of the cluster")
        if all(state == models.ReplicaState.ACTIVE for state in states):
            return
        if stopwatch.seconds_in(states) > REPLICAS_S:
            raise EngineError(
                f"the replicas of {collection} make no progress: see `nextsong doctor`, and run "
                f"again"
            )
        time.sleep(POLL_S)


def read_cluster(nodes: Nodes, collection: str) -> models.CollectionClusterInfo:
    """Return the shards of a collection, with the state and the node of each replica."""
    return nodes.request(
        "read the state of the replicas",
        lambda client: client.collection_cluster_info(collection),
    )


def replica_states(cluster: models.CollectionClusterInfo) -> list[models.ReplicaState]:
    """Return the state of each replica of each shard."""
    states = [shard.state for shard in cluster.local_shards]
    return states + [shard.state for shard in cluster.remote_shards]
