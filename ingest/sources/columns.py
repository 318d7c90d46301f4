"""Which column of a file plays which role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.errors import ColumnError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ROLES = ("playlist_id", "playlist_name", "owner", "artist", "title", "position", "track_id")

# In order of preference, and in folded spelling (see _fold). Names that mean different things in
# different files ("name", "id", "date") are left out on purpose: --column settles those.
_ALIASES: Mapping[str, Sequence[str]] = {
    "playlist_id": [
        "playlistid",
        "pid",
        "sessionid",
        "session",
        "playlisturi",
        "playlistpid",
        "listeningsession",
        "listid",
        "mixid",
        "mix",
    ],
    "playlist_name": [
        "playlistname",
        "playlist",
        "playlisttitle",
        "listname",
        "sessionname",
        "mixname",
    ],
    "owner": [
        "owner",
        "ownerid",
        "ownername",
        "userid",
        "user",
        "username",
        "userhash",
        "listener",
        "listenerid",
    ],
    "artist": [
        "artist",
        "artistname",
        "artists",
        "artistnames",
        "artistname(s)",
        "trackartist",
        "trackartists",
        "songartist",
        "performer",
        "masteralbumartistname",
        "mastermetadataalbumartistname",
        "artname",
    ],
    "title": [
        "title",
        "track",
        "trackname",
        "tracktitle",
        "song",
        "songname",
        "songtitle",
        "mastermetadatatrackname",
        "traname",
    ],
    "position": [
        "position",
        "pos",
        "trackposition",
        "positioninplaylist",
        "trackindex",
        "timestamp",
        "ts",
        "playedat",
        "listenedat",
        "addedat",
        "unixtimestamp",
        "datetime",
        "playtime",
        "endtime",
        "index",
    ],
    "track_id": [
        "trackid",
        "trackuri",
        "spotifytrackuri",
        "spotifytrackid",
        "spotifyid",
        "spotifyuri",
        "songid",
        "songuri",
        "uri",
        "isrc",
        "musicbrainztrackid",
        "traid",
    ],
}

# What names mean where an object is a playlist and holds a list of its songs.
_IN_LISTS: Mapping[str, Sequence[str]] = {
    "playlist_id": ["id"],
    "playlist_name": ["name", "title"],
    "owner": [],
    "artist": [],
    "title": ["name"],
    "position": [],
    "track_id": ["id", "uri"],
}

# How songs of a list name their own playlist: then the list is one of rows. "Mix" may be a song's.
_IN_ROWS: Mapping[str, Sequence[str]] = {
    "playlist_id": ["playlistid", "pid", "sessionid", "session", "playlisturi", "playlistpid"],
    "playlist_name": ["playlistname", "playlist", "playlisttitle"],
    "owner": ["owner", "ownerid", "userid", "user", "username"],
}

_PLAYLIST = ("playlist_id", "playlist_name")

_TIMES = frozenset(
    [
        "timestamp",
        "ts",
        "playedat",
        "listenedat",
        "unixtimestamp",
        "datetime",
        "playtime",
        "endtime",
    ]
)
"""Positions that are times of listening: with a listener, they make sessions."""


def find_columns(names: Sequence[str], given: Mapping[str, str], file: Path) -> dict[str, str]:
    """The file's own column name for each role that the file has.

    `names` are the file's columns, `given` maps roles to names and wins over the known names.
    Case, white space, `_` and `-` do not matter. A role that is given as "" is left out. Raises
    ColumnError when a given name or a needed column is missing: artist, title, and playlist_id or
    playlist_name; or owner and a time of listening, from which sessions are made.
    """
    unknown = [role for role in given if role not in ROLES]
    if unknown:
        raise ColumnError(f"--column {unknown[0]}=...: the columns are called {', '.join(ROLES)}")
    found: dict[str, str] = {}
    for role, name in given.items():
        if not name:
            continue
        match = find_column(names, name)
        if match is None:
            raise ColumnError(
                f"{file}: there is no column '{name}' (--column {role}={name}); "
                f"{_listing(names, {})}"
            )
        found[role] = match
    free = _by_fold([name for name in names if name not in found.values()])
    for role in ROLES:
        if role not in given:
            match = next((free[alias] for alias in _ALIASES[role] if alias in free), None)
            if match is not None:
                found[role] = match
    _require(names, found, given, file)
    return {role: found[role] for role in ROLES if role in found}


def has_sessions(found: Mapping[str, str]) -> bool:
    """Whether a file with these columns has plays of listeners instead of playlists."""
    return "playlist_id" not in found and "playlist_name" not in found


def _require(
    names: Sequence[str], found: Mapping[str, str], given: Mapping[str, str], file: Path
) -> None:
    missing = [role for role in ("artist", "title") if role not in found]
    timed = "position" in given or _fold(found.get("position", "")) in _TIMES
    if has_sessions(found) and not ("owner" in found and timed):
        missing.append("playlist_id")
    if missing:
        wanted = "; ".join(_wanted(role) for role in missing)
        how = " ".join(f"--column {role}=NAME" for role in missing)
        raise ColumnError(
            f"{file}: {_listing(names, found)}; missing: {wanted}; name the columns with {how}"
        )
    for role, name in found.items():
        if names.count(name) > 1:
            raise ColumnError(
                f"{file}: {names.count(name)} columns are called '{name}' ({role}): "
                "rename all but one"
            )


def _wanted(role: str) -> str:
    if role == "playlist_id":
        return (
            f"a playlist (an id such as {', '.join(_ALIASES[role][:4])}, "
            f"or a name such as {', '.join(_ALIASES['playlist_name'][:3])}; or a user and a "
            f"timestamp, to make sessions of)"
        )
    return f"{role} (accepted: {', '.join(_ALIASES[role][:6])})"


def _listing(names: Sequence[str], found: Mapping[str, str]) -> str:
    roles = {name: role for role, name in found.items()}
    shown = [
        f"'{_short(name)}'" + (f" ({roles[name]})" if name in roles else "") for name in names[:20]
    ]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"the columns found are {', '.join(shown)}{more}"


def _short(name: str) -> str:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return printable if len(printable) <= 40 else printable[:39] + "…"


def by_structure(outer: Sequence[str], inner: Sequence[str]) -> dict[str, str]:
    """The roles that are clear where an object (`outer` columns) holds a list (`inner` columns).

    Of a dotted name, the last part tells. Without a list, `inner` is empty, and the roles are those
    that the parts of dotted names tell. Songs whose lists know no playlist may name their own.
    """
    found: dict[str, str] = {}
    for role in ("title", *(role for role in ROLES if role != "title")):
        is_outer = role in {"playlist_id", "playlist_name", "owner"}
        names = (outer if is_outer else inner) or outer
        match = _match(names, [*_ALIASES[role], *(_IN_LISTS[role] if inner else [])], found)
        if match is not None:
            found[role] = match
    return _of_rows(outer, inner, found) if inner else found


def _of_rows(outer: Sequence[str], inner: Sequence[str], found: dict[str, str]) -> dict[str, str]:
    """`found`, but where songs in a list name their own playlists, or listeners and times."""
    matches = {role: _match(inner, aliases, found) for role, aliases in _IN_ROWS.items()}
    own = {role: name for role, name in matches.items() if name is not None}
    around = [role for role in _PLAYLIST if _match(outer, _ALIASES[role], {}) is not None]
    timed = _fold(found.get("position", "").rpartition(".")[2]) in _TIMES
    is_plays = "owner" in own and timed and has_sessions(found)
    if around or (has_sessions(own) and not is_plays):
        return found
    return {role: name for role, name in found.items() if role not in _IN_ROWS} | own


def _match(names: Sequence[str], aliases: Sequence[str], found: Mapping[str, str]) -> str | None:
    """The name whose last part is the first of `aliases` that is there.

    Of several, the one beside the title, else the least nested; what is said of a song's album is
    not said of the song.
    """
    beside = found.get("title", "").rpartition(".")[0]
    last: dict[str, str] = {}
    order = sorted(
        (name for name in names if "album" not in map(_fold, name.split(".")[:-1])),
        key=lambda name: (bool(beside) and name.rpartition(".")[0] != beside, name.count(".")),
    )
    for name in order:
        last.setdefault(_fold(name.rsplit(".", 1)[-1]), name)
    return next((last[alias] for alias in aliases if alias in last), None)


def roles_in(names: Sequence[str]) -> set[str]:
    """The roles that the columns of a row have, by their names alone."""
    folded = {_fold(name.rsplit(".", 1)[-1]) for name in names}
    return {role for role in ROLES if not folded.isdisjoint(_ALIASES[role])}


def is_role(name: str) -> bool:
    """Whether this is a usual name for a column of some role."""
    return any(_fold(name) in aliases for aliases in _ALIASES.values())


def find_column(names: Sequence[str], name: str) -> str | None:
    """The one of `names` that is spelled like `name`, but for case, white space, `_` and `-`.

    Of dotted names, the last part is enough where only one of them ends in it.
    """
    if name in names:
        return name
    ends = [one for one in names if "." in one and _fold(one.rsplit(".", 1)[-1]) == _fold(name)]
    return _by_fold(names).get(_fold(name)) or (ends[0] if len(ends) == 1 else None)


def _by_fold(names: Sequence[str]) -> dict[str, str]:
    """Folded spelling -> the first of `names` with it."""
    return {_fold(name): name for name in reversed(names)}


def _fold(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in "_-" and not c.isspace())
