"""How the bytes of a text stand for characters: told by a byte order mark, or by their company."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass

from catalog.errors import InputError

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
_REFUSED = "nextsong.refused"


@dataclass(frozen=True)
class Encoding:
    """A codec of Python's, and how long the byte order mark is that stands before the text."""

    codec: str
    mark: int = 0

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
    except (LookupError, ValueError) as error:
        raise InputError(
            f"there is no encoding '{name}'; utf-8, latin-1, windows-1252, macroman, utf-16 and "
            f"shift_jis are some"
        ) from error
    codec = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
    return Encoding(codec.get(info.name, info.name))


def marked(start: bytes) -> Encoding | None:
    """The encoding that a byte order mark at the start of a text tells, if there is one."""
    return next((Encoding(name, len(bom)) for bom, name in _BOMS if start.startswith(bom)), None)


def detect(sample: bytes) -> Encoding:
    """The encoding of a text by a sample of it, from its start.

    A text is UTF-8 unless most of its lines beyond ASCII are not; then the one of Latin-1,
    Windows-1252 and MacRoman wins that puts letters between letters.
    """
    found = marked(sample)
    if found:
        return found
    wide = _without_mark(sample)
    if wide:
        return wide
    if _is_utf8(_whole(sample)):
        return Encoding("utf-8")
    lines = [line for line in re.split(rb"[\r\n]+", _whole(sample)) if not line.isascii()]
    wrong = sum(not _is_utf8(line) for line in lines)
    if 2 * wrong <= len(lines):
        return Encoding("utf-8")
    triples = Counter(match.groups() for match in _TRIPLE.finditer(b"\n".join(lines)[: 1 << 20]))
    common = triples.most_common(_EVIDENCE)
    beyond = {middle for (_, middle, _), _ in common}
    if all(byte >= b"\xa0" for byte in beyond):
        candidates = ["iso8859-1", "mac-roman"]
    elif beyond & {b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d"}:
        candidates = ["mac-roman", "cp1252"]
    else:
        candidates = ["cp1252", "mac-roman"]
    return Encoding(max(candidates, key=lambda codec: _likeness(common, codec)))


def _without_mark(sample: bytes) -> Encoding | None:
    head = sample[: 1 << 16]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < 0.2 * len(head) or min(even, odd) * 10 > max(even, odd):
        return None
    return Encoding("utf-16-be" if even > odd else "utf-16-le")


def _whole(sample: bytes) -> bytes:
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
    """How much like words the characters beyond ASCII look, with their neighbours."""
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
        else:
            score -= times * (1.0 if letters == 2 else 0.3 if letters else 0.0)
    return score


def _refuse(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error(_REFUSED, _refuse)
