"""Choose the list that contains the songs, in formats whose records are nested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.errors import FileError
from ingest.sources.columns.known_names import ALIASES, IN_LISTS, SONG_LISTS
from ingest.sources.columns.roles import find_by_last_part, is_role_name
from ingest.sources.formats.batch import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def find_song_lists(outer: Sequence[str], lists: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the names of the lists in a record that contain songs, the best one first.

    `lists` maps the name of each list of objects to the columns of the objects. `outer` are the
    columns of the record itself.

    - A list whose objects have an artist and a title contains songs.
    - If there is no such list, those with a usual name, such as "tracks", are returned, or else all
      lists. The user must then name the columns of the songs.
    - If the record itself has an artist and a title, it is a song, and nothing is returned, unless
      a list with a usual name has both, too.
    """
    complete = [name for name, inner in lists.items() if are_songs(inner)]
    if are_songs(outer, in_list=False):
        songs = [name for name in complete if has_usual_name(name)]
    else:
        # A list named after a role, such as "artists", describes a song. It contains no songs.
        others = [name for name in lists if not is_role_name(name.rpartition(".")[2])]
        songs = complete or [name for name in others if has_usual_name(name)] or others
    return tuple(sorted(songs, key=lambda name: not has_usual_name(name)))


def require_one_list(songs: Sequence[str], file: object) -> None:
    """Raise `FileError` if there are several lists, unless only the first has a usual name."""
    if songs[1:] and (not has_usual_name(songs[0]) or has_usual_name(songs[1])):
        raise FileError(
            f"{file}: its objects hold several lists of songs: {quote(songs)}: "
            f"keep only one of them, or save each to a file"
        )


def are_songs(names: Sequence[str], *, in_list: bool = True) -> bool:
    """Return whether objects with these columns have an artist and a title.

    In a list, more names are accepted, such as "name".
    """
    return all(
        find_by_last_part(names, [*ALIASES[role], *(IN_LISTS[role] if in_list else [])]) is not None
        for role in ("artist", "title")
    )


def has_usual_name(name: str) -> bool:
    """Return whether a part of a dotted name is a usual name for a list of songs."""
    return any(part in SONG_LISTS for part in name.split("."))
