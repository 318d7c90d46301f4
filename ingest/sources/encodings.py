"""How the bytes of a text stand for characters: told by a byte order mark, or by their company."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass

from catalog.errors import FileError, InputError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAID = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
    "iso8859-1": "Latin-1",
    "cp1252": "Windows-1252",
    "mac-roman": "MacRoman",
}
_EVIDENCE = 20_000  # bytes beyond ASCII
_TRIPLE = re.compile(rb"(?=([\x00-\xff])([\x80-\xff])([\x00-\xff]))", re.DOTALL)
_RUN = re.compile(rb"[\x80-\xff]+")
_FEW = 12  # bytes beyond ASCII say nothing of an alphabet
_MAC_IS_RARE = 0.6  # see _likeness
_LIKELY = 0.5
_NOT_IN_1252 = {b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d"}
_BETWEEN_WORDS = "\u2026\u2013\u2014\u201c\u201d\u20ac\u2122\u2022\u00a1\u00bf\u00ab\u00bb"
_ANOTHER_ALPHABET = (
    "its text is not UTF-8, and looks like one of another alphabet than the Latin: name its "
    "encoding with --encoding, such as windows-1251, koi8-r, shift_jis, euc-jp, gbk or big5"
)
_OF_MARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_REFUSED = "nextsong.refused"


@dataclass(frozen=True)
class Encoding:
    """A codec of Python's, and how long the byte order mark is that stands before the text.

    `doubt` says what speaks against it, where it was found out and may well be wrong.
    """

    codec: str
    mark: int = 0
    doubt: str = ""

    @property
    def said(self) -> str:
        """Its usual name."""
        return _SAID.get(self.codec, self.codec)

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes can be taken as they are."""
        return self.codec == "utf-8"

    def decoder(self) -> codecs.IncrementalDecoder:
        """A decoder that turns what is no text into lone surrogates, which no UTF-8 can hold."""
        return codecs.getincrementaldecoder(self.codec)(errors=_REFUSED)


def named(name: str) -> Encoding:
    """The encoding of this name. Raises `InputError`."""
    try:
        info = codecs.lookup(name)
        "".encode(info.name)
        found = Encoding(_OF_MARKED.get(info.name, info.name))
        # Some codecs are none of whole texts: idna and punycode are of the names of hosts.
        found.decoder().decode(b"a,b\n", final=True)
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"there is no encoding '{name}'; utf-8, latin-1, windows-1252, macroman, utf-16 and "
            f"shift_jis are some"
        ) from error
    return found


def marked(start: bytes) -> Encoding | None:
    """The encoding that a byte order mark at the start of a text tells, if there is one."""
    return next((Encoding(name, len(bom)) for bom, name in _BOMS if start.startswith(bom)), None)


def detect(sample: bytes, *, whole: bool = True) -> Encoding:
    """The encoding of a text by a sample of it, from its start, which is all of it if `whole`.

    A text is UTF-8 unless most of its lines beyond ASCII are not; then the one of Latin-1,
    Windows-1252 and MacRoman wins that puts letters between letters. MacRoman, which few files are
    in whose lines do not end with CR, must win clearly. Raises FileError for a text of another
    alphabet, which looks like none of these.
    """
    found = marked(sample)
    if found:
        return found
    wide = _without_mark(sample)
    if wide:
        return wide
    sample = sample if whole else _uncut(sample)
    if _is_utf8(sample):
        return Encoding("utf-8")
    lines = [line for line in re.split(rb"[\r\n]+", sample) if not line.isascii()]
    wrong = sum(not _is_utf8(line) for line in lines)
    if 2 * wrong <= len(lines):
        return Encoding("utf-8")
    # The ends of lines are the neighbours of their first and last characters.
    text = b"\n".join([b"", *lines, b""])[: 1 << 20]
    if b"\0" not in sample and _is_of_another_alphabet(text):
        raise FileError(_ANOTHER_ALPHABET)
    triples = Counter(match.groups() for match in _TRIPLE.finditer(text))
    common = triples.most_common(_EVIDENCE)
    beyond = {middle for (_, middle, _), _ in common}
    windows = "iso8859-1" if all(byte >= b"\xa0" for byte in beyond) else "cp1252"
    likeness = {codec: _likeness(common, codec) for codec in (windows, "mac-roman")}
    rare = 0.0 if _ends_with_cr(sample) or beyond & _NOT_IN_1252 else _MAC_IS_RARE
    best = "mac-roman" if likeness["mac-roman"] >= likeness[windows] + rare else windows
    doubt = "" if likeness[best] >= _LIKELY else "its letters stand where letters seldom do"
    return Encoding(best, doubt=doubt)


def _is_of_another_alphabet(text: bytes) -> bool:
    """Whether bytes beyond ASCII come in long runs, as Cyrillic and Chinese do, and Latin not."""
    runs = [len(run[0]) for run in _RUN.finditer(text)]
    return sum(runs) >= _FEW and 2 * sum(length for length in runs if length > 2) > sum(runs)


def _ends_with_cr(sample: bytes) -> bool:
    return sample.count(b"\r") - sample.count(b"\r\n") > sample.count(b"\n")


def _without_mark(sample: bytes) -> Encoding | None:
    head = sample[: 1 << 16]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < 0.2 * len(head) or min(even, odd) * 10 > max(even, odd):
        return None
    return Encoding("utf-16-be" if even > odd else "utf-16-le")


def _uncut(sample: bytes) -> bytes:
    """The sample without a UTF-8 character that is cut short at its end."""
    for cut in (1, 2, 3):
        last = sample[-cut:][:1]
        if last >= b"\xc0":
            return sample[:-cut] if not _is_utf8(sample[-cut:]) else sample
        if last < b"\x80":
            break
    return sample


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _likeness(triples: list[tuple[tuple[bytes, ...], int]], codec: str) -> float:
    """How much like words the characters beyond ASCII look, with their neighbours: 1 at best."""
    score = 0.0
    for triple, times in triples:
        try:
            before, here, after = (byte.decode(codec) for byte in triple)
        except UnicodeDecodeError:
            score -= 2 * times
            continue
        letters = before.isalpha() + after.isalpha()
        if here.isalpha():
            # Within a word, a capital does not follow a small letter: "cafÈ" is no word.
            amiss = here.isupper() and (before.islower() or after.islower()) and before.isalpha()
            score += times * (-1.0 if amiss else 1.0 if letters else 0.2)
        elif here in "\u2019\u2018":
            score += times * (1.0 if letters else 0.2)
        elif here in _BETWEEN_WORDS and letters < 2:
            score += times * 0.5
        else:
            score -= times * (1.0 if letters == 2 else 0.3 if letters else 0.0)
    return score / max(1, sum(times for _, times in triples))


def _refuse(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error(_REFUSED, _refuse)
