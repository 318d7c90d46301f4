"""Parameter files in JSON and TOML, and errors about malformed files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from catalog.errors import FileError, InputError
from ingest.saved_parameters import read_parameter_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_parameter_file_may_be_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[parameters]\nwindow = 9\nbackward = 1\nskip_gram = false\norder = 'none'\n")
    chosen = read_parameter_file(path)
    assert chosen.parameters == {
        "window": 9,
        "backward": 1,
        "skip_gram": False,
        "order": "none",
    }
    assert chosen.validation == {}
    assert chosen.study == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[]", "no table"),
        ('{"parameters": 3}', "no table"),
        ('{"parameters": {"windows": 3}}', "no parameter 'windows'"),
        ('{"parameters": {"window": "3"}}', "window cannot be '3'"),
        ('{"parameters": {"window": true}}', "window cannot be True"),
        ('{"parameters": {"skip_gram": 1}}', "skip_gram cannot be 1"),
        ('{"parameters": {"content_shares": 0.3}}', "content_shares cannot be 0.3"),
        ('{"parameters": {"content_shares": {"artist": "a"}}}', "content_shares cannot be"),
        ('{"parameters": {"query_decay": 0.9}}', r"replaced: use dense_recency .*0.9 about 0\.4"),
        ('{"parameters": {"cooccurrence_decay": 0.95}}', r"use recency .*0\.95 about 0\.2"),
        ('{"parameters": {"negative": null}}', "negative cannot be None"),
        ('{"parameters": {}, "validation": {"a": "b"}}', "must hold numbers"),
    ],
)
def test_an_error_names_the_fault_of_a_parameter_file(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_parameter_file(path)


def test_a_missing_parameter_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        read_parameter_file(tmp_path / "none.json")
