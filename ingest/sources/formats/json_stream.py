"""Parse consecutive JSON documents of any size, in steps."""

from __future__ import annotations

import codecs
import json
import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from catalog.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEP_SIZE = 1 << 20  # bytes read at a time
MAX_VALUE_SIZE = 256 << 20  # maximum number of characters of a value
MAX_EXAMPLES = 20  # elements at the start of a list, used to detect its content
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BLANK = " \t\n\r\ufeff"  # concatenated files may have byte order marks between them


class JsonStream:
    """Parser for a stream of JSON text. `read(size)` returns the next bytes, in UTF-8.

    Every method raises `FileError`, which names `file`, if the text is malformed or truncated, or
    if a value is longer than `max_size` characters.
    """

    def __init__(
        self, read: Callable[[int], bytes], file: object, max_size: int = MAX_VALUE_SIZE
    ) -> None:
        self._read = read
        self._file = file
        self._max_size = max_size
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._parser = json.JSONDecoder()
        self._text = ""  # the text from index `_at` onwards is not parsed yet
        self._at = 0
        self._is_at_end = False
        self._list_count = 0
        self.other_lists: dict[str, list[Any]] = {}
        """The first elements of each list that `read_objects` skipped, by the name of the list."""

    def read_objects(self, key: str | None) -> Iterator[Any]:
        """Yield the elements of the list in each document, in order.

        If `key` is "", the document itself is the list. Otherwise, the list is the value of `key`,
        at any depth of nested objects. If `key` is None, the documents themselves are yielded.
        """
        while first := self._peek():
            before = self._list_count
            if key is None:
                yield self._parse_value()
                continue
            if key == "" and first == "[":
                yield from self._read_list()
            elif key and first == "{":
                yield from self._read_lists_under(key)
            if self._list_count == before:
                if before == 0:
                    raise FileError(f'{self._file}: there is no list "{key}" of objects in it')
                shown = self._text[self._at : self._at + 30]
                raise self._malformed(f"unexpected {shown!r} after the end of its list")

    def read_rest(self) -> str:
        """Return all text that is not parsed yet."""
        while self._read_step():
            pass
        return self._text[self._at :]

    def _read_lists_under(self, key: str) -> Iterator[Any]:
        for name in self._read_names():
            first = self._peek()
            if first == "[" and name == key:
                yield from self._read_list()
            elif first == "{":
                yield from self._read_lists_under(key)
            else:
                value = self._parse_value()
                if isinstance(value, list):
                    self.other_lists.setdefault(name, value[:MAX_EXAMPLES])

    def _read_names(self) -> Iterator[str]:
        """Yield the names in an object. The caller must parse the value that follows each name."""
        self._at += 1
        while (first := self._peek(skip_comma=True)) != "}":
            if first and first != '"':
                raise self._malformed("a name in quotes is expected")
            name = self._parse_value()
            colon = self._peek()
            if colon != ":":
                raise self._malformed("a colon is expected") if colon else self._cut_short()
            self._at += 1
            yield name
        self._at += 1

    def _read_list(self) -> Iterator[Any]:
        self._list_count += 1
        self._at += 1
        while self._peek(skip_comma=True) != "]":
            yield self._parse_value()
        self._at += 1

    def _parse_value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._parser.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at <= self._max_size and self._read_step():
                    continue
                if self._is_at_end and _is_at_end(error):
                    raise self._cut_short() from error
                raise self._malformed(describe_problem(error)) from error
            # A number at the end of the text may be incomplete until the next step.
            if end < len(self._text) or isinstance(value, dict | list | str):
                self._at = end
                return value
            if not self._read_step():
                self._at = end
                return value

    def _peek(self, *, skip_comma: bool = False) -> str:
        """Return the next character that is not blank, without consuming it, or "" at the end."""
        blank = _BLANK + "," if skip_comma else _BLANK
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in blank:
                    return self._text[self._at]
                self._at += 1
            if not self._read_step():
                return ""

    def _read_step(self) -> bool:
        """Read more text. Return whether any text is left to parse.

        Reads at least as many bytes as there are pending characters, so that the text of a large
        value doubles with every step and is parsed only a few times.
        """
        if self._is_at_end:
            return False
        data = self._read(max(STEP_SIZE, len(self._text) - self._at))
        self._is_at_end = not data
        self._text = self._text[self._at :] + self._decoder.decode(data, final=not data)
        self._at = 0
        return self._at < len(self._text)

    def _malformed(self, problem: str) -> FileError:
        return FileError(f"{self._file} is not valid JSON: {problem}")

    def _cut_short(self) -> FileError:
        return FileError(
            f"{self._file} is cut short: its JSON ends in the middle: download or write it again"
        )


def parse_sample(data: bytes, file: object, *, is_whole: bool) -> list[Any]:
    """Return the documents at the start of a file.

    If `data` is not the whole file, the last document may be truncated. Its values up to that point
    are returned. Raises `FileError` if the text is malformed.
    """
    documents: list[Any] = []
    stream = JsonStream(BytesIO(data).read, file, MAX_VALUE_SIZE if is_whole else STEP_SIZE)
    try:
        documents.extend(stream.read_objects(None))
    except FileError:
        if is_whole:
            raise
        # The parser for partial documents accepts only valid text.
        rest = _SURROGATE.sub(r"\\ufffd", stream.read_rest()).encode("utf-8", "replace")
        try:
            documents.append(from_json(rest, allow_partial=True))
        except ValueError as error:
            raise FileError(f"{file} is not valid JSON: {describe_problem(error)}") from error
    return documents


def describe_problem(error: Exception) -> str:
    """Return a parser's message on one line, shortened to 100 characters."""
    return " ".join(str(error).split())[:100]


def _is_at_end(error: Exception) -> bool:
    """Return whether parsing failed because the text is truncated."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or not error.doc[error.pos :].strip()
