"""Seeds as they are typed: dashes of all kinds, names that hold dashes, and titles alone."""

from __future__ import annotations

import shlex

import pytest

from service.client.client import Direct
from service.client.seed_texts import MAX_SPLITS, SeedTextError, seeds_of, splits_of
from tests.support.fakes import FakeRelease, points_of

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


def named(release: FakeRelease, *texts: str) -> list[str]:
    """The names of the songs that the texts are taken for, or the names that go on unknown."""
    songs = {str(point.song.song_id): point.song for point in POINTS}
    found = [songs.get(seed.song_id, seed) for seed in seeds_of(Direct(release), texts)]
    return [f"{one.artist} / {one.title}" for one in found]


@pytest.mark.parametrize(
    "dash",
    [" - ", " – ", " — ", " \u2212 ", " -- ", "-", "–", "\u2010", " \u2011 ", "- ", " \uff0d "],
)
def test_dashes_of_all_kinds(release: FakeRelease, dash: str) -> None:
    assert named(release, f"dido{dash}THANK YOU") == ["dido / THANK YOU"]
    assert release.asked.get("search", 0) == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AC - DC - Back in Black", "AC - DC / Back in Black"),
        ("Jay-Z - Run - Intro", "Jay-Z / Run - Intro"),
        ("jay-z-run - intro", "jay-z / run - intro"),
        ("back in black", "AC - DC / Back in Black"),
        ("Run - Intro", "Jay-Z / Run - Intro"),
        ("AC - DC - Unheard", "AC - DC / Unheard"),  # the artist is known
        ("Nobody - Nothing - Ever", "Nobody / Nothing - Ever"),  # nothing is
    ],
)
def test_every_split_is_tried(release: FakeRelease, text: str, name: str) -> None:
    assert named(release, text) == [name]


def test_an_id_needs_no_lookup(release: FakeRelease) -> None:
    (seed,) = seeds_of(Direct(release), [str(POINTS[0].song.song_id).upper()])
    assert seed.song_id == str(POINTS[0].song.song_id)
    assert release.asked == {}


def test_a_whole_playlist_is_looked_up_in_one_call(release: FakeRelease) -> None:
    names = [f"{point.song.artist} - {point.song.title}" for point in POINTS[:6]]
    assert len(named(release, *names)) == 6
    assert (release.asked["points"], release.asked["find"]) == (1, 1)
    assert "search" not in release.asked


def test_candidates_are_listed_ready_to_paste(release: FakeRelease) -> None:
    for title, artists in (("Thank You", ["Dido", "Led Zeppelin"]), ("a$ap", ["It's", "Only"])):
        with pytest.raises(SeedTextError) as caught:
            seeds_of(Direct(release), [title])
        message = str(caught.value)
        listed = message.partition("name one: ")[2]
        pasted = [part.removesuffix(",") for part in shlex.split(listed)]
        assert [text.partition(" - ")[0] for text in pasted] == artists
        assert all(named(release, text) for text in pasted)


def test_a_text_with_two_meanings_is_answered_with_ids(release: FakeRelease) -> None:
    with pytest.raises(SeedTextError, match="names several songs") as caught:
        seeds_of(Direct(release), ["A - B - C"])
    for point in POINTS[6:8]:
        assert str(point.song.song_id) in str(caught.value)


@pytest.mark.parametrize("text", ["Nothing Here", "Semi-Detached", "-", "- -", "", "x" * 300])
def test_what_means_nothing_is_said(release: FakeRelease, text: str) -> None:
    if text == "Semi-Detached":  # its artist is known
        assert named(release, text) == ["Semi / Detached"]
        return
    with pytest.raises(SeedTextError, match=r"Artist - Title.*nextsong search"):
        seeds_of(Direct(release), [text])


def test_splits_are_bounded() -> None:
    splits = splits_of("a-b" * 100 + " - c")
    assert len(splits) == MAX_SPLITS
    assert splits[0].is_spaced
    assert splits[0].title == "c"
