"""The manifest: what a release was made from and what it must contain to be whole."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from catalog.errors import CorruptReleaseError
from catalog.schema import Kind  # noqa: TC001 -- pydantic reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 2

_Shape = TypeVar("_Shape")


@dataclass(frozen=True)
class FileSum:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Counts:
    """How much a release holds, and from how much it was learned.

    Of the `songs`, `vectors` have a dense vector and `predicted` a sparse one.
    """

    songs: int
    vectors: int
    predicted: int
    artists: int
    training_playlists: int
    training_plays: int


@dataclass(frozen=True)
class Origin:
    """Where a release comes from.

    `data_fingerprint` is that of the input files, `content_fingerprint` that of everything that
    shaped the vectors: two releases with the same one are interchangeable. `split_fingerprint`
    ties the release to the playlists that it was not trained on. `track_ids` says that songs are
    identified by their source's own ids, so that several may share artist and title.
    """

    data_fingerprint: str
    split_fingerprint: str
    content_fingerprint: str
    code_version: str
    parameters: dict[str, Any]
    sources: list[str]
    track_ids: bool


@dataclass(frozen=True)
class StoredReranker:
    """The second-stage ranker: its model, packed by `catalog.reranker.pack`, and its SHA-256."""

    sha256: str
    model: str = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """The account of one release.

    `files` maps each file of the engine's folder to its size and sum. `canaries` are songs that
    must each find themselves first when the release is opened. `payload` says which extra fields
    songs may have, and of what kind each is. `search_ef` is how widely the index is searched, and
    `recall` the recall@10 of exact search that it then had, from 0 to 1 (see
    `catalog.index_quality`). `ranker` is the second-stage ranker, if it has one, and `validation`
    what was measured on the validation split when it was made, such as `hybrid HR@100`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    format: int
    release: str
    created: str
    dimensions: int
    counts: Counts
    origin: Origin
    files: dict[str, FileSum]
    canaries: list[str]
    payload: dict[str, Kind]
    search_ef: int | None = None
    recall: float | None = None
    ranker: StoredReranker | None = None
    validation: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """As JSON text that `from_json` reads back."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, where: str) -> Manifest:
        """Read a manifest; `where` names it in the `CorruptReleaseError` that a bad one raises."""
        found = _validated(_NUMBERED, text, where).format
        if found != FORMAT:
            raise CorruptReleaseError(
                f"{where}: format {found}, and this nextsong reads format {FORMAT}",
                "publish again with `nextsong ingest run FILE`",
            )
        return _validated(_MANIFEST, text, where)


def from_values(values: object, where: str) -> Manifest:
    """`Manifest.from_json` for what was JSON and has been parsed."""
    return Manifest.from_json(json.dumps(values), where)


@dataclass(frozen=True)
class _Numbered:
    """What every format has in common."""

    __pydantic_config__ = ConfigDict(strict=True)

    format: int


_NUMBERED = TypeAdapter(_Numbered)
_MANIFEST = TypeAdapter(Manifest)


def _validated(adapter: TypeAdapter[_Shape], text: str | bytes, where: str) -> _Shape:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CorruptReleaseError(f"{where}: not a manifest ({place}: {first['msg']})") from error


def sum_files(folder: Path) -> dict[str, FileSum]:
    """Size and SHA-256 of every file under `folder`, by its path relative to it."""
    sums = {}
    for path in sorted(_files(folder)):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sums[path.relative_to(folder).as_posix()] = FileSum(path.stat().st_size, digest)
    return sums


def _files(folder: Path) -> Iterator[Path]:
    # Qdrant Edge writes some files anew, with the same content, whenever a process opens or closes
    # a release. What it writes to first belongs to that process, and is gone when it is done.
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".atomicwrite")]
        yield from (Path(parent, name) for name in names)


def verify_files(folder: Path, expected: dict[str, FileSum]) -> None:
    """Raise `CorruptReleaseError`, naming the first file that is missing, added or changed."""
    found = sum_files(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CorruptReleaseError(f"{folder / name} is missing")
        if name not in expected:
            raise CorruptReleaseError(f"{folder / name} does not belong to the release")
        if found[name] != expected[name]:
            raise CorruptReleaseError(f"{folder / name} is not as it was published")
