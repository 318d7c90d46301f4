"""Seeds typed on the command line: kinds of dashes, names with dashes, and titles alone."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from service.client.client import Direct
from service.client.seed_texts import (
    MAX_SPLITS,
    Corrections,
    SeedTextError,
    resolve_texts,
    split_text,
)
from tests.support.fakes import FakeRelease, points_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nextsong.v1 import recommender_pb2 as pb

TOLD: list[str] = []
CORRECTIONS = Corrections(TOLD.append)

POINTS = points_of(
    ("AC - DC", "Back in Black", 50, (1, 0)),
    ("Jay-Z", "Run - Intro", 40, (1, 0.1)),
    ("Dido", "Thank You", 30, (0.2, 1)),
    ("Led Zeppelin", "Thank You", 20, (0, 1)),
    ("It's", "A$AP", 10, (-1, 0)),
    ("Only", "A$AP", 5, (-1, 0)),
    ("A", "B - C", 4, (0, 1)),
    ("A - B", "C", 3, (0, 1)),
    ("Semi", "Charmed Life", 2, (0, 1)),
)


@pytest.fixture
def release() -> FakeRelease:
    return FakeRelease(POINTS)


def resolve_names(release: FakeRelease, *texts: str) -> list[str]:
    """Resolve texts, and return the artist and title of each seed."""
    songs = {str(point.song.song_id): point.song for point in POINTS}
    seeds = resolve_texts(Direct(release), texts, CORRECTIONS)
    named = [songs.get(seed.song_id, seed) for seed in seeds]
    return [f"{song.artist} / {song.title}" for song in named]


@pytest.mark.parametrize(
    "dash",
    [" - ", " – ", " — ", " \u2212 ", " -- ", "-", "–", "\u2010", " \u2011 ", "- ", " \uff0d "],
)
def test_all_kinds_of_dashes_separate_artist_and_title(release: FakeRelease, dash: str) -> None:
    assert resolve_names(release, f"dido{dash}THANK YOU") == ["dido / THANK YOU"]
    assert release.call_counts.get("search", 0) == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AC - DC - Back in Black", "AC - DC / Back in Black"),
        ("Jay-Z - Run - Intro", "Jay-Z / Run - Intro"),
        ("jay-z-run - intro", "jay-z / run - intro"),
        ("back in black", "AC - DC / Back in Black"),
        ("Run - Intro", "Jay-Z / Run - Intro"),
        ("AC - DC - Unheard", "AC - DC / Unheard"),  # the artist is known
        ("Semi-Detached", "Semi / Detached"),  # the artist is known
        ("Nobody - Nothing - Ever", "Nobody / Nothing - Ever"),  # neither artist nor song is known
    ],
)
def test_every_split_is_tried(release: FakeRelease, text: str, name: str) -> None:
    assert resolve_names(release, text) == [name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MILK", " / MILK"),
        ("Coca-Cola - 1 l", " / Coca-Cola - 1 l"),
        ("thank you", " / thank you"),  # songs of two artists have the same title
        ("A - B", " / A - B"),  # A is an artist, but B is not one of its songs
        ("Dido - Thank You", "Dido / Thank You"),
    ],
)
def test_an_exact_title_is_an_item_without_an_artist(text: str, name: str) -> None:
    rows = [("", title, 1, (1, 0)) for title in ("Milk", "Coca-Cola - 1 l", "Thank You", "A - B")]
    rows += [(point.song.artist, point.song.title, 2, (0, 1)) for point in POINTS]
    release = FakeRelease(points_of(*rows))
    assert resolve_names(release, text) == [name]
    assert release.call_counts.get("search", 0) == 0


def test_a_text_that_is_an_item_and_a_song_is_ambiguous() -> None:
    release = FakeRelease(points_of(("", "Dido - Red", 2, (1, 0)), ("Dido", "Red", 1, (0, 1))))
    with pytest.raises(SeedTextError, match=r"matches several songs.*\(Dido - Red\).*\(Dido - Red"):
        resolve_texts(Direct(release), ["dido - red"], CORRECTIONS)


def test_an_id_is_used_without_a_lookup(release: FakeRelease) -> None:
    (seed,) = resolve_texts(Direct(release), [str(POINTS[0].song.song_id).upper()], CORRECTIONS)
    assert seed.song_id == str(POINTS[0].song.song_id)
    assert release.call_counts == {}


def test_a_whole_playlist_is_looked_up_in_one_call(release: FakeRelease) -> None:
    names = [f"{point.song.artist} - {point.song.title}" for point in POINTS[:6]]
    assert len(resolve_names(release, *names)) == 6
    assert (release.call_counts["points"], release.call_counts["find"]) == (1, 1)
    assert "search" not in release.call_counts


def test_candidates_in_the_message_are_accepted_as_arguments(release: FakeRelease) -> None:
    for title, artists in (("Thank You", ["Dido", "Led Zeppelin"]), ("a$ap", ["It's", "Only"])):
        with pytest.raises(SeedTextError) as caught:
            resolve_texts(Direct(release), [title], CORRECTIONS)
        message = str(caught.value)
        listed = message.partition("give one of: ")[2]
        pasted = [part.removesuffix(",") for part in shlex.split(listed)]
        assert [text.partition(" - ")[0] for text in pasted] == artists
        assert all(resolve_names(release, text) for text in pasted)


def test_an_ambiguous_text_is_refused_with_the_ids_of_its_songs(release: FakeRelease) -> None:
    with pytest.raises(SeedTextError, match="matches several songs") as caught:
        resolve_texts(Direct(release), ["A - B - C"], CORRECTIONS)
    for point in POINTS[6:8]:
        assert str(point.song.song_id) in str(caught.value)


@pytest.mark.parametrize("text", ["Nothing Here", "-", "- -", "", "x" * 300])
def test_a_text_that_matches_nothing_is_refused(release: FakeRelease, text: str) -> None:
    with pytest.raises(SeedTextError, match=r"Artist - Title.*nextsong search"):
        resolve_texts(Direct(release), [text], CORRECTIONS)


def test_the_number_of_splits_has_a_maximum() -> None:
    splits = split_text("a-b" * 100 + " - c")
    assert len(splits) == MAX_SPLITS
    assert splits[0].is_spaced
    assert splits[0].title == "c"


MISSPELT = points_of(
    ("Arctic Monkeys", "Do I Wanna Know?", 50, (1, 0)),
    ("Arctic Monkeys", "R U Mine?", 40, (1, 0.1)),
    ("Chvrches", "Do I Wanna Know? (Live)", 30, (1, 0.2)),
    ("The Roots", "The Seed 2.0", 20, (0, 1)),
    ("The Roots", "Everlasting", 15, (0, 1)),
    ("The Rots", "Everlasting", 10, (0, 1)),
)


def correct(text: str, ask: Any = None, *, accepts_doubt: bool = False) -> tuple[str, list[str]]:
    """Return the name that a text is resolved to, and the messages to the user."""
    told: list[str] = []
    corrections = Corrections(told.append, ask, accepts_doubt)
    (seed,) = resolve_texts(Direct(FakeRelease(MISSPELT)), [text], corrections)
    songs = {str(point.song.song_id): point.song for point in MISSPELT}
    named = songs.get(seed.song_id, seed)
    return f"{named.artist} / {named.title}", told


@pytest.mark.parametrize(
    "text",
    [
        "Arctic Monkys - Do I Wanna Know",
        "rctic Monkeys - Do I Wana Know?",
        "Arktik Monkeys – Do I Wanna No",
        "do i wanna know - arctic monkys",
        "Arctic Monkeys - Do I Wana Know?",  # the artist is spelt correctly, the title is not
    ],
)
def test_a_name_without_doubt_is_corrected_and_the_user_is_told(text: str) -> None:
    name, told = correct(text)
    assert name == "Arctic Monkeys / Do I Wanna Know?"
    assert told == [f"{text!r} is taken as 'Arctic Monkeys - Do I Wanna Know?'"]


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("The Roos - Everlasting", ["The Roots - Everlasting", "The Rots - Everlasting"]),
        ("Arctic Monkys", ["Arctic Monkeys - Do I Wanna Know?", "Arctic Monkeys - R U Mine?"]),
        ("arktik", ["Arctic Monkeys - Do I Wanna Know?", "Arctic Monkeys - R U Mine?"]),
        ("The Rootz - The Seed 3.0", ["The Roots - The Seed 2.0"]),  # a different number
    ],
)
def test_a_doubtful_name_is_refused_with_suggestions(text: str, listed: list[str]) -> None:
    with pytest.raises(SeedTextError, match="did you mean") as caught:
        correct(text)
    names = shlex.split(str(caught.value).partition("did you mean ")[2].partition("? Look")[0])
    assert [name.removesuffix(",") for name in names][: len(listed)] == listed


def test_a_user_who_is_asked_chooses_a_song_or_none() -> None:
    asked: list[str] = []

    def take_second(text: str, songs: Sequence[pb.Song]) -> pb.Song | None:
        asked.append(text)
        return songs[1]

    text = "The Roos - Everlasting"
    assert correct(text, take_second) == ("The Rots / Everlasting", [])
    assert correct(text, lambda _text, _songs: None) == ("The Roos / Everlasting", [])
    assert asked == [text]


def test_a_doubtful_artist_and_title_is_an_unknown_song_for_programs() -> None:
    name, told = correct("The Roos - Everlasting", accepts_doubt=True)
    assert (name, told) == ("The Roos / Everlasting", [])
    with pytest.raises(SeedTextError, match="did you mean"):
        correct("arktik", accepts_doubt=True)


def test_nothing_is_suggested_for_a_song_of_a_known_artist_that_is_not_similar() -> None:
    assert correct("Arctic Monkeys - 505") == ("Arctic Monkeys / 505", [])
