"""Find the files to read. The user may give files, folders, patterns and .zip archives."""

from __future__ import annotations

import glob
import lzma
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ENDINGS = (
    *(".csv", ".tsv", ".psv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".pq"),
    *(".m3u", ".m3u8", ".xspf", ".jspf"),
)
_COMPRESSED_ENDINGS = (".gz", ".zst", ".zstd", ".bz2")
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+(.*)")
_TRUNCATED = "Truncated compressed stream"  # part of Arrow's error message
_AGAIN = "download or pack it again"

STDIN = Path("-")
"""The path that selects standard input."""


@dataclass(frozen=True)
class FileState:
    """Size in bytes, modification time and inode of a file, by which changes are detected."""

    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True)
class SourceFile:
    """A file to read: path, label for rows and messages, and state at the time of discovery.

    `member` is the name of the file in the .zip archive at `path`, or "" if `path` is not an
    archive. `is_stdin` is set if the file is a copy of standard input.
    """

    path: Path
    label: str
    state: FileState
    member: str = ""
    is_stdin: bool = False

    @property
    def name(self) -> str:
        """The file name without folders and without a compression suffix such as .gz."""
        return _remove_ending(PurePath(self.label).name, _COMPRESSED_ENDINGS)

    @property
    def stem(self) -> str:
        """The file name without folders and without suffixes such as .csv.gz."""
        return _remove_ending(self.name, _ENDINGS)

    def __str__(self) -> str:
        if self.is_stdin:
            return self.label
        return f"{self.path}/{self.member}" if self.member else str(self.path)


@dataclass(frozen=True)
class SourceFiles:
    """The files to read, in order, and the skipped files in folders and archives."""

    files: tuple[SourceFile, ...]
    skipped: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """The distinct files on disk."""
        return list(dict.fromkeys(file.path for file in self.files))

    @property
    def size(self) -> int:
        """The total size on disk, in bytes."""
        return sum({file.path: file.state.size for file in self.files}.values())


def find_files(paths: Sequence[Path], stdin_copy: Path | None = None) -> SourceFiles:
    """Return the files to read from files, folders (recursively), patterns and .zip archives.

    In folders and archives, only files with the extension of a playlist file are read, in natural
    order (slice 2 before slice 10); all other files are skipped. If `STDIN` is among the paths,
    `stdin_copy` is a file that contains a copy of standard input. Raises `FileError` if a file is
    missing or if there is nothing to read.
    """
    if not paths:
        raise FileError("no playlist file was given")
    states: dict[tuple[Path, str], FileState] = {}
    skipped: list[str] = []
    for path in paths:
        is_stdin = stdin_copy is not None and path == STDIN
        for file in [stdin_copy] if stdin_copy and is_stdin else _expand(path, skipped):
            state = _require_file(file)
            is_archive = not is_stdin and _is_zip(file)
            members = _find_members(file, skipped) if is_archive else [""]
            states |= {(file, member): state for member in members}
    names = [path.name + (f"/{member}" if member else "") for path, member in states]
    is_unique = len(set(names)) == len(names)
    files: list[SourceFile] = []
    for ((path, member), state), name in zip(states.items(), names, strict=True):
        if path == stdin_copy:
            files.append(SourceFile(path, "standard input", state, is_stdin=True))
            continue
        label = name if is_unique else f"{path}/{member}".removesuffix("/")
        files.append(SourceFile(path, label, state, member))
    return SourceFiles(tuple(files), tuple(skipped))


def require_unchanged(file: SourceFile) -> None:
    """Raise `FileError` if the file has changed since it was found."""
    if _read_state(file.path) != file.state:
        raise FileError(
            f"{file.path} changed while it was read: wait until it is complete, then try again"
        )


@contextmanager
def file_errors(file: SourceFile | Path) -> Iterator[None]:
    """Convert errors in opening, reading or decompressing `file` to `FileError`.

    Only calls of the libraries that read the file belong in this context, because errors in other
    code would be reported as errors in the file.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(f"{file} does not exist") from error
    except PermissionError as error:
        raise FileError(f"{file} cannot be read: check its permissions") from error
    except EOFError as error:
        raise FileError(f"{file} is cut short: {_AGAIN}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise FileError(f"{file} is damaged ({error}): {_AGAIN}") from error
    except (OSError, pa.ArrowException, NotImplementedError) as error:
        # `zipfile` raises NotImplementedError for compression methods that it lacks.
        if _TRUNCATED in str(error):
            raise FileError(f"{file} is cut short: {_AGAIN}") from error
        raise FileError(f"{file} cannot be read: {error}") from error


def _read_state(path: Path) -> FileState:
    with file_errors(path):
        stat = path.stat()
    return FileState(stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _require_file(path: Path) -> FileState:
    """Return the state of a file. Raises `FileError` if there is no regular file at `path`."""
    url = _URL.fullmatch(str(path))
    if url and not path.exists():  # `Path` reduces // in a URL to one slash
        raise FileError(f"{url[1]}://{url[2]} is a URL, and only files are read: download it first")
    state = _read_state(path)
    if not path.is_file():
        raise FileError(
            f"{path} is not a regular file: save it to one first, or pipe it into "
            f"`nextsong ingest run -`"
        )
    return state


def _expand(path: Path, skipped: list[str]) -> list[Path]:
    """Return the playlist files at `path`. Add other files in a folder to `skipped`."""
    if path.is_dir():
        inside = [file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path)]
        files = _sort_naturally(file for file in inside if _is_known(file.name))
        if not files:
            raise FileError(
                f"{path}: the folder holds no playlist file ({', '.join(_ENDINGS)}, "
                f"also compressed)"
            )
        skipped += sorted(str(file) for file in set(inside) - set(files))
        return files
    if not path.exists() and glob.has_magic(str(path)):
        matches = (Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = _sort_naturally(file for file in matches if file.is_file())
        if not files:
            raise FileError(f"no file matches {path}")
        return files
    return [path]


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def _is_known(name: str) -> bool:
    """Return whether a file name has the extension of a playlist file or an archive."""
    name = name.lower()
    for ending in _COMPRESSED_ENDINGS:
        name = name.removesuffix(ending)
    return name.endswith((*_ENDINGS, ".zip"))


def _remove_ending(name: str, endings: Sequence[str]) -> str:
    ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def _sort_naturally(files: Iterable[Path]) -> list[Path]:
    return sorted(files, key=lambda file: _natural_key(str(file)))


def _natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key for a file name in which digits are compared as numbers."""
    return [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in re.split(r"([0-9]+)", name)
    ]


def _is_zip(path: Path) -> bool:
    with file_errors(path), path.open("rb") as file:
        start = file.read(4)
    if start in _ZIP_MAGICS:
        return True
    if start and path.name.lower().endswith(".zip"):
        raise FileError(
            f"{path} is not a .zip archive, although its name ends with .zip: download it again, "
            f"or rename it to match its content"
        )
    return False


def _find_members(path: Path, skipped: list[str]) -> list[str]:
    """Return the playlist files in an archive. If there is only one file, it may have any name."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise FileError(
            f"{path} is a .zip archive that is cut short or damaged ({error}): {_AGAIN}"
        ) from error
    names = [entry.filename for entry in entries if not _is_system_file(entry.filename)]
    known = [name for name in names if _is_known(name) and not name.lower().endswith(".zip")]
    members = known or (names if len(names) == 1 else [])
    if not members:
        raise FileError(f"{path}: the archive holds no playlist file ({', '.join(_ENDINGS)})")
    encrypted = next((entry.filename for entry in entries if entry.flag_bits & 1), None)
    if encrypted:
        raise FileError(f"{path}: {encrypted} is encrypted: unpack it first")
    skipped += sorted(f"{path}/{name}" for name in set(names) - set(members))
    return sorted(members, key=_natural_key)


def _is_system_file(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
