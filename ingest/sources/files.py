"""What the user names -> the files to read: folders, patterns and .zip archives are opened up."""

from __future__ import annotations

import glob
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KNOWN = (".csv", ".tsv", ".psv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".pq")
_PACKED = (".gz", ".zst", ".zstd", ".bz2")
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+(.*)")

STDIN = Path("-")
"""Stands for standard input among the files that the user names."""


@dataclass(frozen=True)
class Input:
    """A file to read: where it is, how rows name it, and which member of a .zip it is, if any.

    `is_stdin` says that it is a copy of standard input.
    """

    path: Path
    label: str
    member: str = ""
    is_stdin: bool = False

    def __str__(self) -> str:
        if self.is_stdin:
            return self.label
        return f"{self.path}/{self.member}" if self.member else str(self.path)


@dataclass(frozen=True)
class Inputs:
    """The files to read, in order, and those in folders and archives that were passed over."""

    files: tuple[Input, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """The files on disk, each once."""
        return list(dict.fromkeys(file.path for file in self.files))

    def states(self) -> list[tuple[int, int, int]]:
        """Size, time of change and inode of each of `paths`. Raises `FileError`."""
        return [state_of(path) for path in self.paths]


def state_of(path: Path) -> tuple[int, int, int]:
    """Size, time of change and inode of a file. Raises `FileError`."""
    try:
        stat = path.stat()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def find_inputs(given: Sequence[Path], spooled: Path | None = None) -> Inputs:
    """All files that `given` names: files, folders (with all below), patterns and .zip archives.

    Of folders and archives, files with the endings of playlist files are read, in natural order
    (slice 2 before slice 10), and the others passed over. `spooled` is the file that holds a copy
    of standard input, if `STDIN` is among the files. Raises `FileError` where one is missing or
    holds nothing to read.
    """
    if not given:
        raise FileError("no playlist file was given")
    places: list[tuple[Path, str]] = []
    passed: list[str] = []
    for path in given:
        if spooled and path == STDIN:
            places.append((spooled, ""))
            continue
        for file in _expanded(path, passed):
            if _is_zip(file):
                places += [(file, member) for member in _members(file, passed)]
            else:
                places.append((file, ""))
    places = list(dict.fromkeys(places))
    short = [
        "standard input" if path == spooled else path.name + (f"/{member}" if member else "")
        for path, member in places
    ]
    unique = len(set(short)) == len(short)
    return Inputs(
        tuple(
            Input(
                path,
                label if unique or path == spooled else f"{path}/{member}".removesuffix("/"),
                member,
                is_stdin=path == spooled,
            )
            for (path, member), label in zip(places, short, strict=True)
        ),
        tuple(passed),
    )


def _require_file(path: Path) -> None:
    """Raise `FileError` unless this is a regular file."""
    try:
        path.stat()
    except FileNotFoundError as error:
        raise FileError(_absent(path)) from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    if not path.is_file():
        raise FileError(
            f"{path} is not a regular file: save it to one first, or pipe it into "
            f"`nextsong ingest run -`"
        )


def _absent(path: Path) -> str:
    """Return what to say of a path that leads nowhere."""
    url = _URL.fullmatch(str(path))  # of the slashes of a URL, a path keeps one
    if url is None:
        return f"{path} does not exist"
    full = f"{url[1]}://{url[2]}"
    return f"{full} is a URL, and only files are read: download it first"


def _expanded(path: Path, passed: list[str]) -> list[Path]:
    if path.is_dir():
        inside = [one for one in path.rglob("*") if one.is_file() and not _is_hidden(one, path)]
        chosen = _natural(one for one in inside if _is_known(one.name))
        if not chosen:
            raise FileError(
                f"{path}: the folder holds no playlist file ({', '.join(_KNOWN)}, also packed)"
            )
        passed += sorted(str(one) for one in set(inside) - set(chosen))
        return chosen
    if not path.exists() and glob.has_magic(str(path)):
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        chosen = _natural(one for one in found if one.is_file())
        if not chosen:
            raise FileError(f"no file matches {path}")
        return chosen
    return [path]


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def _is_known(name: str) -> bool:
    name = name.lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return name.endswith((*_KNOWN, ".zip"))


def _natural(files: Iterable[Path]) -> list[Path]:
    return sorted(files, key=lambda file: _natural_key(str(file)))


def _natural_key(name: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [
        (part.isascii() and part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in parts
        if part.isascii() or not part.isdigit()
    ]


def _is_zip(path: Path) -> bool:
    _require_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except PermissionError as error:
        raise FileError(f"{path} may not be read: check its permissions") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    if head in _ZIP_MAGICS:
        return True
    if head and path.name.lower().endswith(".zip"):
        raise FileError(
            f"{path} is not a .zip archive, though its name says so: download it again, or rename "
            f"it after what it holds"
        )
    return False


def _members(path: Path, passed: list[str]) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [one for one in archive.infolist() if not one.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise FileError(
            f"{path} is a .zip archive that is cut short or damaged ({error}): download or pack "
            f"it again"
        ) from error
    names = [one.filename for one in infos if not _is_junk(one.filename)]
    known = [name for name in names if _is_known(name) and not name.lower().endswith(".zip")]
    chosen = known or (names if len(names) == 1 else [])
    if not chosen:
        raise FileError(f"{path}: the archive holds no playlist file ({', '.join(_KNOWN)})")
    locked = next((one.filename for one in infos if one.flag_bits & 1), None)
    if locked:
        raise FileError(f"{path}: {locked} is encrypted: unpack it first")
    passed += sorted(f"{path}/{name}" for name in set(names) - set(chosen))
    return sorted(chosen, key=_natural_key)


def _is_junk(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
