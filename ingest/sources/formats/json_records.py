"""Convert JSON values to records (songs), and records to a column of values for each role."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ingest.sources.columns.roles import PLAY_ROLES, PLAYLIST_NUMBER
from ingest.sources.files.encodings import is_encodable
from ingest.sources.formats.batch import NO_SONGS, NOT_TEXT
from ingest.sources.formats.json_layout import values_at
from ingest.sources.tables import CREDIT_SEPARATOR
from ingest.sources.values.payload import PREFIX, as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.sources.formats.json_layout import Layout, Path

_MAX_SHOWN = 400  # maximum number of characters of a record in messages


@dataclass(frozen=True)
class MalformedLine:
    """A line that is not valid JSON, with the parser's message."""

    text: str
    problem: str


@dataclass(frozen=True)
class JsonRecords:
    """The records in some JSON values: songs, and values that cannot be read as songs.

    - `values`: the JSON value of each record.
    - `parents`: for each record, the index of the JSON value that contains it.
    - `indices`: for each record, its index in the list of songs.
    - `faults`: the reason why a record cannot be read, by the index of the record.
    """

    values: list[Any]
    parents: NDArray[np.int64]
    indices: NDArray[np.int64]
    faults: dict[int, str]

    @property
    def songs(self) -> list[Any]:
        """The values of the records, with None in place of records that cannot be read."""
        if not self.faults:
            return self.values
        return [None if n in self.faults else value for n, value in enumerate(self.values)]

    def show(self, record: int) -> str:
        """Return a record as text for display."""
        return show_value(self.values[record])


def unfold(values: list[Any], songs_path: Path) -> JsonRecords:
    """Return one record for each song in the lists at `songs_path`.

    If `songs_path` is (), each value is a record. A value without songs becomes a record with a
    fault.
    """
    records, counts = values, [1] * len(values)
    faults: dict[int, str] = {}
    if songs_path:
        records, counts = [], []
        for value, songs in zip(values, values_at(values, songs_path), strict=True):
            has_songs = isinstance(songs, list) and bool(songs)
            if not has_songs and isinstance(value, dict):
                faults[len(records)] = NO_SONGS
            counts.append(len(songs) if has_songs else 1)
            records += songs if has_songs else [value]
    parents = np.repeat(np.arange(len(values)), counts)
    indices = np.arange(len(records)) - np.repeat(np.cumsum(counts) - counts, counts)
    if set(map(type, records)) != {dict}:
        for record, value in enumerate(records):
            if isinstance(value, MalformedLine):
                faults[record] = f"not valid JSON: {value.problem}"
            elif not isinstance(value, dict):
                is_song = value is not values[parents[record]]
                faults[record] = f"{'a song that is ' if is_song else ''}not a JSON object"
    return JsonRecords(records, parents, indices, faults)


def to_fields(
    layout: Layout,
    values: Sequence[Any],
    records: JsonRecords,
    columns: Mapping[str, str],
    playlist_ids: Sequence[str],
) -> tuple[dict[str, pa.Array], dict[int, str]]:
    """Return the values of each role, and the reason for each record that cannot be read.

    `records` are the records in `values`. `columns` maps roles to column names. `playlist_ids`
    contains one playlist id for each value, for the role whose column is `PLAYLIST_NUMBER`.
    """
    faults = dict(records.faults)
    songs = records.songs
    parents = pa.array(records.parents)
    fields: dict[str, pa.Array] = {}
    for role, name in columns.items():
        if name == PLAYLIST_NUMBER:
            fields[role] = pa.array(playlist_ids, pa.string()).take(parents)
        elif name in layout.names.inner or not layout.songs:
            fields[role], problems = to_array(role, values_at(songs, layout.columns[name].path))
            for record, problem in problems.items():
                faults.setdefault(record, f"{role} {problem}")
        else:
            array, problems = to_array(role, values_at(values, layout.columns[name].path))
            fields[role] = array.take(parents)
            for record in np.flatnonzero(np.isin(records.parents, list(problems))).tolist():
                problem = problems[int(records.parents[record])]
                faults.setdefault(record, f"{role} {problem}")
    if layout.names.numbers_songs(columns):
        fields["position"] = pa.array(records.indices.astype(np.float64))
    return fields, faults


def show_value(value: Any) -> str:
    """Return a JSON value as text for display."""
    if isinstance(value, MalformedLine):
        return value.text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return json.dumps(value, default=str)[:_MAX_SHOWN]


def to_array(role: str, values: Sequence[Any]) -> tuple[pa.Array, dict[int, str]]:
    """Convert values for a role to an Arrow array: numeric positions to doubles, others to text.

    Payload fields with only numbers or only booleans keep their type. Returns an array of n values,
    and, for each value that cannot be converted, its index and the problem.
    """
    keeps_type = role.startswith(PREFIX) or role in PLAY_ROLES
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError):
        array = None  # values of several types, a lone surrogate, or a number that is out of range
    if array is not None:
        kind = array.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if pa.types.is_null(kind):
            return array.cast(pa.string()), {}
        if pa.types.is_string(kind) or (keeps_type and (is_number or pa.types.is_boolean(kind))):
            return array, {}
        if is_number:
            return array.cast(pa.float64()) if role == "position" else as_text(array), {}
    separator = CREDIT_SEPARATOR if role == "artist" else ", "
    converted = [_to_text(value, separator, keeps_type=keeps_type) for value in values]
    problems = {n: problem for n, (_, problem) in enumerate(converted) if problem}
    return pa.array([text for text, _ in converted], pa.string()), problems


def _to_text(value: Any, separator: str, *, keeps_type: bool) -> tuple[str | None, str]:
    """Return a value as text, and the problem if the value cannot be converted, else "".

    Lists of names are joined with `separator`. Objects become null.
    """
    if value is None or isinstance(value, dict):
        return None, ""
    if isinstance(value, list):  # such as the artists of a song
        items = [item.get("name") if isinstance(item, dict) else item for item in value]
        names = [name for name in items if isinstance(name, str)]
        if len(names) < len(items):
            return None, "is a list"
        value = separator.join(names)
    if isinstance(value, bool):
        return (str(value).lower(), "") if keeps_type else (None, "is true or false, not text")
    if isinstance(value, float):
        return as_text(pa.array([value]))[0].as_py(), ""
    text = str(value)
    return (text, "") if is_encodable(text) else (None, NOT_TEXT)
