"""What the columns of a Parquet file hold: a song a row, or a playlist a row with lists of songs.

A playlist has one list of structs, with a field for each role, or several plain lists side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.sources.columns import roles_in
from ingest.sources.formats import json_layout
from ingest.sources.formats.json_layout import PLACE, Layout, is_usual
from ingest.sources.payload import natural_kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_SONG = {"artist", "title"}


@dataclass(frozen=True)
class Leaf:
    """A column of values: where it is in the file, and the type of a value.

    `path` leads from the file's own column through structs. `in_list` says that a row has a list.
    """

    path: tuple[str, ...]
    kind: pa.DataType
    in_list: bool = False


@dataclass(frozen=True)
class Unfolded:
    """The values of some rows, a song each, by role.

    `row` (n, int64) says of which row of the file's part each is, `index` at which place in its
    list; `wrong` are the rows that are none, with the reason.
    """

    values: Mapping[str, pa.Array]
    row: NDArray[np.int64]
    index: NDArray[np.int64]
    wrong: list[tuple[int, str]]


def leaves_of(schema: pa.Schema) -> dict[str, Leaf]:
    """All columns by their dotted names; of two of one name, the first."""
    found: dict[str, Leaf] = {}
    for column in schema:
        for leaf in _leaves((column.name,), column.type, in_list=False):
            found.setdefault(".".join(leaf.path), leaf)
    return found


def _leaves(path: tuple[str, ...], kind: pa.DataType, *, in_list: bool) -> Iterator[Leaf]:
    if pa.types.is_struct(kind):
        for inner in kind:
            yield from _leaves((*path, inner.name), inner.type, in_list=in_list)
    elif _is_list(kind) and not in_list and len(path) == 1:
        yield from _leaves(path, kind.value_type, in_list=True)
    else:
        yield Leaf(path, kind, in_list)


def layout_of(leaves: Mapping[str, Leaf]) -> Layout:
    """The layout of a file's columns, as of JSON objects with these names."""
    kinds = {name: natural_kind(leaf.kind) or json_layout.TEXT for name, leaf in leaves.items()}
    outer = [name for name, leaf in leaves.items() if not leaf.in_list]
    lists: dict[str, list[str]] = {}
    for name, leaf in leaves.items():
        if leaf.in_list and len(leaf.path) > 1:
            lists.setdefault(leaf.path[0], []).append(name)
    songs = [name for name in lists if roles_in(lists[name]) >= _SONG]
    if not songs and not roles_in(outer) & _SONG:
        songs = [name for name in lists if is_usual(name)]
    songs.sort(key=lambda name: not is_usual(name))
    if not songs or roles_in(outer) >= _SONG:
        return Layout("", kinds)
    return Layout(songs[0], kinds, also=tuple(songs[1:]))


def unfolded(
    table: pa.Table, leaves: Mapping[str, Leaf], columns: Mapping[str, str], label: str, row: int
) -> Unfolded:
    """The songs of some rows, the first of which is the `row`-th of the file, from 0."""
    found = {role: leaves[name] for role, name in columns.items() if name != PLACE}
    listed = _listed(found)
    rows = np.arange(len(table))
    index = np.zeros(len(table), np.int64)
    wrong: list[tuple[int, str]] = []
    if listed:
        lengths = np.stack([_lengths(table, found[role]) for role in sorted(listed)])
        uneven = (lengths != lengths[0]).any(axis=0)
        empty = ~uneven & (lengths[0] == 0)
        wrong = [(int(at), "lists of different lengths") for at in np.flatnonzero(uneven)]
        wrong += [(int(at), "a playlist without songs") for at in np.flatnonzero(empty)]
        kept = np.flatnonzero(~uneven & ~empty)
        table, lengths = table.take(pa.array(kept)), lengths[0][kept]
        parents = pa.array(np.repeat(np.arange(len(kept)), lengths))
        rows = np.repeat(kept, lengths)
        index = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values: dict[str, pa.Array] = {}
    for role in columns:
        if role not in found:
            places = [f"{label} {row + at + 1}" for at in range(1 + int(rows.max(initial=0)))]
            values[role] = pa.array(places, pa.string()).take(pa.array(rows))
            continue
        path = found[role].path
        column = table.column(path[0])
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if role in listed:
            values[role] = _within(column.flatten(), path[1:])
            continue
        if found[role].in_list and len(path) == 1:
            column = pc.binary_join(column.cast(pa.list_(pa.string())), ", ")
        else:
            column = _within(column, path[1:])
        values[role] = column.take(parents) if listed else column
    return Unfolded(values, rows, index, sorted(wrong))


def _listed(found: Mapping[str, Leaf]) -> set[str]:
    """The roles whose values are one for each song of a row's list; none where a row is a song.

    Other lists are joined to one text: of a song's artists, or of a playlist's marks.
    """
    title = found.get("title")
    if title is None or not title.in_list:
        return set()
    return {
        role
        for role, leaf in found.items()
        if leaf.in_list
        and (leaf.path[0] == title.path[0] or len(leaf.path) == len(title.path) == 1)
    }


def _within(column: pa.Array, path: tuple[str, ...]) -> pa.Array:
    for part in path:
        column = pc.struct_field(column, [column.type.get_field_index(part)])
    return column


def _lengths(table: pa.Table, leaf: Leaf) -> NDArray[np.int64]:
    lengths = pc.list_value_length(table.column(leaf.path[0]))
    found: NDArray[np.int64] = pc.fill_null(lengths, 0).to_numpy().astype(np.int64)
    return found


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
