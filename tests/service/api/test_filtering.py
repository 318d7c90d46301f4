"""Filters on extra payload fields, in requests to a published release."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.errors import RequestError
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods
from tests.support.api_calls import NOBODY, SEED, ids, recommend, similar
from tests.support.extra_fields import PAYLOAD, POINTS
from tests.support.fakes import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    store = EmbeddedStore(tmp_path_factory.mktemp("filtering"))
    publish(store, POINTS, payload=PAYLOAD)
    release = store.open()
    yield release
    release.close()


def text(value: str) -> pb.Value:
    return pb.Value(text=value)


def integer(value: int) -> pb.Value:
    return pb.Value(integer=value)


def titles(release: OpenRelease, *conditions: pb.Condition, seed: pb.Seed = SEED) -> set[str]:
    where = pb.Filter(conditions=conditions)
    recommended = recommend(release, seeds=[seed], filter=where)
    nearby = similar(release, song=seed, filter=where)
    assert ids(recommended) == ids(nearby)
    return {scored.song.title for scored in recommended.songs}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (pb.Condition(field="genre", any_of=[text("Pop")]), {"Fernando"}),
        (pb.Condition(field="genre", any_of=[text("pop")]), set()),
        (pb.Condition(field="genre", any_of=[text("Rock"), text("Pop")]), {"Fernando", "Red"}),
        (pb.Condition(field="genre", none_of=[text("Pop")]), {"Jóga", "Red", "Plain"}),
        (pb.Condition(field="live", any_of=[pb.Value(boolean=True)]), {"Fernando"}),
        (pb.Condition(field="live", any_of=[pb.Value(boolean=False)]), {"Jóga"}),
        (pb.Condition(field="live", any_of=[text("true")]), {"Fernando"}),
        (pb.Condition(field="live", none_of=[pb.Value(boolean=True)]), {"Jóga", "Red", "Plain"}),
        (pb.Condition(field="year", any_of=[integer(1976), integer(2001)]), {"Fernando", "Red"}),
        (pb.Condition(field="year", none_of=[integer(1976)]), {"Jóga", "Red", "Plain"}),
        (pb.Condition(field="year", minimum=1976), {"Fernando", "Jóga", "Red"}),
        (pb.Condition(field="year", minimum=1976.5, maximum=1997), {"Jóga"}),
        (pb.Condition(field="year", maximum=0), set()),
        (pb.Condition(field="tempo", minimum=90, maximum=111), {"Fernando", "Jóga"}),
        (pb.Condition(field="tempo", maximum=-0.0), set()),
        (pb.Condition(field="album", text="great"), {"Fernando", "Red"}),
        (pb.Condition(field="album", text="HITS gre"), {"Fernando"}),
        (pb.Condition(field="album", text="nothing"), set()),
    ],
)
def test_only_songs_that_meet_the_condition_are_recommended(
    release: OpenRelease, condition: pb.Condition, expected: set[str]
) -> None:
    assert titles(release, condition) == expected


def test_all_conditions_must_hold(release: OpenRelease) -> None:
    pop = pb.Condition(field="genre", any_of=[text("Pop"), text("Art Pop")])
    late = pb.Condition(field="year", minimum=1990)
    assert titles(release, pop, late) == {"Jóga"}
    not_1997 = pb.Condition(field="year", minimum=1975, none_of=[integer(1997)])
    assert titles(release, not_1997) == {"Fernando", "Red"}


def test_songs_have_their_extra_fields(release: OpenRelease) -> None:
    songs = {scored.song.title: scored.song for scored in recommend(release).songs}
    assert dict(songs["Jóga"].extra) == {
        "genre": text("Art Pop"),
        "live": text("false"),
        "year": integer(1997),
        "tempo": pb.Value(number=90.0),
        "album": text("Homogenic"),
    }
    assert not songs["Plain"].extra
    fields = asyncio.run(
        methods.get_release(release, pb.GetReleaseRequest())
    ).release.payload_fields
    assert [(field.name, field.kind) for field in fields] == [
        ("album", pb.FIELD_KIND_TEXT),
        ("genre", pb.FIELD_KIND_KEYWORD),
        ("live", pb.FIELD_KIND_KEYWORD),
        ("tempo", pb.FIELD_KIND_FLOAT),
        ("year", pb.FIELD_KIND_INTEGER),
    ]


KINDS = "album (text), genre (keyword), live (keyword), tempo (float), year (integer)"


@pytest.mark.parametrize(
    ("condition", "field", "message"),
    [
        (pb.Condition(field="mood", text="x"), ".field", KINDS),
        (pb.Condition(), ".field", KINDS),
        (pb.Condition(field="artist_key", any_of=[text("a")]), ".field", KINDS),
        (pb.Condition(field="x" * 9999, text="x"), ".field", "not an extra field"),
        (pb.Condition(field="year"), "", "at least one comparison"),
        (pb.Condition(field="year", any_of=[text("1976")]), ".any_of[0]", "must be integer"),
        (pb.Condition(field="year", none_of=[pb.Value(number=1.5)]), ".none_of[0]", "is number"),
        (pb.Condition(field="year", text="1976"), ".text", "kind integer; use any_of"),
        (pb.Condition(field="year", text="1976"), ".text", "'year'"),
        (pb.Condition(field="genre", minimum=1), ".minimum", "kind keyword"),
        (pb.Condition(field="genre", any_of=[integer(1)]), ".any_of[0]", "boolean or text"),
        (pb.Condition(field="genre", any_of=[text("a"), pb.Value()]), ".any_of[1]", "is empty"),
        (pb.Condition(field="tempo", any_of=[pb.Value(number=90)]), ".any_of", "minimum"),
        (pb.Condition(field="album", any_of=[text("Homogenic")]), ".any_of", "text"),
        (pb.Condition(field="album", text=" \t"), ".text", "at least one word"),
        (pb.Condition(field="album", text="x" * 201), ".text", "at most 200"),
        (pb.Condition(field="year", minimum=float("nan")), ".minimum", "finite"),
        (pb.Condition(field="tempo", maximum=float("inf")), ".maximum", "finite"),
        (pb.Condition(field="tempo", minimum=2, maximum=1), ".minimum", "not be above"),
        (pb.Condition(field="genre", any_of=[text("a")] * 1001), ".any_of", "at most 1,000"),
    ],
    ids=range(20),
)
def test_the_field_of_a_bad_condition_is_named(
    release: OpenRelease, condition: pb.Condition, field: str, message: str
) -> None:
    good = pb.Condition(field="year", minimum=0)
    where = pb.Filter(conditions=[good, condition])
    for call in (recommend, similar):
        with pytest.raises(RequestError) as caught:
            call(release, filter=where)
        assert caught.value.field == f"filter.conditions[1]{field}"
        assert message in caught.value.problem
        assert len(str(caught.value)) < 300


def test_up_to_fifty_conditions_are_accepted(release: OpenRelease) -> None:
    good = pb.Condition(field="year", minimum=1990)
    assert titles(release, *[good] * 50) == {"Jóga", "Red"}
    with pytest.raises(RequestError, match=r"filter.conditions: must hold at most 50"):
        titles(release, *[good] * 51)


def test_an_empty_response_has_a_reason(release: OpenRelease) -> None:
    nothing = pb.Filter(conditions=[pb.Condition(field="year", minimum=3000)])
    only_the_seed = pb.Filter(conditions=[pb.Condition(field="year", maximum=1974)])
    for where in (nothing, only_the_seed):
        for response in (recommend(release, filter=where), similar(release, filter=where)):
            assert not response.songs
            assert response.empty_reason == pb.EMPTY_REASON_FILTER
    cooccurrence = recommend(release, mode=pb.MODE_COOCCURRENCE)
    assert not cooccurrence.songs or cooccurrence.empty_reason == pb.EMPTY_REASON_UNSPECIFIED
    assert recommend(release).empty_reason == pb.EMPTY_REASON_UNSPECIFIED


def test_an_unknown_playlist_with_a_filter_that_no_song_passes(release: OpenRelease) -> None:
    nothing = pb.Filter(conditions=[pb.Condition(field="year", minimum=3000)])
    response = recommend(release, seeds=[pb.Seed(song_id=NOBODY)], filter=nothing)
    assert response.strategy == pb.STRATEGY_POPULAR
    assert response.empty_reason == pb.EMPTY_REASON_FILTER
