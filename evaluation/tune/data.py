"""The data of a tuning study: playlists, and the co-occurrence weights and dense vectors."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from catalog.content import ARTIST
from catalog.errors import MismatchError, PlaylistError
from catalog.files import storage_errors
from ingest.learn import word2vec
from ingest.learn.arrays import (
    ReleaseArrays,
    count_playlists,
    measure_scale,
    read_content,
    read_playlists,
    weight_matrix,
)
from ingest.learn.cases import sample_cases_with_last
from ingest.learn.cooccurrence import compute_weights
from ingest.prepare.catalog_songs import find_songs
from ingest.prepare.split import SplitSummary
from ingest.stages import fingerprint_of, finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ingest.learn.arrays import ContentField, Songs
    from ingest.learn.cases import Cases
    from ingest.parameters import Parameters

    Vectors = tuple[NDArray[np.int32], NDArray[np.float32]]
    """The songs that have a dense vector, shape (n,), and their vectors, shape (n, dimensions)."""

MAX_PLAYLISTS = 1_500  # maximum number of validation playlists on which trials are scored
CASES_PER_PLAYLIST = 4  # more would detect smaller differences, but slow down each trial

UNTUNED = ("workers", "mode", "ranker")
"""Parameters that do not affect trials."""


@dataclass(frozen=True)
class StudyFiles:
    """The files of a study.

    - `songs`, `train`, `validation`: files of the last ingest run.
    - `split`: fingerprint of the split into training, validation and test playlists.
    - `study`: folder of the study.
    - `scratch`: folder for temporary files.
    """

    songs: Path
    train: Path
    validation: Path
    split: str
    study: Path
    scratch: Path


@dataclass(frozen=True)
class TuningData:
    """The training playlists, and the validation cases on which trials are scored.

    - `playlist_counts`, shape (songs,): number of training playlists that contain each song.
    - `content`: the entries of each content field (see `catalog.content`) for the scale 1.
    """

    train: list[Songs]
    playlist_counts: NDArray[np.int64]
    cases: Cases
    content: tuple[ContentField, ...]

    @property
    def plays(self) -> int:
        """The total number of songs in the training playlists."""
        return sum(map(len, self.train))


def locate_files(work: Path, study: Path) -> StudyFiles:
    """Find the files of the last ingest run in `work`, for a study in the folder `study`.

    Raises `MismatchError` if the run is unfinished or has no validation or test playlists.
    """
    split = finished_stage(work, "split", SplitSummary)
    if not (split.summary.validation and split.summary.test):
        raise MismatchError(
            "no playlist is in the validation or the test split: ingest more playlists"
        )
    return StudyFiles(
        songs=find_songs(work),
        train=split.folder / "train.parquet",
        validation=split.folder / "validation.parquet",
        split=split.fingerprint,
        study=study,
        scratch=study / "scratch",
    )


def read_tuning_data(files: StudyFiles, parameters: Parameters) -> TuningData:
    """Read the training playlists and sample held-out cases from the validation playlists."""
    playlists = read_playlists(files.train)
    total = pq.read_metadata(files.songs).num_rows
    held_out = read_playlists(files.validation)
    random = np.random.default_rng(parameters.seed)
    sample = [held_out[row] for row in random.permutation(len(held_out))[:MAX_PLAYLISTS]]
    cases = sample_cases_with_last(sample, random, CASES_PER_PLAYLIST - 1)
    counts = count_playlists(playlists, total, parameters)
    fields = sorted(parameters.content_shares.keys() - {ARTIST})
    content = read_content(files.songs, fields, counts, scale=1.0)
    return TuningData(playlists, counts, cases, content)


def digest_parameters(files: StudyFiles, parameters: Parameters, *stages: str) -> str:
    """Return a digest of the playlists and of the parameters of these ingest stages."""
    values = select_parameters(parameters, stages)
    return fingerprint_of([files.split, parameters.seed, values])[:12]


def select_parameters(parameters: Parameters, stages: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of these ingest stages, except the parameters in `UNTUNED`."""
    return {
        name: value
        for stage in stages
        for name, value in parameters.of_stage(stage).items()
        if name not in UNTUNED
    }


def count_cooccurrence(data: TuningData, parameters: Parameters) -> csr_array:
    """Return the co-occurrence weights of the training playlists, shape (songs, songs)."""
    songs = np.concatenate(data.train)
    offsets = np.cumsum([0, *map(len, data.train)])
    parts = [part for _, _, part in compute_weights(offsets, songs, parameters)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return weight_matrix(columns, len(data.playlist_counts))


def train_vectors(data: TuningData, parameters: Parameters, folder: Path) -> Vectors:
    """Train Word2Vec, and return the songs that have a vector, and the vectors.

    `folder` is for temporary files. Raises `PlaylistError` if no song is in `min_count` training
    playlists.
    """
    most = int(np.bincount(np.concatenate(data.train)).max(initial=0))
    if most < parameters.min_count:
        raise PlaylistError(
            f"no song is in {parameters.min_count} training playlists (the most is {most})"
        )
    with tempfile.TemporaryDirectory(dir=folder) as name:
        corpus = Path(name) / "corpus.txt"
        with storage_errors(corpus), corpus.open("w", encoding="ascii") as file:
            file.writelines(" ".join(map(str, songs.tolist())) + "\n" for songs in data.train)
        return word2vec.train_vectors(
            corpus, parameters.epochs_for(sum(map(len, data.train))), parameters
        )


def build_arrays(
    data: TuningData, weights: csr_array | None = None, vectors: Vectors | None = None
) -> ReleaseArrays:
    """Return the arrays of a release with these weights and vectors, which are empty if None."""
    total = len(data.playlist_counts)
    if weights is None:
        weights = weight_matrix([[], [], []], total)
    scale = measure_scale(weights, np.bincount(np.concatenate(data.train), minlength=total))
    return ReleaseArrays(
        weights,
        *(vectors or (np.zeros(0, np.int32), np.zeros((0, 1), np.float32))),
        data.playlist_counts,
        scale,
        tuple(replace(part, entries=part.entries * scale) for part in data.content),
    )


def save_best_arrays(files: StudyFiles, data: TuningData, parameters: Parameters) -> None:
    """Compute and save the weights and vectors for these parameters, unless they are saved already.

    Files with the weights and vectors of other parameters are removed.
    """
    path = _best_arrays_path(files, parameters)
    if path.is_file():
        return
    weights = count_cooccurrence(data, parameters)
    vector_songs, vectors = train_vectors(data, parameters, files.scratch)
    partial = files.scratch / "best.npz"
    with storage_errors(path):
        np.savez(
            partial,
            data=weights.data,
            indices=weights.indices,
            indptr=weights.indptr,
            vector_songs=vector_songs,
            vectors=vectors,
        )
        for other in path.parent.glob("best-*.npz"):
            other.unlink(missing_ok=True)
        partial.rename(path)


def read_best_arrays(files: StudyFiles, data: TuningData, parameters: Parameters) -> ReleaseArrays:
    """Read the arrays that `save_best_arrays` saved for these parameters."""
    total = len(data.playlist_counts)
    with np.load(_best_arrays_path(files, parameters)) as arrays:
        columns = (arrays["data"], arrays["indices"], arrays["indptr"])
        weights = csr_array(columns, shape=(total, total))
        return build_arrays(data, weights, (arrays["vector_songs"], arrays["vectors"]))


def _best_arrays_path(files: StudyFiles, parameters: Parameters) -> Path:
    return files.study / f"best-{digest_parameters(files, parameters, 'count', 'train')}.npz"
