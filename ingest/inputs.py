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
_ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Input:
    """A file to read: where it is, how rows name it, and which member of a .zip it is, if any."""

    path: Path
    label: str
    member: str = ""

    def __str__(self) -> str:
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


def find_inputs(given: Sequence[Path]) -> Inputs:
    """All files that `given` names: files, folders (with all below), patterns and .zip archives.

    Of folders and archives, files with the endings of playlist files are read, in natural order
    (slice 2 before slice 10), and the others passed over. Raises `FileError` where one is missing
    or holds nothing to read.
    """
    if not given:
        raise FileError("no playlist file was given")
    places: list[tuple[Path, str]] = []
    passed: list[str] = []
    for path in given:
        for file in _expanded(path, passed):
            if _is_zip(file):
                places += [(file, member) for member in _members(file, passed)]
            else:
                places.append((file, ""))
    places = list(dict.fromkeys(places))
    short = [path.name + (f"/{member}" if member else "") for path, member in places]
    unique = len(set(short)) == len(short)
    return Inputs(
        tuple(
            Input(path, label if unique else f"{path}/{member}".removesuffix("/"), member)
            for (path, member), label in zip(places, short, strict=True)
        ),
        tuple(passed),
    )


def require_file(path: Path) -> int:
    """The size of a regular file that is not empty. Raises `FileError`."""
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    if not path.is_file():
        raise FileError(f"{path} is not a regular file: save it to one first")
    if size == 0:
        raise FileError(f"{path} is empty")
    return size


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
    require_file(path)
    try:
        with path.open("rb") as file:
            return file.read(4) == _ZIP_MAGIC
    except PermissionError as error:
        raise FileError(f"{path} may not be read: check its permissions") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


def _members(path: Path, passed: list[str]) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [one for one in archive.infolist() if not one.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise FileError(f"{path} is a damaged .zip archive: {error}") from error
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
