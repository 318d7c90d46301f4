"""Convert JSON objects to records (songs), and records to a column of values for each role."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.sources.columns import PLAY_ROLES, PLAYLIST_NUMBER
from ingest.sources.encodings import is_encodable
from ingest.sources.formats.batch import NOT_TEXT, Batch
from ingest.sources.formats.json_layout import count_late_names, values_at
from ingest.sources.payload import PREFIX, as_text
from ingest.sources.tables import CREDIT_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.sources.formats.json_layout import Layout

_MAX_SHOWN = 400  # maximum number of characters of a record


@dataclass(frozen=True)
class MalformedLine:
    """A line that is not valid JSON, with the parser's message."""

    text: str
    problem: str


@dataclass(frozen=True)
class JsonRecords:
    """The records in some JSON values of a file: songs, and values that cannot be read as songs.

    - `values`, `numbers`: the JSON values, and the number of each value in the file.
    - `raw`, `lines`: the JSON value and the line number of each record.
    - `parents`, `indices`: for each record, the index in `values` of the value that contains it,
      and the record's index in the list of songs.
    - `faults`: the reason why a record cannot be read, by the index of the record.
    - `song_count`: number of records, not counting playlists without songs.
    """

    layout: Layout
    values: list[Any]
    numbers: NDArray[np.int64]
    raw: list[Any]
    lines: NDArray[np.int64]
    parents: NDArray[np.int64]
    indices: NDArray[np.int64]
    faults: Mapping[int, str]
    song_count: int

    @property
    def songs(self) -> list[Any]:
        """The songs, with None in place of records that cannot be read."""
        if not self.faults:
            return self.raw
        return [None if n in self.faults else record for n, record in enumerate(self.raw)]


def collect_records(
    layout: Layout, values: list[Any], numbers: NDArray[np.int64], first_line: int | None = None
) -> JsonRecords:
    """Return the records in `values`. `numbers` are the numbers of the values in the file.

    The line number of a record is the number of the value that contains it. If `first_line` is
    given, songs are numbered from `first_line` instead.
    """
    raw: list[Any] = [] if layout.songs else values
    counts = [] if layout.songs else [1] * len(values)  # number of records in each value
    faults: dict[int, str] = {}
    is_song = np.ones(len(values), bool)  # for each value, whether its records count as songs
    lists = values_at(values, layout.songs_path) if layout.songs else []
    for number, songs in enumerate(lists):
        if isinstance(songs, list) and songs:
            counts.append(len(songs))
            raw += songs
            continue
        value = values[number]
        is_song[number] = not isinstance(value, dict)
        reason = "not a JSON object" if is_song[number] else "a playlist without songs"
        faults[len(raw)] = _explain(value, reason)
        counts.append(1)
        raw.append(value)
    if set(map(type, raw)) != {dict}:
        other = "a song that is not a JSON object" if layout.songs else "not a JSON object"
        for record, value in enumerate(raw):
            if not isinstance(value, dict):
                faults.setdefault(record, _explain(value, other))
    parents = np.repeat(np.arange(len(values)), counts)
    are_counted = is_song[parents]
    return JsonRecords(
        layout,
        values,
        numbers,
        raw,
        numbers[parents]
        if first_line is None
        else first_line + np.cumsum(are_counted) - are_counted,
        parents,
        np.arange(len(raw)) - np.repeat(np.cumsum(counts) - counts, counts),
        faults,
        int(are_counted.sum()),
    )


def to_batch(records: JsonRecords, columns: Mapping[str, str], label: str, position: int) -> Batch:
    """Convert records to a batch. `columns` maps roles to column names."""
    layout, songs = records.layout, records.songs
    parents = pa.array(records.parents)
    faults = dict(records.faults)
    fields = _convert_texts(layout, songs, columns)
    for role, name in columns.items():
        if role in fields:
            continue
        if name == PLAYLIST_NUMBER:
            names = pa.array([f"{label} {number}" for number in records.numbers.tolist()])
            fields[role] = names.take(parents)
        elif name in layout.columns.inner or not layout.songs:
            fields[role], problems = to_array(role, values_at(songs, layout.paths[name]))
            for record, problem in problems.items():
                faults.setdefault(record, f"{role} {problem}")
        else:
            array, problems = to_array(role, values_at(records.values, layout.paths[name]))
            fields[role] = array.take(parents)
            for record in np.flatnonzero(np.isin(records.parents, list(problems))).tolist():
                problem = problems[int(records.parents[record])]
                faults.setdefault(record, f"{role} {problem}")
    if layout.columns.numbers_songs(columns):
        fields["position"] = pa.array(records.indices.astype(np.float64))
    late_names = count_late_names(records.values, layout.object_keys)
    late_names.update(
        {
            f"{layout.songs}.{name}": count
            for name, count in count_late_names(songs, layout.song_keys).items()
        }
    )
    return Batch(
        records.lines, fields, faults, lambda n: show_value(records.raw[n]), position, late_names
    )


def _explain(value: Any, reason: str) -> str:
    """Return the fault of a value: the parser's message if it is not valid JSON, else `reason`."""
    if isinstance(value, MalformedLine):
        return f"not valid JSON: {value.problem}"
    return reason


def show_value(value: Any) -> str:
    """Return a JSON value as text for display."""
    if isinstance(value, MalformedLine):
        return value.text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return json.dumps(value, default=str)[:_MAX_SHOWN]


def _convert_texts(
    layout: Layout, songs: Sequence[Any], columns: Mapping[str, str]
) -> dict[str, pa.Array]:
    """Return, by role, the columns of songs that are not nested and contain only text."""
    names = layout.columns.inner or layout.columns.outer
    keys = {
        role: layout.paths[name][0]
        for role, name in columns.items()
        if name in names and len(layout.paths[name]) == 1 and layout.types[name] <= {str}
    }
    try:
        texts = pa.array(songs, pa.struct([(key, pa.string()) for key in set(keys.values())]))
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return {}
    return {role: pc.struct_field(texts, key) for role, key in keys.items()}


def to_array(role: str, values: Sequence[Any]) -> tuple[pa.Array, dict[int, str]]:
    """Convert values for a role to an Arrow array: numeric positions to doubles, others to text.

    Payload fields with only floats or only booleans keep their type. Returns an array of n values,
    and, for each value that cannot be converted, its index and the problem.
    """
    is_payload = role.startswith(PREFIX) or role in PLAY_ROLES
    types = set(map(type, values)) - {NoneType}
    try:
        if types <= {str}:
            return pa.array(values, pa.string()), {}
        if role == "position" and types <= {int, float}:
            return pa.array(values, pa.float64()), {}
        if types == {int}:
            return pa.array(values, pa.int64()).cast(pa.string()), {}
    except (UnicodeEncodeError, pa.ArrowInvalid, OverflowError):
        pass  # a lone surrogate, or a number that is out of range
    if types == {float}:
        numbers = pa.array(values, pa.float64())
        return (numbers if is_payload else as_text(numbers)), {}
    if types == {bool} and is_payload:
        return pa.array(values, pa.bool_()), {}
    separator = CREDIT_SEPARATOR if role == "artist" else ", "
    converted = [_to_text(value, separator, is_payload=is_payload) for value in values]
    problems = {n: problem for n, (_, problem) in enumerate(converted) if problem}
    return pa.array([text for text, _ in converted], pa.string()), problems


def _to_text(value: Any, separator: str, *, is_payload: bool) -> tuple[str | None, str]:
    """Return a value as text, and a problem if it cannot be converted. Objects become null."""
    if value is None or isinstance(value, dict):
        return None, ""
    if isinstance(value, list):  # such as the artists of a song
        items = [item.get("name") if isinstance(item, dict) else item for item in value]
        names = [name for name in items if isinstance(name, str)]
        if len(names) < len(items):
            return None, "is a list"
        value = separator.join(names)
    if isinstance(value, bool):
        return (str(value).lower(), "") if is_payload else (None, "is true or false, not text")
    if isinstance(value, float):
        return as_text(pa.array([value]))[0].as_py(), ""
    text = str(value)
    return (text, "") if is_encodable(text) else (None, NOT_TEXT)
