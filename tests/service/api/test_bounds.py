"""Maximum lengths of texts in requests, and processing time proportional to the length."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from catalog.errors import RequestError
from catalog.versions import bare_title, base_title
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods, validation
from service.recommend import seeds
from tests.support.extra_fields import PAYLOAD
from tests.support.fakes import FakeRelease
from tests.support.rpc_servers import POINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

MANY = 100_000
COLLIDING = [str(UUID(int=7 + number * (2**61 - 1))) for number in range(1_000)]
"""Ids that have the same hash in Python."""

VALID: dict[type[Message], dict[str, Any]] = {
    pb.RecommendRequest: {"seeds": [pb.Seed(artist="x", title="y")]},
    pb.BatchRecommendRequest: {},
    pb.SimilarSongsRequest: {"song": pb.Seed(artist="x", title="y")},
    pb.SearchSongsRequest: {"query": "x"},
    pb.RecordPlaysRequest: {
        "user_id": "u",
        "plays": [pb.Play(song=pb.Seed(artist="x", title="y"))],
    },
    pb.ForgetUserRequest: {"user_id": "u"},
    pb.Seed: {"artist": "x", "title": "y"},
    pb.Condition: {"field": "genre"},
}


class ReleaseWithFields(FakeRelease):
    """A release with extra fields."""

    def __init__(self) -> None:
        super().__init__(POINTS)
        self.manifest = replace(self.manifest, payload=PAYLOAD)


class UnusedHistory:
    """A listening history that fails the test if it is used."""

    async def recent(self, _user: str) -> list[UUID]:
        raise AssertionError

    async def forget(self, _user: str) -> bool:
        raise AssertionError


UNUSED_HISTORY: Any = UnusedHistory()


def long_texts(kind: type[Message]) -> Iterator[tuple[str, Message]]:
    """Yield the path of each text field, with a message in which that text is too long."""
    for field in kind.DESCRIPTOR.fields:
        message = kind(**VALID.get(kind, {}))
        if field.message_type:
            for path, part in long_texts(field.message_type._concrete_class):
                outer = kind(**VALID.get(kind, {}))
                outer.ClearField(field.name)
                if field.is_repeated:
                    getattr(outer, field.name).append(part)
                    yield f"{field.name}[0].{path}", outer
                else:
                    getattr(outer, field.name).CopyFrom(part)
                    yield f"{field.name}.{path}", outer
        elif field.type == field.TYPE_STRING:
            if kind is pb.Condition and field.name == "text":
                message = pb.Condition(field="album")
            if kind is pb.RecommendRequest:  # a user id replaces the seeds
                message.ClearField("seeds")
            long = "x" * MANY
            if field.is_repeated:
                getattr(message, field.name).append(long)
                yield f"{field.name}[0]", message
            else:
                setattr(message, field.name, long)
                yield field.name, message


METHODS: dict[type[Message], Callable[..., Any]] = {
    pb.RecommendRequest: lambda release, request: methods.recommend(
        release, request, UNUSED_HISTORY
    ),
    pb.BatchRecommendRequest: methods.batch_recommend,
    pb.SimilarSongsRequest: methods.similar_songs,
    pb.SearchSongsRequest: methods.search_songs,
    pb.RecordPlaysRequest: lambda release, request: methods.record_plays(
        release, request, UNUSED_HISTORY
    ),
    pb.ForgetUserRequest: lambda _release, request: methods.forget_user(request, UNUSED_HISTORY),
}
LONG = [(kind, path, request) for kind in METHODS for path, request in long_texts(kind)]


@pytest.mark.parametrize(
    ("kind", "path", "request_"), LONG, ids=[f"{kind.__name__}.{path}" for kind, path, _ in LONG]
)
def test_every_text_has_a_maximum_length(kind: type[Message], path: str, request_: Message) -> None:
    with pytest.raises(RequestError) as caught:
        asyncio.run(METHODS[kind](ReleaseWithFields(), request_))
    assert caught.value.field == path
    assert len(str(caught.value)) < 300


def test_the_texts_of_all_requests_are_covered() -> None:
    paths = {path for _, path, _ in LONG}
    assert {"query", "user_id", "plays[0].song.artist", "filter.exclude_artists[0]"} <= paths
    assert {"seeds[0].song_id", "filter.conditions[0].any_of[0].text"} <= paths
    assert "requests[0].filter.conditions[0].text" in paths


def test_names_of_the_maximum_length_are_accepted() -> None:
    release, most = ReleaseWithFields(), validation.MAX_NAME_LENGTH
    seed = pb.Seed(artist="x" * most, title="y" * most)
    where = pb.Filter(
        include_artists=["x" * most],
        conditions=[pb.Condition(field="genre", any_of=[pb.Value(text="x" * most)])],
    )
    response = asyncio.run(
        methods.recommend(release, pb.RecommendRequest(seeds=[seed], filter=where))
    )
    assert response.seeds[0].resolution == pb.RESOLUTION_UNKNOWN
    expanding = pb.Filter(exclude_artists=["\ufdfa" * 29])  # each expands to 18 characters
    with pytest.raises(RequestError, match=r"exclude_artists\[0\]: must have at most 512"):
        asyncio.run(methods.recommend(release, pb.RecommendRequest(seeds=[seed], filter=expanding)))
    longer = pb.RecommendRequest(seeds=[pb.Seed(artist="x", title="y" * (most + 1))])
    with pytest.raises(RequestError, match=r"seeds\[0\].title: must have at most 512 characters"):
        asyncio.run(methods.recommend(release, longer))


@pytest.mark.parametrize(
    "request_",
    [
        pb.RecommendRequest(
            seeds=[pb.Seed(artist="x", title="y")], filter=pb.Filter(exclude_song_ids=COLLIDING)
        ),
        pb.RecommendRequest(seeds=[pb.Seed(song_id=song_id) for song_id in COLLIDING]),
    ],
    ids=["filter.exclude_song_ids", "seeds"],
)
def test_ids_with_the_same_hash_are_refused(
    request_: pb.RecommendRequest, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(RequestError, match="made to collide") as caught:
        asyncio.run(methods.recommend(ReleaseWithFields(), request_))
    assert caught.value.field == request.node.callspec.id


def test_a_seed_is_normalised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    normalised: list[str] = []

    def normalise_and_record(name: str) -> str:
        normalised.append(name)
        return name.lower()

    for module in (validation, seeds):
        monkeypatch.setattr(module, "normalise", normalise_and_record)
    named = [pb.Seed(artist=f"A{n}", title=f"T{n} (feat. x) [mono]") for n in range(3)]
    asyncio.run(methods.recommend(ReleaseWithFields(), pb.RecommendRequest(seeds=named)))
    assert sorted(normalised) == sorted(
        name for seed in named for name in (seed.artist, seed.title)
    )
    normalised.clear()
    with pytest.raises(Exception, match="no song"):
        asyncio.run(
            methods.similar_songs(ReleaseWithFields(), pb.SimilarSongsRequest(song=named[0]))
        )
    assert sorted(normalised) == [named[0].artist, named[0].title]


@pytest.mark.timeout(120)  # with quadratic time, this would take minutes to hours
@pytest.mark.parametrize(
    ("title", "base"),
    [
        ("a" + "(mono)" * MANY, "a"),
        ("a" + " - mono" * MANY, "a"),
        ("a - 2010" + " - remaster / 2010" * MANY + " x", None),
        ("a" + " feat. x" * MANY + "(", None),
        ("a" + " feat. x[mono]" * MANY, "a"),
        ("(feat. " * MANY + "x", None),
        ("(" * MANY, None),
        ("a - " + "9" * MANY, None),
        ("a" + " (" * MANY + "mono", None),
    ],
    ids=range(9),
)
def test_the_base_of_a_title_takes_time_proportional_to_its_length(
    title: str, base: str | None
) -> None:
    assert base_title(title) == (title if base is None else base)


@pytest.mark.parametrize(
    "title",
    [
        " - live at" * MANY,
        "(live at " * MANY,
        "(live / " * MANY + ")",
        " [live 1" * MANY + "]",
        "a - live /" + " - mono" * MANY + " x",
    ],
    ids=range(5),
)
def test_the_bare_title_takes_time_proportional_to_the_length_of_a_title(title: str) -> None:
    assert bare_title(title)
