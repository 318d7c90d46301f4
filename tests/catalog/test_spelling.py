"""Trigrams of names, and the folding of letters that are often confused."""

from __future__ import annotations

import zlib

import hypothesis
import hypothesis.strategies as st
import pytest

from catalog.song import normalise
from catalog.spelling import (
    build_spelling_query,
    build_spelling_vector,
    fold_spelling,
    strip_punctuation,
)


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("arctic monkeys", "arktik monkeis"),
        ("coldplay", "koldplai"),
        ("phoenix", "foenix"),
        ("don't stop (remix)", "dont stop remix"),
        ("wazz", "vas"),
        ("r&b", "r b"),
        ("!!!", "!"),
        ("宇多田ヒカル", "宇多田ヒカル"),
    ],
)
def test_confused_letters_become_equal(name: str, folded: str) -> None:
    assert fold_spelling(name) == folded


def test_a_name_keeps_its_punctuation_only_if_it_has_nothing_else() -> None:
    assert strip_punctuation("ac/dc - t.n.t.") == "ac dc t n t"
    assert strip_punctuation("÷") == "÷"
    assert strip_punctuation("") == ""


def hashes(*trigrams: str) -> set[int]:
    return {zlib.crc32(trigram.encode()) for trigram in trigrams}


def test_trigrams_are_made_from_each_folded_word() -> None:
    expected = hashes(" m ", " vs", "vs ", "s s") - hashes("s s")
    assert set(build_spelling_query("M, Wz!")) == expected
    assert set(build_spelling_query("Muse")) == hashes(" mu", "mus", "use", "se ")
    assert set(build_spelling_query("!!!")) == hashes(" !!", "!!!", "!! ")
    assert build_spelling_query(" \t") == {}


def test_common_misspellings_have_the_same_trigrams() -> None:
    for wrong, right in (("Arktik", "arctic"), ("Fil Kolins", "Phil Collins"), ("dont", "don't")):
        assert build_spelling_query(wrong) == build_spelling_query(right)


def test_a_mistake_changes_at_most_four_trigrams_of_a_word() -> None:
    right = build_spelling_query("everlong").keys()
    for wrong in ("verlong", "eberlong", "everlonng", "evrelong", "everlog"):
        assert len(right - build_spelling_query(wrong).keys()) <= 4


def test_entries_of_popular_songs_are_slightly_larger() -> None:
    values = [build_spelling_vector("abba sos", ordinal).popitem()[1] for ordinal in (0, 10, 10**6)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1.01)
    assert values[-1] > 1


@hypothesis.given(st.text(max_size=40))
def test_every_name_with_a_word_has_trigrams_and_folding_is_stable(text: str) -> None:
    name = normalise(text)
    assert bool(build_spelling_query(text)) == bool(name)
    assert build_spelling_query(text).keys() == build_spelling_vector(name, 3).keys()
    folded = fold_spelling(name)
    assert fold_spelling(folded) == folded
