"""Song identity: spellings that count as the same song, and ids that must never change."""

from __future__ import annotations

import unicodedata
import uuid
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import song
from catalog.song import normalise, search_text, song_id, song_id_of_keys, song_id_of_track

SEPARATOR = "\x1f"

# Characters that hypothesis rarely generates. They are mixed with any text that UTF-8 can encode.
AWKWARD = (
    "aAßẞİıIſÅÅﬃᾳᾼͅΣσς\u0301\u0323\u093f\u3099\u309aがハ가\u1100\u1161Ⅷ²～\u00a0\u2003\u3000\x1f\x85"
)
any_text = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters(codec="utf-8")))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ""),
        (" \t\n ", ""),
        ("\u3000\u00a0", ""),
        ("The BEATLES", "the beatles"),
        ("  Guns   N'\tRoses\r\n", "guns n' roses"),
        ("a\u00a0b\u2003c\u3000d\u2028e\x85f\x1fg\x0bh", "a b c d e f g h"),
        ("ＡＢＣ　１２３！", "abc 123!"),
        ("Beyoncé", "beyonce"),
        ("Beyonce\u0301", "beyonce"),
        ("Sigur Rós", "sigur ros"),
        ("Ø", "ø"),  # a separate letter in Unicode, not an accented o
        ("Motörhead", "motorhead"),
        ("Ünïcödé Ǻ Ṩ", "unicode a s"),
        ("Straße", "strasse"),
        ("STRASSE", "strasse"),
        ("ẞ", "ss"),
        ("İstanbul", "istanbul"),
        ("ISTANBUL", "istanbul"),
        ("ısı", "ısı"),  # the dotless i is a different letter
        ("ﬁne ﬂoor oﬃce", "fine floor office"),
        ("Ⅷ", "viii"),
        ("№ 1", "no 1"),
        ("x²", "x2"),
        ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
        ("Σίσυφος", "σισυφοσ"),
        ("ΤΩΙ", "τωι"),
        ("τῷ", "τωι"),  # case folding turns the iota subscript into a letter
        ("Ёлка Й", "елка и"),
        ("हिन्दी", "हिन्दी"),
        ("हन्द", "हन्द"),
        ("ที่รัก", "ที่รัก"),
        ("がぎぐ", "がぎぐ"),
        ("か\u3099", "が"),  # the voicing mark is composed with the letter
        ("ｶﾞ", "ガ"),
        ("방탄소년단", "방탄소년단"),
        (unicodedata.normalize("NFD", "방탄소년단"), "방탄소년단"),
        ("فيروز", "فيروز"),
        ("👩\u200d🎤", "👩\u200d🎤"),
    ],
)
def test_normalise_by_hand(name: str, expected: str) -> None:
    assert normalise(name) == expected


@pytest.mark.parametrize(
    "names",
    [
        ("か", "が"),
        ("は", "ば", "ぱ"),
        ("कि", "की", "का", "क"),
        ("ที", "ที่", "ท"),
        ("가", "각"),
        ("o", "ø"),
        ("i", "ı"),
        ("ab", "a b"),
        ("ac/dc", "acdc"),
    ],
)
def test_different_names_stay_different(names: tuple[str, ...]) -> None:
    for one, other in combinations(names, 2):
        assert normalise(one) != normalise(other)


def characters() -> list[str]:
    """Return all assigned Unicode characters, except those in the large blocks of ideographs."""
    return [
        character
        for code in range(0x110000)
        if unicodedata.category(character := chr(code)) not in {"Cs", "Cn", "Co"}
        and not (0x3400 <= code < 0xA000 or 0x17000 <= code < 0x18D00 or code >= 0x20000)
    ]


def test_every_single_character() -> None:
    for character in characters():
        key = normalise(character)
        assert normalise(key) == key
        assert SEPARATOR not in key
        for variant in (character.upper(), character.lower(), character.title()):
            if variant.casefold() == character.casefold():
                assert normalise(variant) == key, (character, variant)


@given(any_text)
def test_normalise_is_idempotent(name: str) -> None:
    assert normalise(normalise(name)) == normalise(name)


@given(any_text)
def test_case_does_not_matter(name: str) -> None:
    for variant in (name.upper(), name.lower(), name.title(), name.swapcase(), name.casefold()):
        if variant.casefold() == name.casefold():
            assert normalise(variant) == normalise(name)


@given(any_text)
def test_unicode_form_does_not_matter(name: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert normalise(unicodedata.normalize(form, name)) == normalise(name)


@given(st.lists(any_text), st.lists(st.sampled_from(" \t\n\x0b\x1c\x1f\x85\u00a0\u2009\u3000")))
def test_white_space_does_not_matter(words: list[str], spaces: list[str]) -> None:
    gap = "".join(spaces) or " "
    assert normalise(gap + gap.join(words) + gap) == normalise(" ".join(words))


@given(any_text)
def test_a_normalised_name_has_no_separator_and_no_surplus_space(name: str) -> None:
    key = normalise(name)
    assert SEPARATOR not in key
    assert key.split(" ") == key.split() or key == ""


@pytest.mark.parametrize(
    ("artist", "title", "expected"),
    [
        ("The Beatles", "Yesterday", "9d4c15bd-b0d3-5d4b-8b4b-c72dca86e3f4"),
        ("Beyoncé", "Déjà Vu", "36a8dd6e-f016-5db9-9a54-3c9788b2a3c6"),
        ("宇多田ヒカル", "First Love", "c4d5df74-a2f9-5ffb-b5c1-eb3a038cc738"),
    ],
)
def test_ids_of_names_are_pinned(artist: str, title: str, expected: str) -> None:
    # Clients store these ids. If an id changes, the service does not know the stored id any more.
    assert str(song_id(artist, title)) == expected


def test_ids_of_tracks_are_pinned() -> None:
    track = song_id_of_track("spotify:track:3BQHpFgAp4l80e1XslIjNI")
    assert str(track) == "4a0cfdd6-e5b4-576d-a827-74286f30017b"
    assert str(song.NAMESPACE) == "e5bcbd53-188f-5460-ab6f-f5bd97484f1b"


@given(any_text, any_text)
def test_ids_equal_those_of_the_standard_library(artist: str, title: str) -> None:
    name = f"{normalise(artist)}{SEPARATOR}{normalise(title)}"
    assert song_id(artist, title) == uuid.uuid5(song.NAMESPACE, name)
    assert song_id(artist, title).version == 5
    assert song_id(artist, title) == song_id_of_keys(normalise(artist), normalise(title))


def test_spellings_of_a_song_share_its_id() -> None:
    assert song_id("BEYONCÉ ", "Déjà  Vu") == song_id("beyonce", "deja vu")


def test_the_boundary_between_artist_and_title_matters() -> None:
    assert len({song_id("a b", "c"), song_id("a", "b c"), song_id("c", "a b")}) == 3


@given(any_text, any_text, any_text)
def test_ids_of_names_and_of_tracks_never_collide(artist: str, title: str, track: str) -> None:
    assert song_id(artist, title) != song_id_of_track(track)
    assert song_id("", track) != song_id_of_track(track)
    assert song_id("", "") != song_id_of_track("")


def test_track_ids_are_not_normalised() -> None:
    assert song_id_of_track("Ab") != song_id_of_track("ab")


def test_search_text_contains_artist_and_title() -> None:
    assert search_text(["ac/dc"], "t.n.t.") == "ac/dc t.n.t."
    assert search_text(["run-dmc", "aerosmith"], "walk") == "run-dmc aerosmith walk"
    assert search_text([], "walk") == "walk"
