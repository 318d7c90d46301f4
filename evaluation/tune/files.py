"""What a study reads and keeps: the ingest run's files, its journal, and what trials have made.

STUDY/trials.journal        the trials of all phases (optuna's journal file)
STUDY/vectors-DIGEST.npz    Word2Vec vectors of the best trial
STUDY/best-DIGEST.npz       strengths and vectors of the two best, for the phase `query`
STUDY/outcome.json          what was chosen last
STUDY/scratch-*             what is being written, removed at the end

A digest is of the parameters, of the playlists and of the code that makes vectors of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import BusyError, MismatchError
from catalog.files import locked, make_folder, storage_errors
from evaluation.tune import space
from ingest.stages import fingerprint_of, finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evaluation.tune.space import Held
    from ingest.learn.retrieval import ReleaseArrays
    from ingest.parameters import Parameters

Vectors = tuple["NDArray[np.int32]", "NDArray[np.float32]"]

NO_MATTER = ("workers", "mode", "ranker")
"""Parameters that change nothing that is tuned."""


@dataclass(frozen=True)
class Places:
    """Files of the ingest run whose playlists are tuned for, and the study's own folder.

    `scratch` is a folder in it for files that are being written. `split` and `data` are the
    fingerprints of the split and of the files that were read.
    """

    songs: Path
    train: Path
    validation: Path
    test: Path
    study: Path
    scratch: Path
    split: str
    data: str

    @staticmethod
    def of(work: Path, study: Path) -> Places:
        """The files in a work folder. Raises `MismatchError`."""
        splits = finished_stage(work, "split")
        if not (splits.summary["validation"] and splits.summary["test"]):
            raise MismatchError("no playlist falls to validation or test: give more playlists")
        folder = splits.folder
        return Places(
            finished_stage(work, "prepare").folder / "songs.parquet",
            folder / "train.parquet",
            folder / "validation.parquet",
            folder / "test.parquet",
            make_folder(study),
            study,
            splits.fingerprint,
            finished_stage(work, "read").inputs["data"],
        )

    def held(self, parameters: Parameters) -> Held:
        """What trials are judged on."""
        return space.load(self.songs, self.train, self.validation, parameters)


@contextmanager
def with_scratch(places: Places) -> Iterator[Places]:
    """Give a study a scratch folder, which is removed at the end, whatever its trials leave there.

    Those of earlier runs that were killed are removed too.
    """
    for old in places.study.glob("scratch-*"):
        with suppress(BusyError), locked(old, "tune"):
            shutil.rmtree(old, ignore_errors=True)
    with storage_errors(places.study):
        scratch = tempfile.TemporaryDirectory(
            prefix="scratch-", dir=places.study, ignore_cleanup_errors=True
        )
    with scratch as name, locked(Path(name), "tune"):
        yield replace(places, scratch=Path(name))


def digest_of(places: Places, parameters: Parameters, *stages: str) -> str:
    """What the parameters of these stages, all if none is named, make of these playlists."""
    chosen = {
        name: value
        for stage in stages
        for name, value in parameters.of_stage(stage).items()
        if name not in NO_MATTER
    } or {name: value for name, value in asdict(parameters).items() if name not in NO_MATTER}
    return fingerprint_of([places.split, parameters.seed, chosen])[:12]


def vectors_of(places: Places, held: Held, parameters: Parameters, *, keep: bool) -> Vectors:
    """Word2Vec's songs and vectors: as they are kept, or trained now, and then kept if wanted."""
    path = _path_of_vectors(places, parameters)
    if path.is_file():
        with np.load(path) as kept:
            return kept["having"], kept["vectors"]
    found = space.trained(held, parameters, places.scratch)
    if keep:
        keep_vectors(places, parameters, found)
    return found


def keep_vectors(places: Places, parameters: Parameters, found: Vectors) -> None:
    """Keep the vectors that these parameters make, so that they need not be trained again."""
    path = _path_of_vectors(places, parameters)
    _save(path, places.scratch, having=found[0], vectors=found[1])


def forget_vectors(places: Places, kept: list[Parameters]) -> None:
    """Remove all vectors but those of these parameters."""
    names = {_path_of_vectors(places, parameters).name for parameters in kept}
    for path in places.study.glob("vectors-*.npz"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _path_of_vectors(places: Places, parameters: Parameters) -> Path:
    return places.study / f"vectors-{digest_of(places, parameters, 'train')}.npz"


def best_path(places: Places, parameters: Parameters) -> Path:
    """Where the strengths and vectors of what was chosen are kept."""
    return places.study / f"best-{digest_of(places, parameters, 'count', 'train')}.npz"


def make_best(places: Places, parameters: Parameters) -> str:
    """Make and keep the strengths and vectors of these parameters, if need be: their digest."""
    path = best_path(places, parameters)
    if not path.is_file():
        held = places.held(parameters)
        strengths = space.counted(held, parameters)
        having, vectors = vectors_of(places, held, parameters, keep=True)
        _save(
            path,
            places.scratch,
            data=strengths.data,
            indices=strengths.indices,
            indptr=strengths.indptr,
            having=having,
            vectors=vectors,
        )
        for other in places.study.glob("best-*.npz"):
            if other != path:
                other.unlink(missing_ok=True)
    with np.load(path) as best:
        digest = hashlib.sha256()
        for name in sorted(best.files):
            digest.update(best[name].tobytes())
    return digest.hexdigest()[:12]


def best_arrays(places: Places, held: Held, parameters: Parameters) -> ReleaseArrays:
    """What `make_best` has made, as a release's arrays."""
    from scipy.sparse import csr_array

    with np.load(best_path(places, parameters)) as best:
        total = len(held.playlists)
        strengths = csr_array((best["data"], best["indices"], best["indptr"]), shape=(total, total))
        return space.arrays_of(held, strengths, (best["having"], best["vectors"]))


def _save(path: Path, scratch: Path, **arrays: Any) -> None:
    partial = scratch / f".{path.name}.{os.getpid()}.npz"
    with storage_errors(path):
        np.savez(partial, **arrays)
        partial.rename(path)
