"""Versions of one song: titles that differ only in which edition of the recording they name.

The list is short on purpose. A remaster, a radio edit or a credit of guests is the same song to a
listener; live, acoustic, remix, cover, karaoke, instrumental and demo are not, and stay apart.
"""

from __future__ import annotations

import re

_GUESTS = r"(?:feat\.?|ft\.?|featuring)\s"
_YEAR = r"(?:19|20)\d\d"
_REMASTER = r"(?:digital(?:ly)?\s)?re-?master(?:ed)?"
_EDITIONS = "|".join(
    [
        rf"(?:{_YEAR}\s(?:-\s)?)?{_REMASTER}(?:\s(?:version|edition))?(?:\s{_YEAR})?",
        rf"{_YEAR}\sversion",
        r"(?:original\s)?radio\s(?:edit|version)",
        r"(?:original\s)?(?:single|album|lp)\s(?:version|edit)",
        r"original\sversion",
        r"(?:original\s)?(?:mono|stereo)(?:\s(?:version|mix))?",
        r"(?:explicit|clean)(?:\s(?:version|album\sversion))?",
        r"bonus\strack(?:\sversion)?",
    ]
)
_CREDIT = re.compile(rf"\s*(?:\({_GUESTS}[^()]*\)|\[{_GUESTS}[^\[\]]*\])")
_BARE_CREDIT = re.compile(r"\s(?:-\s)?(?:feat\.|ft\.)\s[^()\[\]]+$")
_SOME = rf"(?:{_EDITIONS})(?:\s?/\s?(?:{_EDITIONS}|{_YEAR}))*"
_EDITION = re.compile(rf"\s*(?:\s[-\u2013]\s{_SOME}|\({_SOME}\)|\[{_SOME}\])$")
HINT = r"feat|ft[. ]|master|version|radio|single|mono|stereo|explicit|clean|bonus|\blp\b|album"
"""A regular expression that finds something in every title key that `base_title` shortens."""


def base_title(title_key: str) -> str:
    """The normalised title without what names its edition or its guests; never empty.

    >>> base_title("heroes - 2017 remaster"), base_title("roar (feat. x) [radio edit]")
    ('heroes', 'roar')
    >>> base_title("heroes - live"), base_title("heroes (acoustic version)")
    ('heroes - live', 'heroes (acoustic version)')
    """
    title = _CREDIT.sub("", title_key)
    while True:
        shorter = _EDITION.sub("", _BARE_CREDIT.sub("", title))
        if shorter == title:
            break
        title = shorter
    return title.strip() or title_key
