"""The documents of a JSON file, one after the other, and the elements of their lists."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

from catalog.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.sources.content import Flow

STEP = 1 << 20  # bytes of a large document read at a time
LONGEST_OBJECT = 64 << 20  # characters
_BLANK = " \t\n\r\ufeff"  # a byte order mark stands where files were put one after another


class Stream:
    """The text of a file that begins with `data`; `flow` has the rest.

    Every method raises FileError where the text is malformed or cut short.
    """

    def __init__(
        self, data: bytes, flow: Flow | None, where: str, longest: int = LONGEST_OBJECT
    ) -> None:
        self._data = memoryview(data)
        self._flow = flow
        self._where = where
        self._longest = longest
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._parser = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._at_end = False
        self._lists = 0

    def objects(self, key: str | None) -> Iterator[Any]:
        """What the lists of all documents hold, in order.

        A list is the whole document where `key` is "", else it stands under `key`, at any depth.
        Where `key` is None, the documents themselves are the objects.
        """
        while first := self._peek():
            before = self._lists
            if key is None:
                yield self._value()
            elif key == "" and first == "[":
                yield from self._list()
            elif key and first == "{":
                yield from self._under(key)
            if key is not None and self._lists == before:
                shown = self._text[self._at : self._at + 30]
                raise FileError(
                    f"{self._where} is not valid JSON: after the end of its list comes {shown!r}"
                    if before
                    else f'{self._where}: there is no list "{key}" of objects in it'
                )

    def members(self) -> Iterator[tuple[str, Any]]:
        """The members of the first object, by name; where one is a list, each element by itself.

        Elements come as `(name, [element])`.
        """
        if self._peek() != "{":
            raise self._malformed("an object is expected")
        for name in self._names():
            if self._peek() == "[":
                for one in self._list():
                    yield name, [one]
            else:
                yield name, self._value()

    def _under(self, key: str) -> Iterator[Any]:
        for name in self._names():
            first = self._peek()
            if first == "[" and name == key:
                yield from self._list()
            elif first == "{":
                yield from self._under(key)
            else:
                self._value()

    def _names(self) -> Iterator[str]:
        """The names of an object's members; each value must be taken before the next name is."""
        self._at += 1
        while (first := self._peek(",")) != "}":
            if first != '"':
                raise (
                    self._malformed("a name in quotes is expected") if first else self._cut_short()
                )
            name = self._value()
            if self._peek() != ":":
                raise self._malformed("a colon is expected") if self._peek() else self._cut_short()
            self._at += 1
            yield name
        self._at += 1

    def _list(self) -> Iterator[Any]:
        self._lists += 1
        self._at += 1
        while (first := self._peek(",")) != "]":
            if not first:
                raise self._cut_short()
            yield self._value()
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                one, end = self._parser.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at <= self._longest and self._more():
                    continue
                if self._at_end and _is_at_end(error):
                    raise self._cut_short() from error
                raise self._malformed(problem(error)) from error
            # A number at the end of what was read may go on.
            if end < len(self._text) or isinstance(one, dict | list | str) or not self._more():
                self._at = end
                return one

    def _peek(self, also: str = "") -> str:
        """The next character that is no white space, or "" at the end; it is not taken."""
        while True:
            while self._at < len(self._text) and (
                self._text[self._at] in _BLANK or self._text[self._at] in also
            ):
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        if self._at_end:
            return False
        # As much again as is pending: a large value is not parsed from its start at every step.
        size = max(STEP, len(self._text) - self._at)
        raw = bytes(self._data[:size])
        self._data = self._data[size:]
        if not raw and self._flow is not None:
            raw = self._flow.read(size)
        self._at_end = not raw
        rest = self._decoder.decode(raw, final=not raw)
        self._text, self._at = self._text[self._at :] + rest, 0
        return bool(raw) or bool(rest)

    def _malformed(self, what: str) -> FileError:
        return FileError(f"{self._where} is not valid JSON: {what}")

    def _cut_short(self) -> FileError:
        return FileError(
            f"{self._where} is cut short: its JSON ends in the middle: download or write it again"
        )


def _is_at_end(error: Exception) -> bool:
    """Whether a parser missed what would have followed the end of its text."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or not error.doc[error.pos :].strip()


def problem(error: Exception) -> str:
    """What a parser says, in a line."""
    return " ".join(str(error).split())[:100]
