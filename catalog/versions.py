"""Versions of a song: titles that differ only in the edition of the recording.

To a listener, a remaster, a radio edit and a title with guest credits are the same song. Live,
acoustic, remix, cover, karaoke, instrumental and demo versions are different songs, so `_EDITIONS`
does not contain them. Only `bare_title` also treats a live version as the same song.

A title key is a title that `catalog.song.normalise` has normalised.
"""

from __future__ import annotations

import re

_GUESTS = r"(?:feat\.?|ft\.?|featuring)\s"
# "Stay (With Me)" is a title; "Stay (with Alessia Cara)" credits a guest.
_WITH = (
    r"with\s(?!(?:me|you|us|him|her|them|it|this|that|my|your|our|his|their|a|an|the|all|no|or|"
    r"without|love)\b)"
)
_YEAR = r"(?:19|20)\d\d"
_ANNIVERSARY = r"\d+(?:st|nd|rd|th)\sanniversary"
_REMASTER = r"(?:digital(?:ly)?\s)?re-?master(?:ed)?"
_EDITIONS = "|".join(
    [
        rf"(?:{_YEAR}\s(?:-\s)?)?(?:{_ANNIVERSARY}\s)?{_REMASTER}(?:\s(?:version|edition))?(?:\s{_YEAR})?",
        rf"{_YEAR}\s(?:version|mix)",
        rf"(?:{_YEAR}\s)?{_ANNIVERSARY}\s(?:edition|version|mix)",
        r"(?:original\s)?radio\s(?:edit|version)",
        r"(?:original\s)?(?:single|album|lp)\s(?:version|edit)",
        r"original\sversion",
        r"(?:original\s)?(?:mono|stereo)(?:\s(?:version|mix))?",
        r"(?:explicit|clean)(?:\s(?:version|album\sversion))?",
        r"bonus\strack(?:\sversion)?",
    ]
)
_BRACKETS = ((r"\(", r"\)", "()"), (r"\[", r"\]", r"\[\]"), (r"\{", r"\}", "{}"))
_CREDIT = re.compile(
    r"\s?(?:"
    + "|".join(f"{left}(?:{_GUESTS}|{_WITH})[^{both}]*{right}" for left, right, both in _BRACKETS)
    + ")"
)
_BARE_CREDIT = re.compile(r"\s(?:-\s)?(?:feat\.|ft\.)\s[^()\[\]]")
MAX_EDITIONS = 4
"""Maximum number of editions in a list such as "mono / remastered / 2009"."""
_EDITION_LIST = rf"(?:{_EDITIONS})(?:\s?/\s?(?:{_EDITIONS}|{_YEAR})){{0,{MAX_EDITIONS - 1}}}"
_EDITION = re.compile(rf"\s[-\u2013]\s{_EDITION_LIST}|\({_EDITION_LIST}\)|\[{_EDITION_LIST}\]")
_LIVE_DETAIL = r"(?:\s(?:at|in|from|on|version|recording|sessions?|\d+)\b|\s?/)"
_LIVE = re.compile(
    rf"\s[-\u2013]\slive(?:{_LIVE_DETAIL}.*)?$"
    rf"|\s?\(live(?:{_LIVE_DETAIL}[^()]*)?\)$|\s?\[live(?:{_LIVE_DETAIL}[^\[\]]*)?\]$"
)
# Matches in every title that `bare_title` shortens.
_MARK = re.compile(r"\s[-\u2013]\s|[(\[{]|\bfe?a?t\.")
_DASH = re.compile(r"\s[-\u2013](?=\s)")
_BRACKET = re.compile(r"[()\[\]]")
HINT = (
    r"feat|ft[. ]|master|version|radio|single|mono|stereo|explicit|clean|bonus|\blp\b|album"
    r"|[(\[{]with |\d mix|annivers"
)
"""A regular expression that matches in every title key that `base_title` shortens.

A search for it is faster than `base_title`, which the ingest calls only for titles that match.
"""


def base_title(title_key: str) -> str:
    """Return a normalised title without the parts that name its edition or its guests.

    The result is not empty. The time is linear in the length of the title, because parts are
    removed from the end and no part is searched twice.

    >>> base_title("heroes - 2017 remaster"), base_title("roar (feat. x) [radio edit]")
    ('heroes', 'roar')
    >>> base_title("heroes - live"), base_title("heroes (acoustic version)")
    ('heroes - live', 'heroes (acoustic version)')
    """
    title = _CREDIT.sub("", title_key)
    brackets = [match.start() for match in _BRACKET.finditer(title)]
    dashes = [match.start() for match in _DASH.finditer(title)]
    end, searched = len(title), -1
    while True:
        _drop_from(end, brackets)
        tail = brackets[-1] + 1 if brackets else 0  # position after the last bracket
        if tail != searched and (credit := _BARE_CREDIT.search(title, tail, end)):
            end = credit.start()
        searched = tail
        _drop_from(end, dashes)
        starts = brackets[-2:-1] if tail == end else _edition_dashes(title, dashes)
        start = next((start for start in starts if _EDITION.fullmatch(title, start, end)), None)
        if start is None:
            return title[:end].strip() or title_key
        end = start - title.startswith(" ", start - 1, start)


def bare_title(title_key: str) -> str:
    """Return a normalised title without the parts that name an edition, guests or a live version.

    The result is not empty. Two songs of an artist with the same bare title are not recommended
    together. The time is linear in the length of the title.

    >>> bare_title("heroes - live at wembley / 2011 remaster"), bare_title("heroes - demo")
    ('heroes', 'heroes - demo')
    """
    if not _MARK.search(title_key):
        return title_key
    base = base_title(title_key)
    studio = _LIVE.sub("", base)
    return (base_title(studio) if studio else "") or base


def _drop_from(end: int, positions: list[int]) -> None:
    while positions and positions[-1] >= end:
        positions.pop()


def _edition_dashes(title: str, dashes: list[int]) -> list[int]:
    """Return the positions of the dashes that may begin the edition at the end of a title.

    The title "song - 2011 - remaster" has two, because an edition can contain a dash itself.
    `dashes` contains the positions of all dashes in the title.
    """
    starts: list[int] = []
    for dash in reversed(dashes[-1 - MAX_EDITIONS :]):
        starts.insert(0, dash)
        if not title[dash - 4 : dash].isdigit():
            break
    return starts
