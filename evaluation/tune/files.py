"""The files that a study reads and keeps.

STUDY/trials.journal        the trials of all phases (optuna's journal file)
STUDY/vectors-DIGEST.npz    the Word2Vec vectors of the best trial of the phase `train`
STUDY/best-DIGEST.npz       the co-occurrence weights and vectors that the phase `query` combines
STUDY/outcome.json          the last outcome
STUDY/scratch-*             temporary files, removed at the end

A digest depends on the parameters, the playlists and the code that prepared the playlists.
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
from scipy.sparse import csr_array

from catalog.errors import BusyError, MismatchError
from catalog.files import locked, make_folder, storage_errors
from evaluation.tune import space
from ingest.stages import fingerprint_of, finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.tune.space import TuningData, Vectors
    from ingest.learn.retrieval import ReleaseArrays
    from ingest.parameters import Parameters

UNTUNED = ("workers", "mode", "ranker")
"""Parameters without an effect on trials."""


@dataclass(frozen=True)
class StudyFiles:
    """The files of the last ingest run, and the folder of the study.

    `scratch` is a folder for temporary files. `split` and `data` are the fingerprints of the split
    and of the input files.
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
    def locate(work: Path, study: Path) -> StudyFiles:
        """Find the files of the last ingest run in its work folder; create the study's folder.

        Raises `MismatchError` if the run is unfinished or has no validation or test playlists.
        """
        split = finished_stage(work, "split")
        if not (split.summary["validation"] and split.summary["test"]):
            raise MismatchError(
                "no playlist is in the validation or the test split: ingest more playlists"
            )
        return StudyFiles(
            songs=finished_stage(work, "prepare").folder / "songs.parquet",
            train=split.folder / "train.parquet",
            validation=split.folder / "validation.parquet",
            test=split.folder / "test.parquet",
            study=make_folder(study),
            scratch=study,
            split=split.fingerprint,
            data=finished_stage(work, "read").inputs["data"],
        )

    def read_data(self, parameters: Parameters) -> TuningData:
        """Read the playlists that trials learn from and are scored on."""
        return space.read_tuning_data(self.songs, self.train, self.validation, parameters)

    def digest(self, parameters: Parameters, *stages: str) -> str:
        """Return a digest of the playlists and of the parameters of `stages`, all by default."""
        values = {
            name: value for stage in stages for name, value in parameters.of_stage(stage).items()
        } or asdict(parameters)
        tuned = {name: value for name, value in values.items() if name not in UNTUNED}
        return fingerprint_of([self.split, parameters.seed, tuned])[:12]

    def vectors_path(self, parameters: Parameters) -> Path:
        """Return the path of the vectors that `parameters` train."""
        return self.study / f"vectors-{self.digest(parameters, 'train')}.npz"

    def best_path(self, parameters: Parameters) -> Path:
        """Return the path of the weights and vectors that `parameters` produce."""
        return self.study / f"best-{self.digest(parameters, 'count', 'train')}.npz"


@contextmanager
def with_scratch(files: StudyFiles) -> Iterator[StudyFiles]:
    """Give a study a scratch folder, and remove it at the end.

    Scratch folders of runs that were killed are removed too.
    """
    for old in files.study.glob("scratch-*"):
        with suppress(BusyError), locked(old, "tune"):
            shutil.rmtree(old, ignore_errors=True)
    with storage_errors(files.study):
        scratch = tempfile.TemporaryDirectory(
            prefix="scratch-", dir=files.study, ignore_cleanup_errors=True
        )
    with scratch as name, locked(Path(name), "tune"):
        yield replace(files, scratch=Path(name))


def save_vectors(files: StudyFiles, parameters: Parameters, vectors: Vectors) -> None:
    """Keep the vectors that these parameters trained."""
    vector_songs, values = vectors
    _save(files.vectors_path(parameters), files.scratch, vector_songs=vector_songs, vectors=values)


def remove_other_vectors(files: StudyFiles, parameters: Parameters) -> None:
    """Remove all vectors but those of these parameters."""
    _remove_others(files.vectors_path(parameters), "vectors-*.npz")


def make_best_arrays(files: StudyFiles, parameters: Parameters) -> str:
    """Make the weights and vectors of these parameters unless kept; return their digest."""
    path = files.best_path(parameters)
    if not path.is_file():
        data = files.read_data(parameters)
        weights = space.count_cooccurrence(data, parameters)
        vector_songs, vectors = _read_or_train_vectors(files, data, parameters)
        _save(
            path,
            files.scratch,
            data=weights.data,
            indices=weights.indices,
            indptr=weights.indptr,
            vector_songs=vector_songs,
            vectors=vectors,
        )
        _remove_others(path, "best-*.npz")
    digest = hashlib.sha256()
    with np.load(path) as arrays:
        for name in sorted(arrays.files):
            digest.update(arrays[name].tobytes())
    return digest.hexdigest()[:12]


def read_best_arrays(files: StudyFiles, data: TuningData, parameters: Parameters) -> ReleaseArrays:
    """Read the arrays that `make_best_arrays` made."""
    total = len(data.playlist_counts)
    with np.load(files.best_path(parameters)) as arrays:
        columns = (arrays["data"], arrays["indices"], arrays["indptr"])
        weights = csr_array(columns, shape=(total, total))
        return space.build_arrays(data, weights, (arrays["vector_songs"], arrays["vectors"]))


def _read_or_train_vectors(files: StudyFiles, data: TuningData, parameters: Parameters) -> Vectors:
    path = files.vectors_path(parameters)
    if path.is_file():
        with np.load(path) as arrays:
            return arrays["vector_songs"], arrays["vectors"]
    vectors = space.train_vectors(data, parameters, files.scratch)
    save_vectors(files, parameters, vectors)
    return vectors


def _remove_others(path: Path, pattern: str) -> None:
    for other in path.parent.glob(pattern):
        if other != path:
            other.unlink(missing_ok=True)


def _save(path: Path, scratch: Path, **arrays: Any) -> None:
    partial = scratch / f".{path.name}.{os.getpid()}.npz"
    with storage_errors(path):
        np.savez(partial, **arrays)
        partial.rename(path)
