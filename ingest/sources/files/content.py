"""The content of files: read as bytes, decompressed on the fly, and converted to UTF-8."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import pyarrow as pa

from catalog.errors import FileError
from ingest.sources.files.encodings import (
    UTF8,
    WINDOWS_1252,
    Encoding,
    detect_encoding,
    find_encoding,
    find_mark,
)
from ingest.sources.files.find import file_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.sources.files.find import SourceFile

SAMPLE_SIZE = 8 << 20  # bytes at the start of a file, used to detect the format
BLOCK_SIZE = 4 << 20  # bytes to read at a time
MAX_LINE_SIZE = 16 << 20  # bytes
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_TAR_MAGIC = b"ustar"
_TAR_MAGIC_AT = 257  # offset in bytes from the start of the file
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The first decompressed bytes of a file. `is_whole` is set if the file has no more bytes."""

    data: bytes
    is_whole: bool
    compression: str = ""


class ByteStream:
    """The bytes of an open file, decompressed and in UTF-8, without a byte order mark.

    Reading raises `FileError` if the file cannot be read or decompressed.
    """

    def __init__(
        self, file: SourceFile, raw: BinaryIO, scale: float, compression: str, encoding: Encoding
    ) -> None:
        self._file = file
        self._raw = raw
        self._scale = scale  # bytes on disk per byte of `raw`
        self._decoder = None if encoding.is_utf8 else encoding.decoder()
        self._rest = b""
        with file_errors(file):
            self._bytes = _decompress(raw, compression)
            self._bytes.read(encoding.mark_length)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end of the file."""
        parts, length = [self._rest], len(self._rest)
        self._rest = b""
        with file_errors(self._file):
            while length < size and (part := self._read_part(size - length)):
                parts.append(part)
                length += len(part)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def position(self) -> int:
        """Return the number of bytes on disk that have been read."""
        return int(self._raw.tell() * self._scale)

    def _read_part(self, size: int) -> bytes:
        if self._decoder is None:
            return bytes(self._bytes.read(size))
        while chunk := bytes(self._bytes.read(_CHUNK)):
            if text := self._decoder.decode(chunk):
                return text.encode("utf-8", "surrogateescape")
        return self._decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Content:
    """The content of a file. `compression` is "" if the file is not compressed.

    `is_guess` is set if the detected encoding is uncertain.
    """

    file: SourceFile
    compression: str = ""
    encoding: Encoding = UTF8
    is_guess: bool = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """A note for the user if the encoding is uncertain."""
        if not self.is_guess:
            return ()
        note = (
            f"its text is not UTF-8 and was read as {self.encoding.name}: if names look wrong, "
            f"give the encoding with --encoding"
        )
        return (note,)

    def describe(self, *parts: str) -> str:
        """Return the format in words: `parts`, the encoding if not UTF-8, and any compression."""
        encoding = "" if self.encoding.is_utf8 else self.encoding.name
        return ", ".join(part for part in (*parts, encoding, self.compression) if part)

    @contextmanager
    def open(self) -> Iterator[ByteStream]:
        """Open the file at its start. Raises `FileError`."""
        with _open_bytes(self.file) as (raw, scale):
            yield ByteStream(self.file, raw, scale, self.compression, self.encoding)


def read_sample(file: SourceFile) -> Sample:
    """Read the first `SAMPLE_SIZE` bytes of a file, decompressed. Raises `FileError`."""
    with _open_bytes(file) as (raw, scale):
        with file_errors(file):
            start = raw.read(8)
            raw.seek(0)
        compression = next(
            (name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), ""
        )
        data = ByteStream(file, raw, scale, compression, UTF8).read(SAMPLE_SIZE + 1)
    return Sample(data[:SAMPLE_SIZE], len(data) <= SAMPLE_SIZE, compression)


def decode_sample(
    file: SourceFile, sample: Sample, encoding_name: str = ""
) -> tuple[Content, Sample]:
    """Return the content of a text file, with its encoding, and the sample converted to UTF-8.

    The encoding is detected unless `encoding_name` is given. Raises `FileError` if the encoding
    cannot be detected or if the file is a .tar archive, and `InputError` if there is no encoding
    with this name.
    """
    if sample.data[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        raise FileError(f"{file} is a .tar archive: unpack it first")
    if encoding_name:
        encoding = find_encoding(encoding_name)
        mark = find_mark(sample.data)
        if mark and mark.name == encoding.name:
            encoding = mark
    else:
        try:
            encoding = detect_encoding(sample.data, is_whole=sample.is_whole)
        except FileError as error:
            raise FileError(f"{file}: {error}") from error
    data = sample.data[encoding.mark_length :]
    if not encoding.is_utf8:
        text = encoding.decoder().decode(data, final=sample.is_whole)
        data = text.encode("utf-8", "surrogateescape")
    is_guess = not encoding_name and encoding == WINDOWS_1252
    content = Content(file, sample.compression, encoding, is_guess)
    return content, Sample(data, sample.is_whole, sample.compression)


def read_blocks(
    stream: ByteStream, line_end: bytes, file: SourceFile
) -> Iterator[tuple[bytes, bool]]:
    """Yield blocks of whole lines, about `BLOCK_SIZE` bytes each, with a flag for the last block.

    Raises `FileError` if a line is longer than `MAX_LINE_SIZE`.
    """
    rest = b""
    while data := stream.read(BLOCK_SIZE):
        end = data.rfind(line_end) + 1
        if end:
            yield rest + data[:end], False
            rest = data[end:]
        else:
            rest += data
        if len(rest) > MAX_LINE_SIZE:
            raise FileError(
                f"{file}: a line is longer than {MAX_LINE_SIZE >> 20} MB: is this a playlist file?"
            )
    yield rest, True


@contextmanager
def _open_bytes(file: SourceFile) -> Iterator[tuple[BinaryIO, float]]:
    """Open a file or archive member; yield a stream, and the bytes on disk per byte read."""
    with ExitStack() as stack:
        scale = 1.0
        with file_errors(file):
            raw: BinaryIO = stack.enter_context(file.path.open("rb"))
            if file.member:
                archive = stack.enter_context(zipfile.ZipFile(raw))
                entry = archive.getinfo(file.member)
                raw = cast("BinaryIO", stack.enter_context(archive.open(entry)))
                scale = entry.compress_size / max(1, entry.file_size)
        yield raw, scale


def _decompress(raw: BinaryIO, compression: str) -> BinaryIO:
    if not compression:
        return raw
    stream: BinaryIO = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)
    return stream
