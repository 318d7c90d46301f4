"""Text encodings: detect UTF-8, UTF-16 and Windows-1252, and look up any encoding by name."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from catalog.errors import FileError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NAMES = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
    "iso8859-1": "Latin-1",
    "cp1252": "Windows-1252",
    "mac-roman": "MacRoman",
}
# Codecs that process a byte order mark, and their replacements, which do not.
_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_ERRORS = "nextsong.undecodable"

BINARY = "it is a binary file, neither text nor Parquet"
_HEAD_SIZE = 1 << 16  # number of bytes at the start of a file that are checked to detect text
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r"))
_MAX_CONTROL_SHARE = 0.01
_MAX_TEXT_SIZE = 1 << 20  # maximum bytes of non-ASCII lines for detecting Windows-1252
_RUN = re.compile(r"[^\x00-\x7f]{3,}")
# Characters that are rare, or in unusual positions, if the text really is Windows-1252.
_ODD = re.compile(
    r"(?<=[a-zß-öø-ÿœ])[À-ÖØ-Þ]"  # a capital after a small letter
    # a symbol between two letters
    r"|(?<=[^\W\d_])[\xa1-\xa9\xab-\xb9\xbb-\xbf\xd7\xf7\u2013-\u2018\u201a-\u2122](?=[^\W\d_])"
    r"|(?<=[^\W\d_])Œ"
    # rare characters, whose bytes are common letters in MacRoman
    r"|[ŠšŽžŸƒ\u2020\u2021\u02c6\u02dc\u2030\ufffd]"
)
_MAX_ODD_SHARE = 0.2
_UNKNOWN = (
    "its text is not UTF-8, and does not look like Windows-1252: name its encoding with "
    "--encoding, such as windows-1252, macroman, windows-1251, koi8-r, shift_jis, euc-jp or gbk"
)


@dataclass(frozen=True)
class Encoding:
    """A text encoding: the Python codec, and the length of the byte order mark, in bytes."""

    codec: str
    mark_length: int = 0

    @property
    def name(self) -> str:
        """The usual name of the encoding."""
        return _NAMES.get(self.codec, self.codec)

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding is UTF-8, so that no conversion is needed."""
        return self.codec == "utf-8"

    def decoder(self) -> codecs.IncrementalDecoder:
        """Return a decoder that turns invalid bytes into lone surrogates (see `is_encodable`)."""
        codecs.register_error(_ERRORS, _mark_undecodable)
        return codecs.getincrementaldecoder(self.codec)(errors=_ERRORS)


UTF8 = Encoding("utf-8")
WINDOWS_1252 = Encoding("cp1252")


def find_encoding(name: str) -> Encoding:
    """Return the encoding with this name. Raises `InputError` if it does not exist."""
    try:
        info = codecs.lookup(name)
        "".encode(info.name)
        encoding = Encoding(_WITHOUT_MARK.get(info.name, info.name))
        # Some codecs, such as idna, cannot decode a whole text and raise an error here.
        encoding.decoder().decode(b"a,b\n", final=True)
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"there is no encoding '{name}'; examples are utf-8, latin-1, windows-1252, macroman, "
            f"utf-16 and shift_jis"
        ) from error
    return encoding


def find_mark(start: bytes) -> Encoding | None:
    """Return the encoding that a byte order mark indicates, or None if `start` has no mark."""
    return next(
        (Encoding(codec, len(mark)) for mark, codec in _BYTE_ORDER_MARKS if start.startswith(mark)),
        None,
    )


def detect_encoding(sample: bytes, *, is_whole: bool = True) -> Encoding:
    """Return the encoding of a text. `sample` is its start, or the whole text if `is_whole`.

    A text counts as UTF-8 unless most of its non-ASCII lines are invalid UTF-8. Raises `FileError`
    if the text seems to be in none of UTF-8, UTF-16 and Windows-1252.
    """
    encoding = find_mark(sample) or _detect_utf16(sample)
    if encoding:
        return encoding
    if not is_whole:
        sample = sample.rstrip(bytes(range(0x80, 0x100)))  # the last character may be incomplete
    if _is_utf8(sample):
        return UTF8
    lines = [line for line in re.split(rb"[\r\n]+", sample) if not line.isascii()]
    invalid = sum(not _is_utf8(line) for line in lines)
    if 2 * invalid <= len(lines):
        return UTF8
    has_cr_ends = sample.count(b"\r") - sample.count(b"\r\n") > sample.count(b"\n")
    if has_cr_ends or not _is_western(lines):  # CR ends are typical of MacRoman, not Windows-1252
        raise FileError(BINARY if is_binary(sample) else _UNKNOWN)
    return WINDOWS_1252


def is_binary(sample: bytes) -> bool:
    """Return whether the bytes contain NUL, and too many control characters to be text."""
    head = sample[:_HEAD_SIZE]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" in head and controls > _MAX_CONTROL_SHARE * len(head)


def find_undecodable(values: pa.Array) -> NDArray[np.bool_]:
    """Return a mask of the binary `values` that are not valid UTF-8."""
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        return np.array([value is not None and not _is_utf8(value) for value in values.to_pylist()])
    return np.zeros(len(values), bool)


def is_encodable(text: str) -> bool:
    """Return whether the text has no lone surrogates, which stand for invalid bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _detect_utf16(sample: bytes) -> Encoding | None:
    """Detect UTF-16 without a byte order mark. In ASCII text, every second byte is zero."""
    head = sample[:_HEAD_SIZE]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < 0.2 * len(head) or min(even, odd) * 10 > max(even, odd):
        return None
    return Encoding("utf-16-be" if even > odd else "utf-16-le")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_western(lines: list[bytes]) -> bool:
    """Return whether lines look like a Western European language in Windows-1252.

    In such text, few non-ASCII characters are in unusual positions (see `_ODD`), and few are in
    long runs. Long runs are typical of other alphabets.
    """
    text = b"\n".join(lines)[:_MAX_TEXT_SIZE].decode("cp1252", "replace")
    beyond = sum(character > "\x7f" for character in text)
    in_runs = sum(len(run) for run in _RUN.findall(text))
    return 2 * in_runs <= beyond and len(_ODD.findall(text)) <= _MAX_ODD_SHARE * beyond


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end
