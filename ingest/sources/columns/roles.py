"""Find the columns of a file for roles such as artist and title, by column name."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import ColumnError
from ingest.sources.columns.known_names import (
    ADDED,
    ALIASES,
    IN_LISTS,
    IN_ROWS,
    ITEM_ALIASES,
    TIMES,
    fold,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

ROLES = ("playlist_id", "playlist_name", "owner", "artist", "title", "position", "track_id")
"""The roles whose values are stored, each in a column of the table of rows."""

PLAY_ROLES = ("played", "skipped")
"""Additional roles, which decide whether a play counts: its length, and whether it was skipped."""

ALL_ROLES = (*ROLES, *PLAY_ROLES)

SONG_ROLES = ("artist", "title", "track_id")
"""The roles of columns in catalog files, which list songs without playlists."""

THIS_FILE = "@file"
"""Used instead of a column name if the whole file is one playlist, or the plays of one listener."""

PLAYLIST_NUMBER = "(place)"
"""Used instead of a column name if playlists have no id and are numbered in file order."""


@dataclass(frozen=True)
class ColumnNames:
    """The column names of a file. Names of nested columns are dotted, except in delimited text.

    - `outer`: the columns of the records.
    - `inner`: the columns of the songs, if each record has a list of songs. Otherwise empty.
    - `flags`: the nested columns that contain only true and false, and therefore no names.
    """

    outer: tuple[str, ...]
    inner: tuple[str, ...] = ()
    flags: Collection[str] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """All names, including `PLAYLIST_NUMBER` if there is a list of songs."""
        return (*self.outer, *self.inner, PLAYLIST_NUMBER) if self.inner else self.outer

    def songs_are_rows(self, columns: Mapping[str, str]) -> bool:
        """Return whether songs in a list have a column of their own for the playlist or listener.

        Such a list is not a playlist. Its songs are read as rows, in file order.
        """
        return any(columns.get(role) in self.inner for role in IN_ROWS)

    def numbers_songs(self, columns: Mapping[str, str]) -> bool:
        """Return whether a song's position in the playlist is its index in the list."""
        return bool(self.inner) and "position" not in columns and not self.songs_are_rows(columns)


def find_columns(names: ColumnNames, given: Mapping[str, str], file: object) -> dict[str, str]:
    """Return the column names of a file, by role.

    `given` maps roles to names, which take precedence over known names; "" means that the role has
    no column. Names are compared without case, white space, `_` and `-`. Raises `ColumnError` if a
    given name or a required column is missing. Required are title or track_id, and one of
    playlist_id, playlist_name, or a time of listening. In a file without playlist columns, sessions
    are made from the plays of each owner or, without an owner column, from all plays.
    """
    columns = _find_given(names.all, given, file)
    if names.inner or any("." in name for name in names.outer):
        _add_nested(columns, names, given)
    _add_known(columns, names.all, given, ALIASES)
    if "artist" not in columns or _find_missing(columns, given):
        _add_known(columns, names.all, given, ITEM_ALIASES)
    if "title" not in columns and "track_id" in columns:
        columns["title"] = columns["track_id"]
    if has_sessions(columns) and "owner" not in columns and _is_time(columns.get("position", "")):
        columns["owner"] = THIS_FILE
    if is_one_playlist(columns):
        columns["playlist_id"] = THIS_FILE
        if "position" not in given:
            del columns["position"]  # the rows are in playlist order, so times are not needed
    if columns.get("playlist_id") == THIS_FILE and "playlist_name" not in given:
        columns.setdefault("playlist_name", THIS_FILE)
    _require_columns(names.all, columns, given, file)
    return {role: columns[role] for role in ALL_ROLES if role in columns}


def _find_given(names: Sequence[str], given: Mapping[str, str], file: object) -> dict[str, str]:
    """Return the columns that the user named, by role. Raises `ColumnError` if one is missing."""
    columns: dict[str, str] = {}
    for role, name in given.items():
        if role not in ALL_ROLES:
            raise ColumnError(f"--column {role}=...: the columns are called {', '.join(ALL_ROLES)}")
        if not name:
            continue
        match = THIS_FILE if name == THIS_FILE else find_column(names, name)
        if match is None:
            raise ColumnError(
                f"{file}: there is no column '{name}' (--column {role}={name}); "
                f"{_describe(names, {})}"
            )
        columns[role] = match
    return columns


def _add_nested(columns: dict[str, str], names: ColumnNames, given: Mapping[str, str]) -> None:
    """Add columns by the last part of their names to `columns`, for roles without a column.

    Playlists and owners are looked for in the records, unless only the songs in a list name them.
    Other roles are looked for in the songs, if there are any. Names for other kinds of items, such
    as products, count only if there is no artist.
    """
    outer = [name for name in names.outer if name not in names.flags]
    inner = [name for name in names.inner if name not in names.flags]

    def add(role: str, level: Sequence[str], aliases: Sequence[str]) -> None:
        match = find_by_last_part(level, aliases, columns.get("title", ""))
        if role not in given and role not in columns and match is not None:
            columns[role] = match

    for role in ("title", *(role for role in ALL_ROLES if role != "title")):
        aliases = [*ALIASES[role], *(IN_LISTS.get(role, []) if inner else [])]
        add(role, outer if role in IN_ROWS else inner or outer, aliases)
    if "artist" not in columns:
        for role, aliases in ITEM_ALIASES.items():
            add(role, outer if role in IN_ROWS else inner or outer, aliases)
    known = {role: name for role, name in columns.items() if role not in given}
    if name_own_playlists(inner, outer, known):
        for role in IN_ROWS.keys() - given.keys():
            columns.pop(role, None)
            add(role, inner, IN_ROWS[role])
    elif inner and "playlist_id" not in given:
        columns.setdefault("playlist_id", PLAYLIST_NUMBER)


def name_own_playlists(
    songs: Sequence[str], outer: Sequence[str] = (), columns: Mapping[str, str] | None = None
) -> bool:
    """Return whether songs with these columns name their playlists, or are plays of a listener.

    If the songs are in a list, `outer` are the columns of the record around it, and `columns` maps
    the roles that are known so far to columns. The result is False if the record itself names a
    playlist.
    """
    columns = columns or {}

    def has(names: Sequence[str], role: str, aliases: Mapping[str, Sequence[str]]) -> bool:
        return find_by_last_part(names, aliases[role]) is not None

    playlist_roles = ("playlist_id", "playlist_name")
    if any(has(outer, role, ALIASES) for role in playlist_roles):
        return False
    if any(has(songs, role, IN_ROWS) for role in playlist_roles):
        return True
    position = columns.get("position", find_by_last_part(songs, ALIASES["position"]) or "")
    return has(songs, "owner", IN_ROWS) and _is_time(position) and has_sessions(columns)


def _add_known(
    columns: dict[str, str],
    names: Sequence[str],
    given: Mapping[str, str],
    aliases: Mapping[str, Sequence[str]],
) -> None:
    """Add columns with known names to `columns`, for roles that have no column yet."""
    free = _by_spelling([name for name in names if name not in columns.values()])
    for role in aliases:
        if role not in given and role not in columns:
            match = next((free[alias] for alias in aliases[role] if alias in free), None)
            if match is not None:
                columns[role] = match


def has_sessions(columns: Mapping[str, str]) -> bool:
    """Return whether a file with these columns contains plays of listeners instead of playlists."""
    return "playlist_id" not in columns and "playlist_name" not in columns


def is_one_playlist(columns: Mapping[str, str]) -> bool:
    """Return whether a file with these columns is one playlist.

    Its rows have a time at which the song was added, but neither a playlist nor an owner.
    """
    is_added = _fold_last_part(columns.get("position", "")) == ADDED
    return has_sessions(columns) and "owner" not in columns and is_added


def _find_missing(columns: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """Return the required roles that have no column."""
    missing = [] if "title" in columns else ["title"]
    position = columns.get("position", "")
    has_times = bool(given.get("position")) or _is_time(position)
    if has_sessions(columns) and not ("owner" in columns and has_times):
        missing.append("playlist_id")
    return missing


def _is_time(name: str) -> bool:
    return _fold_last_part(name) in TIMES


def _require_columns(
    names: Sequence[str], columns: Mapping[str, str], given: Mapping[str, str], file: object
) -> None:
    missing = _find_missing(columns, given)
    if missing:
        needs = "; ".join(_describe_role(role) for role in missing)
        raise ColumnError(
            f"{file}: {_describe(names, columns)}; missing: {needs}; "
            f"{_suggest_options(names, columns, missing)}"
        )
    for role, name in columns.items():
        if names.count(name) > 1:
            raise ColumnError(
                f"{file}: {names.count(name)} columns are called '{name}' ({role}): "
                "rename all but one"
            )


def _describe_role(role: str) -> str:
    if role == "playlist_id":
        return (
            f"a playlist (an id such as {', '.join(ALIASES[role][:4])}, "
            f"or a name such as {', '.join(ALIASES['playlist_name'][:3])}; or a timestamp of "
            f"plays, which make sessions)"
        )
    return (
        f"a title (accepted: {', '.join(ALIASES[role][:6])}) or an id of the item "
        f"({', '.join(ALIASES['track_id'][:3])})"
    )


def _suggest_options(
    names: Sequence[str], columns: Mapping[str, str], missing: Sequence[str]
) -> str:
    """Return an example of options that assign columns of the file to the missing roles."""
    free = free_columns(names, columns)
    options = []
    for role in missing:
        if role == "playlist_id" and "owner" in columns:
            options.append(column_option("playlist_id", columns["owner"]))
        elif free:
            options.append(column_option(role, free.pop(0)))
        else:
            options.append(f"--column {role}=NAME")
    text = f"name the columns, for example with {' '.join(options)}"
    if "title" in missing and "artist" not in columns and free:
        text += f" (and {column_option('artist', free[0])}, if there are artists)"
    if "playlist_id" in missing and "owner" not in columns:
        text += f"; if each file is one playlist, say {column_option('playlist_id', THIS_FILE)}"
    return text


def free_columns(names: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Return the columns without a role. Columns that probably contain names come first."""
    free = [name for name in names if name and name not in columns.values()]
    return sorted(free, key=lambda name: "name" not in fold(name))


def column_option(role: str, name: str) -> str:
    """Return the command-line option that assigns a column to a role, quoted for a shell."""
    return f"--column {shlex.quote(f'{role}={_shorten(name)}')}"


def _describe(names: Sequence[str], columns: Mapping[str, str]) -> str:
    roles = {name: role for role, name in columns.items()}
    shown = [
        f"'{_shorten(name)}'" + (f" ({roles[name]})" if name in roles else "")
        for name in names[:20]
    ]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"the columns found are {', '.join(shown)}{more}"


def _shorten(name: str) -> str:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return printable if len(printable) <= 40 else printable[:39] + "…"


def find_by_last_part(names: Sequence[str], aliases: Sequence[str], title: str = "") -> str | None:
    """Return the dotted name whose last part is in `aliases`, or None.

    Earlier aliases are preferred.
    If several names match an alias, names at the same level as the column `title` are preferred,
    and then the least nested name. Names inside an album are ignored.
    """
    parent = title.rpartition(".")[0]
    by_last_part: dict[str, str] = {}
    for name in sorted(
        (name for name in names if "album" not in map(fold, name.split(".")[:-1])),
        key=lambda name: (bool(parent) and name.rpartition(".")[0] != parent, name.count(".")),
    ):
        by_last_part.setdefault(_fold_last_part(name), name)
    return next((by_last_part[alias] for alias in aliases if alias in by_last_part), None)


def _fold_last_part(name: str) -> str:
    return fold(name.rpartition(".")[2])


def has_known_name(names: Sequence[str]) -> bool:
    """Return whether any of the names is a known column name, for songs or for other items."""
    known = {alias for table in (ALIASES, ITEM_ALIASES) for role in table for alias in table[role]}
    return not known.isdisjoint(map(fold, names))


def is_role_name(name: str) -> bool:
    """Return whether `name` is a known column name for any role."""
    return any(fold(name) in aliases for aliases in ALIASES.values())


def find_column(names: Sequence[str], name: str) -> str | None:
    """Return the element of `names` that matches `name`, or None.

    Names are compared without case, white space, `_` and `-`. `name` can also be the last part of a
    dotted name if no other dotted name has the same last part.
    """
    if name in names:
        return name
    ends = [other for other in names if "." in other and _fold_last_part(other) == fold(name)]
    return _by_spelling(names).get(fold(name)) or (ends[0] if len(ends) == 1 else None)


def _by_spelling(names: Sequence[str]) -> dict[str, str]:
    """Return a mapping from each folded spelling (see `fold`) to the first name that has it."""
    return {fold(name): name for name in reversed(names)}
