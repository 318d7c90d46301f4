"""The server over a real channel: responses, refused calls, health and reflection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from catalog.errors import EngineError, RequestError, UnknownSongError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.client.client import Client, Direct
from service.rpc.health import SERVICE
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_servers import (
    NOBODY,
    NOT_SERVING,
    PATIENCE_S,
    POINTS,
    SERVING,
    WATERLOO,
    Loop,
    build_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.model import Hit, Point, Search
    from tests.support.road import Road, ServerRoad


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("server", marks=pytest.mark.server)]
)
def road(request: pytest.FixtureRequest) -> Road | ServerRoad:
    """The release to serve, in an embedded store or on a Qdrant server."""
    chosen: Road | ServerRoad = request.getfixturevalue(
        "road" if request.param == "embedded" else "server_road"
    )
    return chosen


@pytest.fixture(scope="module")
def address(road: Road | ServerRoad, loop: Loop) -> Iterator[str]:
    """The address of a server that answers from the release in the store of `road`."""
    with loop.serve(road.home) as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture(scope="module")
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


LONGEST_NAME = 512  # maximum number of characters of an artist or a title

# Responses of all methods


def test_all_methods_answer_as_without_a_server(
    client: Client, road: Road | ServerRoad, best_known: list[Point]
) -> None:
    song = best_known[0].song
    seeds = [pb.Seed(song_id=str(point.song.song_id)) for point in best_known[:3]]
    recommend = pb.RecommendRequest(seeds=seeds, limit=7)
    similar = pb.SimilarSongsRequest(song=pb.Seed(artist=song.artist, title=song.title))
    search = pb.SearchSongsRequest(query=song.artist)
    with Direct(road.home.open()) as direct:
        assert client.recommend(recommend) == direct.recommend(recommend)
        assert client.similar_songs(similar) == direct.similar_songs(similar)
        assert client.search_songs(search) == direct.search_songs(search)
        assert client.get_release() == direct.get_release()


def test_answers_are_complete(
    client: Client, road: Road | ServerRoad, best_known: list[Point]
) -> None:
    song = best_known[0].song
    recommended = client.recommend(
        pb.RecommendRequest(
            seeds=[pb.Seed(song_id=str(song.song_id))], limit=500, mode=pb.MODE_HYBRID
        )
    )
    with_vector = [point for point in best_known if point.vector is not None]
    assert len(with_vector) - 1 <= len(recommended.songs) <= len(best_known) - 1
    assert recommended.seeds[0].song.title == song.title
    similar = client.similar_songs(pb.SimilarSongsRequest(song=pb.Seed(song_id=str(song.song_id))))
    assert (similar.song.title, len(similar.songs)) == (song.title, 10)
    search = client.search_songs(pb.SearchSongsRequest(query=f"{song.artist} {song.title}"))
    assert str(song.song_id) in [result.song_id for result in search.songs]
    release = client.get_release().release
    assert release.songs == len(best_known)
    assert {release.id, recommended.release, similar.release, search.release} == {
        road.outcome.manifest.release
    }


def test_concurrent_calls_get_their_own_answers(
    loop: Loop, address: str, best_known: list[Point]
) -> None:
    requests = [
        pb.RecommendRequest(seeds=[pb.Seed(song_id=str(point.song.song_id))], limit=1)
        for point in best_known[:50]
    ]

    async def call_all_methods() -> list[pb.RecommendResponse]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            return await asyncio.gather(
                *(stub.Recommend(request, timeout=PATIENCE_S) for request in requests)
            )

    for request, response in zip(requests, loop.run(call_all_methods()), strict=True):
        assert response.seeds[0].song.song_id == request.seeds[0].song_id


# Refused calls


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RecommendRequest(), "seeds"),
        (pb.RecommendRequest(seeds=WATERLOO.seeds, limit=-1), "limit"),
        (pb.RecommendRequest(seeds=WATERLOO.seeds, limit=2**31 - 1), "limit"),
        (pb.RecommendRequest(seeds=[pb.Seed(song_id="x")]), "seeds[0].song_id"),
        (pb.RecommendRequest(seeds=[pb.Seed(song_id="\U0001f3b5" * 40)]), "seeds[0].song_id"),
        (
            pb.RecommendRequest(
                seeds=WATERLOO.seeds, filter=pb.Filter(exclude_song_ids=[NOBODY, "\0%41\n"])
            ),
            "filter.exclude_song_ids[1]",
        ),
    ],
)
def test_a_refusal_names_the_field_in_its_details(
    channel: grpc.Channel, request_: pb.RecommendRequest, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        recommender_pb2_grpc.RecommenderStub(channel).Recommend(request_, timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert info.reason == "REQUEST"
    assert status.details[1].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == [field]
    assert caught.value.details() == f"{field}: {bad.field_violations[0].description}"


def test_the_client_raises_request_errors_with_the_field(client: Client) -> None:
    for call, field in [
        (lambda: client.recommend(pb.RecommendRequest()), "seeds"),
        (lambda: client.similar_songs(pb.SimilarSongsRequest()), "song"),
        (lambda: client.search_songs(pb.SearchSongsRequest(query=" ")), "query"),
    ]:
        with pytest.raises(RequestError) as caught:
            call()
        assert caught.value.field == field


@pytest.mark.parametrize(
    "name", ["nobody", "x" * LONGEST_NAME, "\U0001f3b5" * LONGEST_NAME, "a\0b", "50%\u202e"]
)
def test_similar_songs_of_an_unknown_song_are_not_found(client: Client, name: str) -> None:
    with pytest.raises(UnknownSongError, match="the catalog has no song"):
        client.similar_songs(pb.SimilarSongsRequest(song=pb.Seed(artist=name, title=name)))


def test_an_unknown_id_is_not_found(channel: grpc.Channel) -> None:
    stub = recommender_pb2_grpc.RecommenderStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.SimilarSongs(pb.SimilarSongsRequest(song=pb.Seed(song_id=NOBODY)), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert NOBODY in (caught.value.details() or "")


def test_the_largest_request_is_answered(client: Client) -> None:
    seeds = [
        pb.Seed(artist=f"{number} ".ljust(LONGEST_NAME, "x"), title="y" * LONGEST_NAME)
        for number in range(1_000)
    ]
    where = pb.Filter(exclude_song_ids=[NOBODY] * 10_000)
    response = client.recommend(pb.RecommendRequest(seeds=seeds, limit=500, filter=where))
    assert response.strategy == pb.STRATEGY_POPULAR
    assert len(response.seeds) == 1_000


class FailingRelease(FakeRelease):
    """Raises `failure` in every search."""

    failure: Exception = EngineError("disk /var/secret")

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        raise self.failure


@pytest.mark.parametrize("failure", [EngineError("disk /var/secret"), KeyError("/var/secret")])
def test_internal_failures_are_logged_but_not_sent(
    loop: Loop, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    release = FailingRelease(POINTS)
    release.failure = failure
    with (
        loop.serve(FakeStore(release)) as server,
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        recommender_pb2_grpc.RecommenderStub(channel).Recommend(WATERLOO, timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    assert "secret" not in str(caught.value.trailing_metadata())
    assert "/var/secret" in caplog.text


# Health and reflection


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_is_serving(channel: grpc.Channel, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert stub.Check(request, timeout=PATIENCE_S).status == SERVING


def test_health_of_an_unknown_service_is_not_found(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_is_not_serving_after_the_stop_began(loop: Loop, service: str) -> None:
    async def watch_health() -> list[int]:
        server = build_server(FakeStore(FakeRelease(POINTS)))
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watching = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            seen = [(await watching.read()).status]
            stopping = asyncio.create_task(server.stop())
            seen.append((await watching.read()).status)
            assert not stopping.done()
            await stopping
        return seen

    assert loop.run(watch_health()) == [SERVING, NOT_SERVING]


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "nextsong.v1.Recommender",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    file = database.FindFileContainingSymbol("nextsong.v1.Recommender")
    assert [method.name for method in file.service[0].method] == [
        "Recommend",
        "BatchRecommend",
        "SimilarSongs",
        "SearchSongs",
        "GetRelease",
        "RecordPlays",
        "ForgetUser",
    ]
