"""Find the columns of a file for roles such as artist and title, by column name."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import ColumnError
from ingest.sources.known_names import (
    ADDED,
    ALIASES,
    IN_LISTS,
    IN_ROWS,
    ITEM_ALIASES,
    SONG_LISTS,
    TIMES,
    fold,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

ROLES = ("playlist_id", "playlist_name", "owner", "artist", "title", "position", "track_id")
"""The roles of columns that become columns of the rows."""

PLAY_ROLES = ("played", "skipped")
"""Additional roles: the length of a play, and whether it was skipped. They decide if it counts."""

ALL_ROLES = (*ROLES, *PLAY_ROLES)

SONG_ROLES = ("artist", "title", "track_id")
"""The roles of columns in catalog files, which list songs without playlists."""

THIS_FILE = "@file"
"""Placeholder for a column if the whole file is one playlist, or the plays of one listener."""

PLAYLIST_NUMBER = "(place)"
"""Placeholder for a column if playlists have no id: the number of the playlist in the file."""


def find_columns(names: Sequence[str], given: Mapping[str, str], file: object) -> dict[str, str]:
    """Return the column names of a file, by role.

    `names` are the file's columns. `given` maps roles to names, which take precedence over known
    names; "" means that the role has no column. Names are compared without case, white space, `_`
    and `-`. Raises `ColumnError` if a given name or a required column is missing. Required are
    title or track_id, and one of playlist_id, playlist_name, or a time of listening. In a file
    without playlist columns, sessions are made from the plays of each owner or, without an owner
    column, from all plays.
    """
    unknown = [role for role in given if role not in ALL_ROLES]
    if unknown:
        names_of_roles = ", ".join(ALL_ROLES)
        raise ColumnError(f"--column {unknown[0]}=...: the columns are called {names_of_roles}")
    columns: dict[str, str] = {}
    for role, name in given.items():
        if not name:
            continue
        match = THIS_FILE if name == THIS_FILE else find_column(names, name)
        if match is None:
            raise ColumnError(
                f"{file}: there is no column '{name}' (--column {role}={name}); "
                f"{_describe(names, {})}"
            )
        columns[role] = match
    _add_known(columns, names, given, ALIASES)
    if "artist" not in columns or _find_missing(columns, given):
        _add_known(columns, names, given, ITEM_ALIASES)
    if "title" not in columns and "track_id" in columns:
        columns["title"] = columns["track_id"]
    if has_sessions(columns) and "owner" not in columns and _is_time(columns.get("position", "")):
        columns["owner"] = THIS_FILE
    if is_one_playlist(columns):
        columns["playlist_id"] = THIS_FILE
        if "position" not in given:
            del columns["position"]  # rows are already in playlist order
    if columns.get("playlist_id") == THIS_FILE and "playlist_name" not in given:
        columns.setdefault("playlist_name", THIS_FILE)
    _require_columns(names, columns, given, file)
    return {role: columns[role] for role in ALL_ROLES if role in columns}


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
    """Return whether rows have a time at which a song was added, but no playlist and no owner."""
    name = columns.get("position", "").rpartition(".")[2]
    return has_sessions(columns) and "owner" not in columns and fold(name) == ADDED


def _find_missing(columns: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """Return the required roles that have no column."""
    missing = [] if "title" in columns else ["title"]
    position = columns.get("position", "")
    has_times = bool(given.get("position")) or _is_time(position)
    if has_sessions(columns) and not ("owner" in columns and has_times):
        missing.append("playlist_id")
    return missing


def _is_time(name: str) -> bool:
    return fold(name.rpartition(".")[2]) in TIMES


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


@dataclass(frozen=True)
class NestedColumns:
    """The columns of a file whose records may contain lists of songs.

    Names of nested columns are dotted. `outer` are the columns of the records. `inner` are the
    columns of the songs in a list, whose names begin with the name of the list. `inner` is empty if
    there is no list.
    """

    outer: tuple[str, ...]
    inner: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All column names, including `PLAYLIST_NUMBER` if there is a list of songs."""
        return (*self.outer, *self.inner, PLAYLIST_NUMBER) if self.inner else self.outer

    def suggest_roles(self, ignored: Collection[str] = ()) -> dict[str, str]:
        """Return the columns whose roles are clear from the structure, by role.

        Columns in `ignored` are not considered. Only the last part of a dotted name matters. If a
        record does not name the playlist, the songs in its list may name their playlists.
        """
        outer = [name for name in self.outer if name not in ignored]
        inner = [name for name in self.inner if name not in ignored]
        if not self.inner and not any("." in name for name in outer):
            return {}
        columns: dict[str, str] = {}
        for role in ("title", *(role for role in ALL_ROLES if role != "title")):
            names = outer if role in IN_ROWS else inner or outer
            aliases = [*ALIASES[role], *(IN_LISTS.get(role, []) if inner else [])]
            match = _find_by_last_part(names or outer, aliases, columns)
            if match is not None:
                columns[role] = match
        if "artist" not in columns:
            for role in sorted(ITEM_ALIASES.keys() - columns.keys()):
                names = outer if role in IN_ROWS else inner or outer
                match = _find_by_last_part(names, ITEM_ALIASES[role], columns)
                if match is not None:
                    columns[role] = match
        if not self.inner:
            return columns
        columns = _prefer_own_playlists(outer, inner, columns)
        return (
            columns if self.songs_are_rows(columns) else {"playlist_id": PLAYLIST_NUMBER, **columns}
        )

    def songs_are_rows(self, columns: Mapping[str, str]) -> bool:
        """Return whether songs in a list have a column of their own for the playlist or listener.

        Such a list is not a playlist. Its songs are read as rows, in file order.
        """
        return any(columns.get(role) in self.inner for role in IN_ROWS)

    def numbers_songs(self, columns: Mapping[str, str]) -> bool:
        """Return whether a song's position in the playlist is its index in the list."""
        return bool(self.inner) and "position" not in columns and not self.songs_are_rows(columns)


def _prefer_own_playlists(
    outer: Sequence[str], inner: Sequence[str], columns: dict[str, str]
) -> dict[str, str]:
    """Use the playlist columns of songs in a list if the record itself does not name a playlist."""
    matches = {role: _find_by_last_part(inner, names, columns) for role, names in IN_ROWS.items()}
    own = {role: name for role, name in matches.items() if name is not None}
    is_named_outside = any(
        _find_by_last_part(outer, ALIASES[role], {}) is not None
        for role in ("playlist_id", "playlist_name")
    )
    has_times = _is_time(columns.get("position", ""))
    are_plays = "owner" in own and has_times and has_sessions(columns)
    if is_named_outside or (has_sessions(own) and not are_plays):
        return columns
    return {role: name for role, name in columns.items() if role not in IN_ROWS} | own


def _find_by_last_part(
    names: Sequence[str], aliases: Sequence[str], columns: Mapping[str, str]
) -> str | None:
    """Return the name whose last part is in `aliases`. Earlier aliases are preferred.

    If several names match an alias, names at the same level as the title are preferred, and then
    the least nested name. Names inside an album are ignored.
    """
    parent = columns.get("title", "").rpartition(".")[0]
    by_last_part: dict[str, str] = {}
    for name in sorted(
        (name for name in names if "album" not in map(fold, name.split(".")[:-1])),
        key=lambda name: (bool(parent) and name.rpartition(".")[0] != parent, name.count(".")),
    ):
        by_last_part.setdefault(fold(name.rsplit(".", 1)[-1]), name)
    return next((by_last_part[alias] for alias in aliases if alias in by_last_part), None)


def find_roles(names: Sequence[str]) -> set[str]:
    """Return the roles of columns, derived from the last part of each column name."""
    folded = {fold(name.rsplit(".", 1)[-1]) for name in names}
    return {role for role in ROLES if not folded.isdisjoint(ALIASES[role])}


def has_known_name(names: Sequence[str]) -> bool:
    """Return whether any of the names is a known column name, for songs or for other items."""
    known = {alias for table in (ALIASES, ITEM_ALIASES) for role in table for alias in table[role]}
    return not known.isdisjoint(map(fold, names))


def find_roles_in_list(names: Sequence[str]) -> set[str]:
    """Return the roles of the columns `names`, if the columns belong to songs in a list."""
    return set(NestedColumns((), tuple(names)).suggest_roles()) if names else set()


def is_role_name(name: str) -> bool:
    """Return whether this is a known column name for any role."""
    return any(fold(name) in aliases for aliases in ALIASES.values())


def is_song_list_name(name: str) -> bool:
    """Return whether `name` is a known name for a list of songs."""
    return any(part in SONG_LISTS for part in name.split("."))


def find_column(names: Sequence[str], name: str) -> str | None:
    """Return the element of `names` that matches `name`, or None.

    Names are compared without case, white space, `_` and `-`. `name` can also be the last part of a
    dotted name if no other dotted name has the same last part.
    """
    if name in names:
        return name
    ends = [
        other for other in names if "." in other and fold(other.rsplit(".", 1)[-1]) == fold(name)
    ]
    return _by_spelling(names).get(fold(name)) or (ends[0] if len(ends) == 1 else None)


def _by_spelling(names: Sequence[str]) -> dict[str, str]:
    """Return a mapping from each folded spelling (see `fold`) to the first name that has it."""
    return {fold(name): name for name in reversed(names)}
