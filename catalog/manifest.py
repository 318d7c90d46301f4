"""The manifest of a release: origin, parameters, and checksums of the data."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from catalog.errors import CorruptReleaseError
from catalog.schema import Kind  # noqa: TC001 -- pydantic reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 4
"""Number of the release format that this version publishes."""

READABLE_FORMATS = (2, 3, 4)
"""Release formats that this version reads. They differ from the latest format as follows.

- 2: each song has exactly one artist, the weights of seeds decay exponentially, and there are no
  content entries (see `catalog.content`) and no spelling vectors.
- 3: songs have no spelling vectors (see `catalog.spelling`).
"""

SPELLING_FORMAT = 4
"""First format in which songs have spelling vectors (see `catalog.spelling`)."""

_Model = TypeVar("_Model")


@dataclass(frozen=True)
class FileSum:
    """Size in bytes and SHA-256 of one file (see `sum_files`)."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Counts:
    """The size of a release and of its training data.

    - `vectors`, `predicted`: number of songs that have a dense vector, and number of songs that
      have a sparse vector.
    - `training_plays`: sum over all songs of the number of training playlists with the song.
    """

    songs: int
    vectors: int
    predicted: int
    artists: int
    training_playlists: int
    training_plays: int


@dataclass(frozen=True)
class Origin:
    """The origin of a release.

    - `data_fingerprint`: hash of the input files.
    - `split_fingerprint`: hash of the division into training, validation and test playlists.
    - `content_fingerprint`: hash of data, parameters and code. Two releases with the same hash have
      the same content.
    - `parameters`: options of the ingest, and parameters chosen on the validation playlists.
    - `sources`: names of the input files.
    - `track_ids`: whether songs are identified by the track ids of the source. If so, several songs
      can have the same artist and title.
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
    """A re-ranker in a manifest: the model, encoded by `catalog.reranker.pack`, and its SHA-256."""

    sha256: str
    model: str = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """The manifest of one release.

    - `created`: time of creation, in ISO 8601 and UTC.
    - `dimensions`: length of the dense vectors.
    - `files`: size and checksum of each file in the folder of Qdrant Edge; empty on a server.
    - `canaries`: ids of songs that are tested when the release is opened: each must be the nearest
      neighbour of its own vector.
    - `payload`: index type of each extra payload field.
    - `search_ef`: HNSW search width.
    - `recall`: recall@10 of the index with the width `search_ef`, from 0 to 1 (see
      `catalog.search.index_quality`).
    - `ranker`: the re-ranker, if the release has one.
    - `validation`: metrics measured on the validation split at ingest, such as `hybrid HR@100`.
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

    @property
    def has_spelling(self) -> bool:
        """Whether songs have spelling vectors, by which searches find misspelt names."""
        return self.format >= SPELLING_FORMAT

    def to_json(self) -> str:
        """Return the manifest as JSON text, which `from_json` parses."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, where: str) -> Manifest:
        """Parse a manifest. Raises `CorruptReleaseError`, whose message begins with `where`."""
        number = _parse(_NUMBERED, text, where).format
        if number not in READABLE_FORMATS:
            formats = ", ".join(map(str, READABLE_FORMATS[:-1])) + f" and {READABLE_FORMATS[-1]}"
            raise CorruptReleaseError(
                f"{where}: format {number}, and this nextsong reads formats {formats}",
                "publish again with `nextsong ingest run FILE`",
            )
        return _parse(_MANIFEST, text, where)


@dataclass(frozen=True)
class _Numbered:
    """The only field that manifests of all formats have: the number of the format."""

    __pydantic_config__ = ConfigDict(strict=True)

    format: int


_NUMBERED = TypeAdapter(_Numbered)
_MANIFEST = TypeAdapter(Manifest)


def _parse(adapter: TypeAdapter[_Model], text: str | bytes, where: str) -> _Model:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CorruptReleaseError(f"{where}: not a manifest ({path}: {first['msg']})") from error


def sum_files(folder: Path) -> dict[str, FileSum]:
    """Return the size and SHA-256 of each file under `folder`, by path relative to `folder`.

    When a process opens or closes a release, Qdrant Edge rewrites the JSON files with the same
    content, but the keys of an object can be in another order. Therefore, the SHA-256 of a JSON
    file is computed after the keys are sorted.
    """
    return {
        path.relative_to(folder).as_posix(): FileSum(path.stat().st_size, _hash_content(path))
        for path in sorted(_files(folder))
    }


def _hash_content(path: Path) -> str:
    if path.suffix == ".json":
        with suppress(ValueError, RecursionError):
            document = json.dumps(json.loads(path.read_bytes()), sort_keys=True)
            return hashlib.sha256(document.encode()).hexdigest()
    return _hash_bytes(path)


def _hash_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    # Qdrant Edge writes to temporary folders, which are not part of the release.
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".atomicwrite")]
        yield from (Path(parent, name) for name in names)


def verify_files(folder: Path, expected: dict[str, FileSum]) -> None:
    """Raise `CorruptReleaseError` for the first file that is missing, added or changed.

    `expected` contains the size and SHA-256 of each file, by path relative to `folder`.
    """
    actual = sum_files(folder)
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            raise CorruptReleaseError(f"{folder / name} is missing")
        if name not in expected:
            raise CorruptReleaseError(f"{folder / name} does not belong to the release")
        if actual[name] == expected[name]:
            continue
        # Manifests of formats 2 and 3 have the SHA-256 of the unsorted JSON files.
        if _hash_bytes(folder / name) != expected[name].sha256:
            raise CorruptReleaseError(f"{folder / name} is not as it was published")
