"""Admission of calls by their work: a large call takes several slots."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import pytest

from catalog.errors import OverloadError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.api.validation import SPELLING_WORK, estimate_work
from service.rpc.interceptors import admission
from service.rpc.interceptors.admission import Admission
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_servers import PATIENCE_S, POINTS, WATERLOO, Loop, SlowRelease, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.model import Hit, Search

SEED = pb.Seed(artist="ABBA", title="Waterloo")


def build_playlist(seeds: int, **fields: object) -> pb.RecommendRequest:
    return pb.RecommendRequest(seeds=[SEED] * seeds, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "work"),
    [
        (build_playlist(20), 30),
        (build_playlist(20, limit=500), 520),
        (build_playlist(20, limit=500, diversity=0.1), 2_520),
        (build_playlist(20, limit=500, max_per_artist=1, diversity=0.1), 2_520),
        (build_playlist(20, limit=500, min_artist_gap=1), 2_520),
        # A limit above the maximum counts as the maximum.
        (build_playlist(20, limit=2**31 - 1), 520),
        (build_playlist(20, limit=-5), 30),
        (pb.BatchRecommendRequest(requests=[build_playlist(100)] * 100), 11_000),
        (pb.BatchRecommendRequest(requests=[build_playlist(0)] * 100_000), 1_010),
        (pb.RecordPlaysRequest(plays=[pb.Play(song=SEED)] * 1_000), 1_000),
        (build_playlist(5, suggestions=3), 15 + 5 * SPELLING_WORK),
        (build_playlist(1_000, suggestions=10), 1_010 + 10 * SPELLING_WORK),
        (pb.SearchSongsRequest(query="x", limit=500), 0),
        (pb.SearchSongsRequest(query="x", fuzzy=True), SPELLING_WORK),
        (pb.SimilarSongsRequest(song=SEED), SPELLING_WORK),
        (pb.GetReleaseRequest(), 0),
    ],
    ids=range(16),
)
def test_the_estimated_work_of_a_request(request_: object, work: int) -> None:
    assert estimate_work(request_) == work


def count_admitted(capacity: int, *works: int) -> int:
    """Return the number of concurrent calls that are admitted, given the work of each call."""
    slots = Admission(capacity)
    with ExitStack() as under_way:
        for number, work in enumerate(works):
            try:
                under_way.enter_context(slots.admit(work))
            except OverloadError:
                return number
    return len(works)


def test_a_large_call_takes_several_slots() -> None:
    unit = admission.WORK_PER_SLOT
    assert count_admitted(4, 0, 0, 0, 0, 0) == 4
    assert count_admitted(4, unit, unit, unit, unit, 0) == 4
    assert count_admitted(4, unit + 1, unit + 1, 0) == 2
    assert count_admitted(4, 4 * unit, 0) == 1
    assert count_admitted(4, 1, 4 * unit) == 1


def test_any_call_is_admitted_alone_and_frees_its_slots() -> None:
    slots = Admission(2)
    for _ in range(3):
        with (
            slots.admit(1_000_000),
            pytest.raises(OverloadError, match="2 calls at a time, and a large call"),
        ):
            slots.admit(0).__enter__()
    with pytest.raises(ZeroDivisionError), slots.admit(5_000):
        raise ZeroDivisionError
    assert count_admitted(2, 0, 0) == 2
    with slots.admit(0), slots.admit(0):
        pass


def test_a_large_batch_leaves_few_slots(loop: Loop) -> None:
    release = SlowRelease(POINTS)
    requests = [build_playlist(500, limit=10)] * 4  # a batch of these requests takes three slots
    batch = pb.BatchRecommendRequest(requests=requests)
    with (
        loop.serve(FakeStore(release), max_concurrency=4, grace=PATIENCE_S) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        first = stub.BatchRecommend.future(batch, timeout=PATIENCE_S)
        wait_until(lambda: release.call_counts.get("points", 0) == 1)
        second = stub.Recommend.future(WATERLOO, timeout=PATIENCE_S)
        wait_until(lambda: release.call_counts.get("points", 0) == 2)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Recommend(WATERLOO, timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        release.may_answer.set()
        assert len(first.result().responses) == 4
        assert second.result().songs
        assert stub.Recommend(WATERLOO, timeout=PATIENCE_S).songs


class BlockingRelease(FakeRelease):
    """A release whose searches block the event loop, like searches in the embedded engine."""

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        time.sleep(0.02)
        return await super().find(searches)


def test_calls_above_capacity_are_refused_although_searches_block_the_event_loop(
    loop: Loop,
) -> None:
    store = FakeStore(BlockingRelease(POINTS))
    with (
        loop.serve(store, max_concurrency=4) as server,
        grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel,
    ):
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        calls = [stub.Recommend.future(WATERLOO, timeout=PATIENCE_S) for _ in range(100)]
        codes = Counter(call.code() for call in calls)
    assert codes.keys() == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
