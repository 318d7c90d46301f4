"""Songs found by misspelt names: ranking, ties, bounds, and when a song is certainly meant."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from catalog.model import Filter
from service.recommend.seeds import Seed
from service.recommend.spelling import (
    CANDIDATES,
    MIN_SIMILARITY,
    find_certain,
    search_by_name,
    suggest_songs,
)
from tests.support.fakes import FakeRelease, points_of

POINTS = points_of(
    ("Arctic Monkeys", "Do I Wanna Know?", 50, (1, 0)),
    ("Arctic Monkeys", "R U Mine?", 40, (1, 0)),
    ("The Monkees", "Daydream Believer", 30, (1, 0)),
    ("Coldplay", "Yellow", 20, (1, 0)),
    ("Blink-182", "What's My Age Again?", 15, (1, 0)),
    ("Muse", "Madness", 10, (1, 0)),
    ("", "Oat Milk 1 l", 5, (1, 0)),
)


def search(text: str, limit: int = 10, release: FakeRelease | None = None) -> list[str]:
    similar = asyncio.run(search_by_name(release or FakeRelease(POINTS), text, limit))
    assert [song.similarity for song in similar] == sorted(
        (song.similarity for song in similar), reverse=True
    )
    assert all(MIN_SIMILARITY <= song.similarity <= 1 for song in similar)
    return [song.song.title for song in similar]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("arctic monkeys - do i wanna know?", "Do I Wanna Know?"),
        ("Arctic Monkys", "Do I Wanna Know?"),  # the most popular song of the artist
        ("arktik", "Do I Wanna Know?"),
        ("rctic monkeys r u mine", "R U Mine?"),
        ("r u mine arctic monkyes", "R U Mine?"),
        ("kolplay", "Yellow"),
        ("colpday yelow", "Yellow"),
        ("tne monkees", "Daydream Believer"),
        ("dreamday beleiver", "Daydream Believer"),
        ("muze", "Madness"),
        ("Blink182 whats my age agian", "What's My Age Again?"),
        ("oat mlik", "Oat Milk 1 l"),
        ("monkeys wanna", "Do I Wanna Know?"),  # words that need not be adjacent
    ],
)
def test_the_first_song_is_the_one_that_is_meant(text: str, first: str) -> None:
    assert search(text)[0] == first


def test_similar_names_are_ordered_by_similarity_and_then_by_popularity() -> None:
    assert search("arctic monkees")[:3] == ["Do I Wanna Know?", "R U Mine?", "Daydream Believer"]
    assert search("arctic monkees", limit=1) == ["Do I Wanna Know?"]
    assert search("xylophone quartet") == []


def test_an_equal_name_has_similarity_one() -> None:
    (first, *_) = asyncio.run(search_by_name(FakeRelease(POINTS), "COLDPLAY – Yellow", 5))
    assert (first.song.title, first.similarity) == ("Yellow", 1.0)


def test_a_filter_applies_to_similar_names() -> None:
    where = Filter(exclude_songs=frozenset([POINTS[0].song.song_id]))
    similar = asyncio.run(search_by_name(FakeRelease(POINTS), "arktik", 10, where))
    assert [song.song.title for song in similar] == ["R U Mine?"]


def test_a_release_without_spelling_vectors_finds_only_the_beginnings_of_words() -> None:
    release = FakeRelease(POINTS)
    release.manifest = replace(release.manifest, format=3)
    assert search("arc mon", release=release) == ["Do I Wanna Know?", "R U Mine?"]
    assert search("arktik", release=release) == []


def test_a_search_compares_a_bounded_number_of_songs_and_characters() -> None:
    names = [("x" * 500, f"{'y' * 500} {number}", 1, (1, 0)) for number in range(2 * CANDIDATES)]
    release = FakeRelease(points_of(*names))
    compared = asyncio.run(search_by_name(release, "x" * 400, 10))
    assert len(compared) == 10
    assert release.call_counts == {"search": 1, "search_spelling": 1}


def test_songs_are_suggested_for_the_name_of_a_seed() -> None:
    release = FakeRelease(POINTS)
    seed = Seed(artist="Kolplay", title="Yelow")
    (first, *_) = asyncio.run(suggest_songs(release, seed, 3))
    assert first.song.title == "Yellow"
    assert asyncio.run(suggest_songs(release, Seed(POINTS[0].song.song_id), 3)) == []


@pytest.mark.parametrize(
    ("text", "names", "certain"),
    [
        ("muse madnes", [("Muse", "Madness", 0.92), ("Muse", "Mercy", 0.6)], True),
        ("muse madnes", [("Muse", "Madness", 0.92)], True),
        ("muse madnes", [("Muse", "Madness", 0.84)], False),  # not similar enough
        # The second song is nearly as similar as the first.
        ("muse madnes", [("Muse", "Madness", 0.92), ("Mu", "Madness", 0.85)], False),
        ("song, part 2", [("X", "Song, Part 1", 0.9)], False),
        ("song 1", [("X", "Song", 0.9)], False),
        ("whats my age agian", [("Blink-182", "What's My Age Again?", 0.9)], True),
        ("muze", [("Muse", "Madness", 0.931)], False),  # the text names only an artist
        ("muze", [], False),
    ],
)
def test_a_song_is_certain_if_no_other_can_be_meant(
    text: str, names: list[tuple[str, str, float]], certain: bool
) -> None:
    assert find_certain(text, names) == (0 if certain else None)
