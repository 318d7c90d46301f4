"""The manifest: its JSON form, errors that name the wrong field, and checksums of files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import manifest
from catalog.errors import CorruptReleaseError
from catalog.manifest import Counts, FileSum, Manifest, Origin, sum_files, verify_files

if TYPE_CHECKING:
    from pathlib import Path

WHERE = "home/releases/r/manifest.json"

EXAMPLE = Manifest(
    format=manifest.FORMAT,
    release="20261123T204052774-aefe8f26",
    created="2026-11-23T20:40:52+00:00",
    dimensions=64,
    counts=Counts(
        songs=12, vectors=9, predicted=12, artists=3, training_playlists=40, training_plays=600
    ),
    origin=Origin(
        data_fingerprint="d" * 64,
        split_fingerprint="e" * 64,
        content_fingerprint="f" * 64,
        code_version="0.1.0",
        parameters={"epochs": 5, "sample": 0.0001, "skip_gram": True, "workers": None},
        sources=['Björk "live".csv', "日本.tsv"],
        track_ids=False,
    ),
    files={"edge_config.json": FileSum(408, "a" * 64), "segments/0/data.bin": FileSum(0, "b" * 64)},
    canaries=["1c0f3768-35d4-5b73-a63d-5199cc105001"],
    payload={"album": "keyword"},
)

PLACES = [
    "format",
    "release",
    "created",
    "dimensions",
    "counts",
    "counts.songs",
    "counts.vectors",
    "counts.predicted",
    "counts.artists",
    "counts.training_playlists",
    "counts.training_plays",
    "origin",
    "origin.data_fingerprint",
    "origin.split_fingerprint",
    "origin.content_fingerprint",
    "origin.code_version",
    "origin.parameters",
    "origin.sources",
    "origin.track_ids",
    "files",
    "files.edge_config.json.size",
    "files.edge_config.json.sha256",
    "canaries",
    "payload",
]

OPTIONAL = ["search_ef", "recall", "ranker", "validation"]


def fields() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(EXAMPLE.to_json())
    return loaded


def holder_of(place: str, of: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the object that contains the field at the path `place`, and the name of the field."""
    if place.startswith("files."):
        return of["files"]["edge_config.json"], place.rsplit(".", 1)[1]
    *above, name = place.split(".")
    for step in above:
        of = of[step]
    return of, name


def complaint(value: object) -> str:
    """Return the error message of `from_json` for this value: one line that names the file."""
    with pytest.raises(CorruptReleaseError) as caught:
        Manifest.from_json(json.dumps(value), WHERE)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: ")
    assert "\n" not in message
    return message


def test_round_trip() -> None:
    assert Manifest.from_json(EXAMPLE.to_json(), WHERE) == EXAMPLE
    assert Manifest.from_json(EXAMPLE.to_json().encode(), WHERE) == EXAMPLE


def test_json_is_readable_by_people() -> None:
    text = EXAMPLE.to_json()
    assert "日本.tsv" in text
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 30


def test_the_list_of_fields_is_complete() -> None:
    found = fields()
    inner = [f"{name}.{field}" for name in ("counts", "origin") for field in found[name]]
    file = [f"files.edge_config.json.{field}" for field in found["files"]["edge_config.json"]]
    assert sorted([*found, *inner, *file]) == sorted([*PLACES, *OPTIONAL])


def test_fields_that_older_releases_lack_may_be_missing() -> None:
    found = fields()
    for name in OPTIONAL:
        del found[name]
    assert Manifest.from_json(json.dumps(found), WHERE) == EXAMPLE
    assert "(recall: " in complaint(fields() | {"recall": "0.9"})
    assert "(search_ef: " in complaint(fields() | {"search_ef": "9"})
    assert "(ranker: " in complaint(fields() | {"ranker": "trees"})


@pytest.mark.parametrize("place", PLACES)
def test_missing_field(place: str) -> None:
    found = fields()
    holder, name = holder_of(place, found)
    del holder[name]
    assert f"not a manifest ({place}: " in complaint(found)


@pytest.mark.parametrize("place", PLACES)
def test_null_field(place: str) -> None:
    found = fields()
    holder, name = holder_of(place, found)
    holder[name] = None
    assert f"not a manifest ({place}: " in complaint(found)


@pytest.mark.parametrize("place", PLACES)
def test_ill_typed_field(place: str) -> None:
    found = fields()
    holder, name = holder_of(place, found)
    # Replace the value by a value of a similar but wrong type: for example, a text by a number.
    wrong = {str: 7, int: str(holder[name]), bool: 1, dict: [], list: {}}[type(holder[name])]
    holder[name] = wrong
    assert f"not a manifest ({place}: " in complaint(found)


@pytest.mark.parametrize("place", ["", "counts.", "origin.", "files.edge_config.json."])
def test_extra_field(place: str) -> None:
    found = fields()
    holder, _ = holder_of(f"{place}any", found)
    holder["surprise"] = 1
    assert f"not a manifest ({place}surprise: " in complaint(found)


def test_ill_typed_items() -> None:
    assert "(origin.sources.1: " in complaint(
        fields() | {"origin": fields()["origin"] | {"sources": ["a", 1]}}
    )
    assert "(canaries.0: " in complaint(fields() | {"canaries": [1]})
    assert "(payload.album: " in complaint(fields() | {"payload": {"album": "picture"}})
    assert "(files.x: " in complaint(fields() | {"files": {"x": 1}})


@pytest.mark.parametrize(
    "text", [b"", b"\0" * 64, b"\xff\xfe{", b"{", b'{"format": 1', b"[", b"1 2"]
)
def test_text_that_is_not_json(text: bytes) -> None:
    with pytest.raises(CorruptReleaseError, match=f"^{WHERE}: not a manifest .the whole: "):
        Manifest.from_json(text, WHERE)


@pytest.mark.parametrize("value", [None, [], "manifest", 1, True])
def test_json_of_another_kind(value: object) -> None:
    assert "not a manifest (the whole: " in complaint(value)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_formats_that_are_read(number: int) -> None:
    text = replace(EXAMPLE, format=number).to_json()
    assert Manifest.from_json(text, WHERE).format == number


@pytest.mark.parametrize("other", [0, 1, 5, 17])
def test_another_format(other: int) -> None:
    assert f"format {other}, and this nextsong reads formats 2, 3 and 4" in complaint(
        fields() | {"format": other}
    )


def test_another_format_is_detected_by_its_number_alone() -> None:
    assert "format 1, and this nextsong reads formats 2, 3 and 4" in complaint(
        {"format": 1, "songs": []}
    )


@given(st.integers(0, len(EXAMPLE.to_json().encode()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(place: int, change: int) -> None:
    text = bytearray(EXAMPLE.to_json().encode())
    text[place] ^= change
    try:
        found = Manifest.from_json(bytes(text), WHERE)
    except CorruptReleaseError as error:
        assert str(error).startswith(WHERE)  # noqa: PT017 -- it need not be raised
    else:
        assert found.format in manifest.READABLE_FORMATS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "segments" / "0").mkdir(parents=True)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "segments" / "0" / "data.bin").write_bytes(bytes(range(256)))
    (tmp_path / "segments" / "empty").write_bytes(b"")
    return tmp_path


def test_checksums_by_hand(folder: Path) -> None:
    assert sum_files(folder) == {
        "config.json": FileSum(2, hashlib.sha256(b"{}").hexdigest()),
        "segments/0/data.bin": FileSum(256, hashlib.sha256(bytes(range(256))).hexdigest()),
        "segments/empty": FileSum(0, hashlib.sha256(b"").hexdigest()),
    }


def test_checksums_of_an_empty_folder(tmp_path: Path) -> None:
    assert sum_files(tmp_path) == {}
    verify_files(tmp_path, {})


def test_unchanged_files_pass_verification(folder: Path) -> None:
    verify_files(folder, sum_files(folder))


def test_missing_file(folder: Path) -> None:
    sums = sum_files(folder)
    (folder / "segments" / "0" / "data.bin").unlink()
    with pytest.raises(CorruptReleaseError, match=r"segments/0/data\.bin is missing$"):
        verify_files(folder, sums)


def test_missing_folder(folder: Path) -> None:
    with pytest.raises(CorruptReleaseError, match=r"config\.json is missing$"):
        verify_files(folder / "elsewhere", sum_files(folder))


def test_added_file(folder: Path) -> None:
    sums = sum_files(folder)
    (folder / "segments" / ".hidden").write_bytes(b"")
    with pytest.raises(CorruptReleaseError, match=r"segments/\.hidden does not belong"):
        verify_files(folder, sums)


@pytest.mark.parametrize(
    "content",
    [b"", bytes(range(255)), bytes(range(256)) + b"\0", bytes(range(255)) + b"\xfe"],
    ids=["emptied", "truncated", "longer", "one bit"],
)
def test_changed_file(folder: Path, content: bytes) -> None:
    sums = sum_files(folder)
    (folder / "segments" / "0" / "data.bin").write_bytes(content)
    with pytest.raises(CorruptReleaseError, match=r"data\.bin is not as it was published$"):
        verify_files(folder, sums)


def test_a_file_that_became_a_folder(folder: Path) -> None:
    sums = sum_files(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with pytest.raises(CorruptReleaseError, match=r"config\.json is missing$"):
        verify_files(folder, sums)


def test_the_first_fault_is_named(folder: Path) -> None:
    sums = sum_files(folder)
    (folder / "segments" / "empty").unlink()
    (folder / "config.json").write_text("[]")
    with pytest.raises(CorruptReleaseError, match=r"config\.json"):
        verify_files(folder, sums)


def test_the_order_of_keys_in_a_json_file_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "segment.json"
    file.write_text('{"a": 1, "b": [2, 3]}')
    sums = manifest.sum_files(tmp_path)
    file.write_text('{"b": [2, 3], "a": 1}')
    manifest.verify_files(tmp_path, sums)
    for changed in ('{"b": [3, 2], "a": 1}', '{"b": [2, 3], "a": 7}', '{"b": [2, 3]  "a": 1}'):
        file.write_text(changed)
        with pytest.raises(CorruptReleaseError, match="not as it was published"):
            manifest.verify_files(tmp_path, sums)


def test_checksums_of_unsorted_json_files_are_accepted(tmp_path: Path) -> None:
    content = b'{"b": 2, "a": 1}'
    (tmp_path / "segment.json").write_bytes(content)
    published = manifest.FileSum(len(content), hashlib.sha256(content).hexdigest())
    manifest.verify_files(tmp_path, {"segment.json": published})
