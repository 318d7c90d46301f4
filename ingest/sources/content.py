"""The bytes of an input: unpacked while they are read, and as UTF-8."""

from __future__ import annotations

import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, BinaryIO

import pyarrow as pa

from catalog.errors import FileError
from ingest.sources import encodings
from ingest.sources.encodings import Encoding

if TYPE_CHECKING:
    import codecs
    from collections.abc import Iterator

    from ingest.sources.files import Input

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_TAR, _TAR_AT = b"ustar", 257
_CHUNK = 1 << 20
_UTF8 = Encoding("utf-8")


class Flow:
    """Bytes that come one after the other. `done()` is how many bytes on disk are behind us."""

    def __init__(
        self,
        raw: BinaryIO,
        unpacked: BinaryIO,
        decoder: codecs.IncrementalDecoder | None,
        scale: float,
    ) -> None:
        self._raw = raw
        self._unpacked = unpacked
        self._decoder = decoder
        self._scale = scale
        self._rest = b""
        self._at_end = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        parts, have = [self._rest], len(self._rest)
        while have < size and not self._at_end:
            part = self._more(size - have)
            parts.append(part)
            have += len(part)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def done(self) -> int:
        """How many bytes of the file on disk have been read."""
        return int(self._raw.tell() * self._scale)

    def _more(self, size: int) -> bytes:
        chunk = bytes(self._unpacked.read(max(size, 1) if self._decoder is None else _CHUNK))
        self._at_end = not chunk
        if self._decoder is None:
            return chunk
        return self._decoder.decode(chunk, final=not chunk).encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Content:
    """An input's bytes. `packed` names its compression, if any; `encoding` is that of its text."""

    source: Input
    packed: str = ""
    encoding: Encoding = _UTF8

    @property
    def remarks(self) -> list[str]:
        """What a person should know of the text."""
        encoding = self.encoding
        guess = f"taken for {encoding.said}, but {encoding.doubt}"
        return [f"{guess}: where names come out wrong, say --encoding"] if encoding.doubt else []

    @property
    def is_plain(self) -> bool:
        """Whether the file on disk holds the very bytes."""
        return not self.packed and not self.source.member

    @contextmanager
    def flow(self) -> Iterator[Flow]:
        """Read from the start, without a byte order mark."""
        with self._unpacked() as (raw, unpacked, scale):
            if self.encoding.mark:
                unpacked.read(self.encoding.mark)
            decoder = None if self.encoding.is_utf8 else self.encoding.decoder()
            yield Flow(raw, unpacked, decoder, scale)

    def head(self, size: int) -> tuple[bytes, bool]:
        """The first `size` bytes as they are, unpacked, and whether these are all."""
        with self._unpacked() as (_, unpacked, _):
            head = b""
            while len(head) < size:
                chunk = unpacked.read(size - len(head))
                if not chunk:
                    return head, True
                head += bytes(chunk)
            return head, not unpacked.read(1)

    def beyond_ascii(self, skip: int) -> bytes:
        """Some lines after the first `skip` bytes that are not ASCII, or nothing."""
        with self._unpacked() as (_, unpacked, _):
            unpacked.read(skip)
            while chunk := bytes(unpacked.read(4 * _CHUNK)):
                if not chunk.isascii():
                    return chunk[chunk.find(b"\n") + 1 : chunk.rfind(b"\n") + 1] or chunk
        return b""

    @contextmanager
    def _unpacked(self) -> Iterator[tuple[BinaryIO, BinaryIO, float]]:
        with self.source.path.open("rb") as raw:
            if not self.source.member:
                yield raw, _unpack(raw, self.packed), 1.0
                return
            with zipfile.ZipFile(raw) as archive:
                info = archive.getinfo(self.source.member)
                with archive.open(info) as member:
                    counted = _Counted(member)
                    scale = info.compress_size / max(1, info.file_size)
                    yield counted, _unpack(counted, self.packed), scale  # type: ignore[misc]


class _Counted:
    """A reader that knows how much it has read: a .zip archive's own place jumps about."""

    closed = False

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self._count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(size)
        self._count += len(data)
        return data

    def tell(self) -> int:
        return self._count

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def flush(self) -> None:
        """Nothing to do."""


def _unpack(raw: BinaryIO | _Counted, packed: str) -> BinaryIO:
    if not packed:
        return raw  # type: ignore[return-value]
    stream: BinaryIO = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), packed)
    return stream


def content_of(source: Input, encoding: str = "") -> Content:
    """Find out how an input is packed and how its text is encoded, unless `encoding` names that.

    Raises FileError where it is a .tar archive; OSError, EOFError and what the unpackers raise
    (zipfile.BadZipFile, zlib.error, lzma.LZMAError) where it cannot be read.
    """
    head, _ = Content(source).head(8)
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
    content = Content(source, packed)
    # The header of a .tar archive is text enough to be taken for the first line of its first file.
    if content.head(_TAR_AT + len(_TAR))[0][_TAR_AT:] == _TAR:
        raise FileError(f"{source} is a .tar archive: unpack it first")
    return Content(source, packed, _encoding(content, encoding))


def _encoding(content: Content, given: str) -> Encoding:
    sample, whole = content.head(8 << 20)
    marked = encodings.marked(sample)
    if given:
        named = encodings.named(given)
        return marked if marked and marked.said == named.said else named
    if marked is None and not whole and sample.isascii():
        sample = content.beyond_ascii(len(sample)) or sample
    try:
        return encodings.detect(sample, whole=whole)
    except FileError as error:
        raise FileError(f"{content.source}: {error}") from error
