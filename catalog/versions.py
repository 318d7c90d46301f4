"""Versions of one song: titles that differ only in which edition of the recording they name.

The list is short on purpose. A remaster, a radio edit or a credit of guests is the same song to a
listener; live, acoustic, remix, cover, karaoke, instrumental and demo are not, and stay apart.
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
    r"\s*(?:"
    + "|".join(f"{left}(?:{_GUESTS}|{_WITH})[^{both}]*{right}" for left, right, both in _BRACKETS)
    + ")"
)
_BARE_CREDIT = re.compile(r"\s(?:-\s)?(?:feat\.|ft\.)\s[^()\[\]]+$")
_SOME = rf"(?:{_EDITIONS})(?:\s?/\s?(?:{_EDITIONS}|{_YEAR}))*"
_EDITION = re.compile(rf"\s*(?:\s[-\u2013]\s{_SOME}|\({_SOME}\)|\[{_SOME}\])$")
HINT = (
    r"feat|ft[. ]|master|version|radio|single|mono|stereo|explicit|clean|bonus|\blp\b|album"
    r"|[(\[{]with |\d mix|annivers"
)
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
