"""The methods of the API: refused requests, accepted requests, and responses."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from catalog.errors import RequestError, UnknownSongError
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods
from tests.support.api_calls import NOBODY, SEED, ids, named, recommend, search, similar
from tests.support.fakes import FakeRelease, points_of

POINTS = points_of(
    ("ABBA", "Waterloo", 40, (1, 0)),
    ("ABBA", "Fernando", 30, (0.8, 0.6)),
    ("Björk", "Jóga", 20, (0, 1)),
    ("Björk", "Hunter", 10, (-1, 0)),
)
WATERLOO, FERNANDO, JOGA, HUNTER = (point.song for point in POINTS)

NAN, INFINITY = math.nan, math.inf


@pytest.fixture
def fake() -> FakeRelease:
    return FakeRelease(POINTS, name="20261123", training_playlists=80)


def build_seed(weight: float) -> pb.Seed:
    return pb.Seed(artist="abba", title="waterloo", weight=weight)


# Refused requests, and the field that the error names

BAD_SONGS = [
    pytest.param(pb.Seed(), "title", id="nothing"),
    pytest.param(pb.Seed(artist="ABBA"), "title", id="no title"),
    pytest.param(pb.Seed(artist="ABBA", title="\n"), "title", id="blank title"),
    pytest.param(pb.Seed(artist="ABBA", title="\u0301"), "title", id="title of accents only"),
    pytest.param(named("x"), "song_id", id="short id"),
    pytest.param(named(NOBODY[:-1]), "song_id", id="id cut short"),
    pytest.param(named(NOBODY + "0"), "song_id", id="id too long"),
    pytest.param(named(f" {NOBODY}"), "song_id", id="id after a space"),
    pytest.param(named(f"{NOBODY}\n"), "song_id", id="id before a line end"),
    pytest.param(named(" " * 4), "song_id", id="blank id"),
    pytest.param(named("+" + "1" * 31), "song_id", id="signed id"),
    pytest.param(named("1_" * 15 + "11"), "song_id", id="id with underscores"),
    pytest.param(named("\u0661" * 32), "song_id", id="id of Arabic digits"),
    pytest.param(named("0x" + "1" * 30), "song_id", id="id with a prefix"),
    pytest.param(named("g" * 32), "song_id", id="id of other letters"),
    pytest.param(named("\0" * 32), "song_id", id="id of NULs"),
    pytest.param(
        pb.Seed(song_id="x", artist="abba", title="waterloo"), "song_id", id="bad id, good name"
    ),
]

BAD_SEEDS = [
    *BAD_SONGS,
    pytest.param(build_seed(0), "weight", id="weight 0"),
    pytest.param(build_seed(-0.0), "weight", id="weight -0"),
    pytest.param(build_seed(-1000.001), "weight", id="weight too low"),
    pytest.param(build_seed(NAN), "weight", id="weight NaN"),
    pytest.param(build_seed(INFINITY), "weight", id="weight infinite"),
    pytest.param(build_seed(-INFINITY), "weight", id="weight of minus infinity"),
    pytest.param(build_seed(1000.001), "weight", id="weight too high"),
]


BAD_FILTERS = [
    pytest.param({"include_artists": [""]}, "include_artists[0]", id="include nobody"),
    pytest.param({"include_artists": ["a", " "]}, "include_artists[1]", id="include a blank"),
    pytest.param({"exclude_artists": ["", ""]}, "exclude_artists[0]", id="exclude nobody"),
    pytest.param({"exclude_artists": ["a", "b", "\t"]}, "exclude_artists[2]", id="exclude blank"),
    pytest.param({"include_artists": ["a"] * 1001}, "include_artists", id="include too many"),
    pytest.param({"exclude_artists": ["a"] * 1001}, "exclude_artists", id="exclude too many"),
    pytest.param({"exclude_song_ids": [NOBODY, "x"]}, "exclude_song_ids[1]", id="bad id"),
    pytest.param({"exclude_song_ids": [""]}, "exclude_song_ids[0]", id="empty id"),
    pytest.param({"exclude_song_ids": [NOBODY] * 10_001}, "exclude_song_ids", id="too many ids"),
    pytest.param({"min_playlists": 3, "max_playlists": 2}, "min_playlists", id="min above max"),
]


@pytest.mark.parametrize(("seed", "field"), BAD_SEEDS)
def test_the_field_of_a_bad_seed_is_named(fake: FakeRelease, seed: pb.Seed, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        recommend(fake, seeds=[SEED, SEED, seed, seed])
    assert caught.value.field == f"seeds[2].{field}"
    assert fake.call_counts == {}


@pytest.mark.parametrize(("song", "field"), BAD_SONGS)
def test_the_field_of_a_bad_song_is_named(fake: FakeRelease, song: pb.Seed, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        similar(fake, song=song)
    assert caught.value.field == f"song.{field}"
    assert fake.call_counts == {}


def test_similar_songs_ignore_the_weight(fake: FakeRelease) -> None:
    assert similar(fake, song=build_seed(NAN)) == similar(fake, song=SEED)


@pytest.mark.parametrize(("where", "field"), BAD_FILTERS)
def test_the_field_of_a_bad_filter_is_named(
    fake: FakeRelease, where: dict[str, Any], field: str
) -> None:
    for method in (recommend, similar):
        with pytest.raises(RequestError) as caught:
            method(fake, filter=pb.Filter(**where))
        assert caught.value.field == f"filter.{field}"
    assert fake.call_counts == {}


@pytest.mark.parametrize("limit", [-1, 501, 2**31 - 1, -(2**31)])
def test_a_limit_out_of_range_is_refused(fake: FakeRelease, limit: int) -> None:
    for method, fields in ((recommend, {}), (similar, {}), (search, {"query": "a"})):
        with pytest.raises(RequestError, match="must be from 1 to 500, or 0 for 10") as caught:
            method(fake, limit=limit, **fields)
        assert caught.value.field == "limit"


@pytest.mark.parametrize("count", [0, 1001])
def test_the_number_of_seeds_is_checked(fake: FakeRelease, count: int) -> None:
    with pytest.raises(RequestError) as caught:
        recommend(fake, seeds=[SEED] * count)
    assert caught.value.field == "seeds"


def test_similar_songs_require_a_song(fake: FakeRelease) -> None:
    with pytest.raises(RequestError) as caught:
        asyncio.run(methods.similar_songs(fake, pb.SimilarSongsRequest(limit=3)))
    assert caught.value.field == "song"


@pytest.mark.parametrize("query", ["", " ", "\t\n\u3000", "\u0301", "a" * 201, " " * 201])
def test_a_bad_search_is_refused(fake: FakeRelease, query: str) -> None:
    with pytest.raises(RequestError) as caught:
        search(fake, query=query)
    assert caught.value.field == "query"


def test_the_message_names_the_first_bad_field_and_its_value(fake: FakeRelease) -> None:
    with pytest.raises(RequestError) as caught:
        recommend(fake, seeds=[named("not-an-id"), pb.Seed()], limit=-1)
    assert str(caught.value) == "seeds[0].song_id: 'not-an-id' is not a UUID"
    with pytest.raises(RequestError, match="must hold at most 1,000, and holds 1,001"):
        recommend(fake, seeds=[SEED] * 1001)


def test_a_long_id_is_shortened_in_the_message(fake: FakeRelease) -> None:
    with pytest.raises(RequestError) as caught:
        recommend(fake, seeds=[named("x" * 10_000)])
    assert len(str(caught.value)) < 100


# Accepted requests, up to the maximum values


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, 10), (1, 1), (2, 2), (10, 10), (499, 499), (500, 500)]
)
def test_limits_within_range_are_accepted(limit: int, expected: int) -> None:
    many = FakeRelease(points_of(*[("A", f"Song {number}", 1, (1, 0)) for number in range(600)]))
    seed = pb.Seed(artist="A", title="Song 7")
    assert len(recommend(many, seeds=[seed], limit=limit).songs) == expected
    assert len(similar(many, song=seed, limit=limit).songs) == expected
    assert len(search(many, query="song", limit=limit).songs) == expected


def test_an_unset_limit_is_ten() -> None:
    many = FakeRelease(points_of(*[("A", f"Song {number}", 1, (1, 0)) for number in range(30)]))
    assert len(recommend(many).songs) == 10


def test_a_thousand_seeds_are_accepted(fake: FakeRelease) -> None:
    assert len(recommend(fake, seeds=[SEED] * 1000).seeds) == 1000


def test_filters_of_maximum_size_are_accepted(fake: FakeRelease) -> None:
    where = pb.Filter(
        include_artists=["Björk", *["x"] * 999],
        exclude_artists=["x"] * 1000,
        exclude_song_ids=[NOBODY] * 10_000,
    )
    assert len(recommend(fake, filter=where).songs) == 2


@pytest.mark.parametrize("weight", [1e-45, 0.5, 1, 1000])
def test_weights_within_range_are_accepted(fake: FakeRelease, weight: float) -> None:
    assert recommend(fake, seeds=[build_seed(weight)]).strategy == pb.STRATEGY_SEEDS


def test_the_default_weight_is_one(fake: FakeRelease) -> None:
    plain = recommend(fake, seeds=[SEED, named(str(JOGA.song_id))], mode=pb.MODE_DENSE)
    explicit = recommend(fake, seeds=[build_seed(1), named(str(JOGA.song_id))], mode=pb.MODE_DENSE)
    assert plain == explicit
    # With a decay of 0.5, the weights of the two seeds are 0.5 and 1. The nearest song is Fernando,
    # whose cosine similarities to the seeds are 0.8 and 0.6.
    assert plain.songs[0].score == pytest.approx((0.5 * 0.8 + 0.6) / math.sqrt(1.25), abs=1e-6)


@pytest.mark.parametrize(
    "song_id",
    [str(JOGA.song_id), str(JOGA.song_id).upper(), JOGA.song_id.hex],
    ids=["plain", "upper case", "no hyphens"],
)
def test_ids_are_accepted_in_their_usual_forms(fake: FakeRelease, song_id: str) -> None:
    response = recommend(fake, seeds=[named(song_id)])
    assert response.seeds[0].song.song_id == str(JOGA.song_id)
    excluding = recommend(fake, filter=pb.Filter(exclude_song_ids=[song_id]))
    assert str(JOGA.song_id) not in ids(excluding)


@pytest.mark.parametrize("bounds", [(0, 0), (2, 2), (2, 0), (0, 2), (2**32 - 1, 0)])
def test_possible_ranges_of_playlists_are_accepted(
    fake: FakeRelease, bounds: tuple[int, int]
) -> None:
    recommend(fake, filter=pb.Filter(min_playlists=bounds[0], max_playlists=bounds[1]))


@pytest.mark.parametrize("query", ["a", "a" * 200, "\U0001f3b5" * 200, " abba "])
def test_searches_of_up_to_200_characters_are_accepted(fake: FakeRelease, query: str) -> None:
    search(fake, query=query)


# Responses


def test_all_fields_of_a_recommendation(fake: FakeRelease) -> None:
    response = recommend(
        fake,
        seeds=[
            pb.Seed(artist="ABBA", title="SOS"),
            pb.Seed(artist="nobody", title="nothing"),
            pb.Seed(artist="abba", title="WATERLOO"),
        ],
        limit=2,
        mode=pb.MODE_DENSE,
    )
    assert response == pb.RecommendResponse(
        songs=[
            pb.ScoredSong(
                song=pb.Song(
                    song_id=str(FERNANDO.song_id), artist="ABBA", title="Fernando", playlists=30
                ),
                score=POINTS[1].vector[0],
            ),
            pb.ScoredSong(
                song=pb.Song(song_id=str(JOGA.song_id), artist="Björk", title="Jóga", playlists=20),
                score=0,
            ),
        ],
        strategy=pb.STRATEGY_SEEDS,
        seeds=[
            pb.ResolvedSeed(resolution=pb.RESOLUTION_ARTIST),
            pb.ResolvedSeed(resolution=pb.RESOLUTION_UNKNOWN),
            pb.ResolvedSeed(
                resolution=pb.RESOLUTION_SONG,
                song=pb.Song(
                    song_id=str(WATERLOO.song_id), artist="ABBA", title="Waterloo", playlists=40
                ),
            ),
        ],
        release="20261123",
        mode=pb.MODE_DENSE,
    )


def test_the_strategy_of_a_recommendation(fake: FakeRelease) -> None:
    unheard = pb.Seed(artist="Björk", title="unheard")
    nobody = pb.Seed(artist="nobody", title="nothing")
    assert recommend(fake, seeds=[unheard, nobody]).strategy == pb.STRATEGY_ARTISTS
    popular = recommend(fake, seeds=[nobody])
    assert popular.strategy == pb.STRATEGY_POPULAR
    assert [scored.score for scored in popular.songs] == [40 / 80, 30 / 80, 20 / 80, 10 / 80]


def test_filters_normalise_names_like_seeds(fake: FakeRelease) -> None:
    only = recommend(fake, filter=pb.Filter(include_artists=["BJORK"]))
    none = recommend(fake, filter=pb.Filter(exclude_artists=["  bj\uff4frk "]))
    assert ids(only) == [str(JOGA.song_id), str(HUNTER.song_id)]
    assert ids(none) == [str(FERNANDO.song_id)]


def test_all_fields_of_similar_songs(fake: FakeRelease) -> None:
    response = similar(fake, song=named(str(JOGA.song_id)), limit=1)
    assert response.song == pb.Song(
        song_id=str(JOGA.song_id), artist="Björk", title="Jóga", playlists=20
    )
    assert ids(response) == [str(FERNANDO.song_id)]
    assert response.songs[0].score == pytest.approx(0.6)
    assert response.release == "20261123"
    with pytest.raises(UnknownSongError):
        similar(fake, song=named(NOBODY))


def test_all_fields_of_search_results(fake: FakeRelease) -> None:
    response = search(fake, query="BJÖ")
    assert [song.title for song in response.songs] == ["Jóga", "Hunter"]
    assert response.songs[0].song_id == str(JOGA.song_id)
    assert response.release == "20261123"
    assert search(fake, query="nothing of the kind").release == "20261123"


def test_a_fuzzy_search_finds_misspelt_names(fake: FakeRelease) -> None:
    response = search(fake, query="bjok", fuzzy=True)
    assert [song.title for song in response.songs] == ["Jóga", "Hunter"]
    assert len(response.similarities) == 2
    assert response.similarities[0] == pytest.approx(0.98 * 0.8)  # one edit in five letters
    plain = search(fake, query="bjok")
    assert (list(plain.songs), list(plain.similarities)) == ([], [])
    assert len(search(fake, query="abbba", fuzzy=True, limit=1).songs) == 1


def test_songs_are_suggested_for_unknown_seeds_on_request(fake: FakeRelease) -> None:
    seeds = [
        pb.Seed(artist="Abba", title="Watrloo"),
        pb.Seed(artist="abba", title="fernando"),
        pb.Seed(artist="Bork", title="Hunter"),
    ]
    response = recommend(fake, seeds=seeds, suggestions=1)
    suggested = [[s.song.title for s in seed.suggestions] for seed in response.seeds]
    assert suggested == [["Waterloo"], [], ["Hunter"]]
    assert response.seeds[0].suggestions[0].similarity == pytest.approx(1 - 1 / 13)
    assert not any(seed.suggestions for seed in recommend(fake, seeds=seeds).seeds)


def test_songs_are_suggested_for_a_bounded_number_of_seeds(fake: FakeRelease) -> None:
    seeds = [pb.Seed(artist=f"Abba{number}", title="Waterloo") for number in range(30)]
    response = recommend(fake, seeds=seeds, suggestions=2)
    assert [bool(seed.suggestions) for seed in response.seeds] == [True] * 10 + [False] * 20
    assert fake.call_counts["search_spelling"] == 10
    with pytest.raises(RequestError) as caught:
        recommend(fake, suggestions=11)
    assert caught.value.field == "suggestions"
    batch = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(seeds=seeds, suggestions=1)])
    with pytest.raises(RequestError) as caught:
        asyncio.run(methods.batch_recommend(fake, batch))
    assert caught.value.field == "requests[0].suggestions"


def test_an_unknown_song_is_refused_with_suggestions(fake: FakeRelease) -> None:
    with pytest.raises(UnknownSongError) as caught:
        similar(fake, song=pb.Seed(artist="Abba", title="Fernado"))
    (first, *_) = caught.value.suggestions
    assert (first.song_id, first.artist, first.title, first.playlists) == (
        FERNANDO.song_id,
        "ABBA",
        "Fernando",
        30,
    )


def test_all_fields_of_the_release(fake: FakeRelease) -> None:
    response = asyncio.run(methods.get_release(fake, pb.GetReleaseRequest()))
    release = response.release
    assert json.loads(release.parameters_json) == fake.manifest.origin.parameters
    release.parameters_json = ""
    assert release == pb.Release(
        id="20261123",
        created="2026-11-23T12:00:00+00:00",
        songs=4,
        artists=2,
        training_playlists=80,
        dimensions=2,
        data_fingerprint="data of 20261123",
        code_version="1.2.3",
        has_spelling=True,
    )
