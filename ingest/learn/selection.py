"""Selection of the retrieval mode and retrieval parameters, on validation cases.

No default suits all data. In long playlists, the last songs and the artists of the seeds matter
most; in sessions of a radio station, neither matters. In turn, each parameter is set to every value
of its grid, and the simplest value that is as good as the best value is kept. Recommendations for
all cases are computed in memory (see `ingest.learn.retrieval`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from catalog.content import ARTIST
from catalog.recency import Recency
from ingest.learn.arrays import read_arrays, read_playlists
from ingest.learn.cases import sample_cases_with_last
from ingest.learn.descent import Descent, Trial, descend
from ingest.learn.rank_metrics import KS, discounted_gains, hit_rate
from ingest.learn.retrieval import (
    build_query_vectors,
    find_ranks_by_cooccurrence,
    find_ranks_by_similarity,
    fuse,
    rank_for_fusion,
    ranks_of_labels,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from catalog.console.progress import Reporter, Task
    from ingest.learn.arrays import ReleaseArrays, Songs, StageFiles
    from ingest.learn.cases import Cases
    from ingest.learn.retrieval import Ranking
    from ingest.parameters import Parameters

    Ranks = NDArray[np.int64]
    Values = Mapping[str, float]

RECENCIES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
DENSE_RECENCIES = (0.0, 0.25, 0.5, 1.0)
SONG_EXPONENTS = (0.0, 0.15, 0.3)
SHARES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
DENSE_WEIGHTS = (0.025, 0.05, 0.1, 0.2)
"""Values to try for each parameter, the simplest value first."""

MAX_PLAYLISTS = 1_000
"""Maximum number of validation playlists from which cases are made."""

CASES_PER_PLAYLIST, MAX_CASES_PER_PLAYLIST, ENOUGH_CASES = 3, 12, 4_000
"""Minimum and maximum number of random cases per playlist, and the desired number of all cases.

In addition, each playlist gives one case whose label is the last song.
"""

MIN_CASES = 50
"""Minimum number of cases. With fewer cases, no value is tried, and the parameters are kept."""

MAX_SEEDS = 200_000
"""Maximum total number of seeds in the queries of all cases.

With long playlists, fewer cases are used."""

MAX_SIMILARITIES = 1_200_000_000
"""Maximum number of cosines to compute for each value. With many songs, fewer cases are used."""

MAX_CONTENT_SCORES = 100_000_000
"""Maximum number of songs to score through a content field, over all cases.

A field with more such songs is not tried, because every query would score a large part of the
catalog.
"""

DEPTH = 100
"""Number of songs in a ranking. If the label is not among them, the case is a miss."""

_SHARE = "share of "
"""Prefix of the names of content shares in the grids, such as "share of artist"."""


@dataclass(frozen=True)
class SelectionInputs:
    """Inputs of model selection, in addition to files.

    - `parameters`: the parameters of the ingest, whose `order` is not "auto". They are used
      unchanged if there are too few validation cases.
    - `fixed`: names of the parameters that must not be changed (see `Parameters.fixed`).
    - `scale`: the scale of the weights (see `ingest.learn.cooccurrence.WeightScale`).
    - `catalog_min`: minimum number of training playlists of a song in the catalog.
    """

    parameters: Parameters
    fixed: Collection[str]
    scale: float
    catalog_min: int


@dataclass(frozen=True)
class Selected:
    """The selected mode and parameters (see `Parameters`). `mode` is not "auto" or "ranked"."""

    mode: str
    recency: float
    dense_recency: float
    song_exponent: float
    content_shares: dict[str, float]
    dense_weight: float

    def to_parameters(self) -> dict[str, Any]:
        """Return the values by parameter name."""
        return asdict(self)


@dataclass(frozen=True)
class ChooseSummary:
    """Result of the `choose` stage.

    - `text`: a one-line summary for display.
    - `trials`: all values that were tried, in order.
    - `figures`: hit rates and mean discounted gains, by name, of the modes that were compared, and
      of co-occurrence search with the simplest value of every parameter ("simplest").
    - `cases`: number of validation cases; 0 if there were too few to try any value.
    - `untried`: content fields that were not tried (see `MAX_CONTENT_SCORES`).
    """

    text: str
    selected: Selected
    trials: list[Trial] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    cases: int = 0
    untried: list[str] = field(default_factory=list)


def select_parameters(
    files: StageFiles, inputs: SelectionInputs, reporter: Reporter
) -> ChooseSummary:
    """Select the retrieval mode and retrieval parameters.

    The criterion is the mean discounted gain within the first 100 songs. First, recency, song
    exponent and content shares are selected for co-occurrence search alone. Then, the dense recency
    is selected for dense search alone. Finally, the dense weight is selected; if it is 0,
    co-occurrence search is selected, because it is cheaper than hybrid search. A given mode and
    given parameters are kept. If there are no vectors, co-occurrence search is selected. If there
    are too few cases, the parameters are used unchanged.
    """
    with reporter.task("choose") as task:
        cases = read_cases(files, inputs.parameters.seed)
        if len(cases.labels) < MIN_CASES:
            summary = _keep_parameters(files, inputs, len(cases.labels))
        else:
            summary = _select(files, inputs, cases, task)
        task.result(summary.text)
    return summary


def _keep_parameters(files: StageFiles, inputs: SelectionInputs, cases: int) -> ChooseSummary:
    parameters = inputs.parameters
    selected = _start(inputs, files.fields)
    if parameters.mode in ("auto", "ranked"):
        selected = replace(selected, mode="cooccurrence")
    reason = f"only {cases} validation cases" if cases else "no validation playlist"
    return ChooseSummary(f"{_describe(selected)}; unmeasured: {reason}", selected)


def _start(inputs: SelectionInputs, fields: Sequence[str]) -> Selected:
    parameters = inputs.parameters
    return Selected(
        mode=parameters.mode,
        recency=parameters.recency,
        dense_recency=parameters.dense_recency,
        song_exponent=parameters.song_exponent,
        content_shares={
            name: float(parameters.content_shares.get(name, 0.0)) for name in (ARTIST, *fields)
        },
        dense_weight=parameters.dense_weight,
    )


def read_cases(files: StageFiles, seed: int) -> Cases:
    """Return the validation cases (see `sample_validation_cases`)."""
    playlists = read_playlists(files.validation)
    vectors = pq.read_metadata(files.vectors).num_rows
    return sample_validation_cases(playlists, MAX_SIMILARITIES // max(1, vectors), seed)


def sample_validation_cases(playlists: Sequence[Songs], most: int, seed: int) -> Cases:
    """Sample playlists. Return the case of the last song of each playlist, and then random cases.

    At most `most` cases with at most `MAX_SEEDS` seeds in total are returned, but always the cases
    of all last songs.
    """
    random = np.random.default_rng(seed)
    sample = [playlists[index] for index in random.permutation(len(playlists))[:MAX_PLAYLISTS]]
    count = ENOUGH_CASES // max(1, len(sample)) - 1
    count = min(max(count, CASES_PER_PLAYLIST), MAX_CASES_PER_PLAYLIST)
    cases = sample_cases_with_last(sample, random, count)
    seeds = np.cumsum([len(query) for query in cases.queries])
    most = max(min(most, int(np.searchsorted(seeds, MAX_SEEDS, side="right"))), len(sample))
    return cases.take(np.arange(min(most, len(cases.labels))))


def _select(files: StageFiles, inputs: SelectionInputs, cases: Cases, task: Task) -> ChooseSummary:
    arrays = read_arrays(files, cases.queries, inputs.scale, inputs.catalog_min)
    mode, selected = inputs.parameters.mode, _start(inputs, files.fields)
    has_vectors = len(arrays.vector_songs) > 0
    steps: dict[str, Descent] = {}
    untried: list[str] = []
    if mode != "dense":
        given = _given_shares(inputs)
        untried = [name for name in find_common_fields(arrays, cases) if name not in given]
        sparse = SparseSearch(arrays, cases, selected.content_shares.keys() - {*untried})
        grids = _sparse_grids(inputs, selected.content_shares, untried)
        steps["cooccurrence"] = descend(grids, sparse.rank, cases.playlists)
        selected = _set_sparse(selected, steps["cooccurrence"].values)
    task.advance(1, 3)
    if has_vectors and mode != "cooccurrence":
        recencies = _grid(inputs, "dense_recency", DENSE_RECENCIES)
        dense = partial(_rank_by_similarity, arrays, cases)
        steps["dense"] = descend({"dense_recency": recencies}, dense, cases.playlists)
        selected = replace(selected, dense_recency=steps["dense"].values["dense_recency"])
    task.advance(2, 3)
    if has_vectors and mode not in ("cooccurrence", "dense"):
        parameters = replace(inputs.parameters, **selected.to_parameters())
        hybrid = HybridSearch(arrays, cases, parameters, steps["cooccurrence"].last)
        weights = _grid(inputs, "dense_weight", DENSE_WEIGHTS)
        weights = weights if mode == "hybrid" else (0.0, *weights)
        steps["hybrid"] = descend({"dense_weight": weights}, hybrid.rank, cases.playlists)
        weight = steps["hybrid"].values["dense_weight"]
        selected = replace(
            selected,
            mode="hybrid" if weight else "cooccurrence",
            dense_weight=weight or selected.dense_weight,
        )
    elif mode not in ("dense", "hybrid"):
        selected = replace(selected, mode="cooccurrence")
    return _summarise(selected, steps, untried, len(cases.labels))


def _grid(inputs: SelectionInputs, name: str, values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values to try for a parameter: `values`, or only its current value if fixed."""
    return (getattr(inputs.parameters, name),) if name in inputs.fixed else values


def _given_shares(inputs: SelectionInputs) -> Mapping[str, float]:
    return inputs.parameters.content_shares if "content_shares" in inputs.fixed else {}


def _sparse_grids(
    inputs: SelectionInputs, fields: Iterable[str], untried: Collection[str]
) -> dict[str, tuple[float, ...]]:
    given = _given_shares(inputs)
    grids = {
        "recency": _grid(inputs, "recency", RECENCIES),
        "song_exponent": _grid(inputs, "song_exponent", SONG_EXPONENTS),
    }
    for name in fields:
        shares = (float(given[name]),) if name in given else SHARES
        grids[_SHARE + name] = (0.0,) if name in untried else shares
    return grids


def _set_sparse(selected: Selected, values: Mapping[str, float]) -> Selected:
    return replace(
        selected,
        recency=values["recency"],
        song_exponent=values["song_exponent"],
        content_shares=_shares_of(values),
    )


def _shares_of(values: Mapping[str, float]) -> dict[str, float]:
    return {
        name.removeprefix(_SHARE): value
        for name, value in values.items()
        if name.startswith(_SHARE)
    }


def find_common_fields(arrays: ReleaseArrays, cases: Cases) -> list[str]:
    """Return the content fields whose values are too common for the field to be tried.

    For these fields, more than `MAX_CONTENT_SCORES` songs would be scored, over all cases.
    """
    ends = np.cumsum([0, *map(len, cases.queries)])
    songs = np.concatenate(cases.queries)
    shape = (len(cases.queries), arrays.weights.shape[0])
    seeds = csr_array((np.ones(len(songs)), songs, ends), shape=shape)
    return [
        part.name
        for part in arrays.content
        if np.diff(part.entries.indptr)[csr_array(seeds @ part.keys).indices].sum()
        > MAX_CONTENT_SCORES
    ]


class SparseSearch:
    """Ranks labels by co-occurrence, for any recency, song exponent and content shares.

    `fields` are the content fields whose shares may be above 0.
    """

    def __init__(self, arrays: ReleaseArrays, cases: Cases, fields: Collection[str]) -> None:
        self._arrays = arrays
        self._scaled = (0.0, arrays)  # current song exponent, and the arrays with this exponent
        self._count = len(cases.labels)
        # These query vectors give every content field a share above 0. A label that scores 0 here
        # cannot score more with any other parameter values, so its case is always a miss. Such
        # cases are left out of the later searches.
        vectors = build_query_vectors(arrays, cases.queries, Recency(), dict.fromkeys(fields, 1.0))
        self._rows = np.flatnonzero(find_ranks_by_cooccurrence(arrays, cases, vectors))
        self._cases = cases.take(self._rows)

    def rank(self, values: Values) -> Ranks:
        """Return the ranks of the labels: from 1 to `DEPTH`, or 0 for a miss."""
        exponent = values["song_exponent"]
        if self._scaled[0] != exponent:
            self._scaled = exponent, self._arrays.with_song_exponent(exponent)
        recency, arrays = Recency(values["recency"]), self._scaled[1]
        vectors = build_query_vectors(arrays, self._cases.queries, recency, _shares_of(values))
        ranks = np.zeros(self._count, np.int64)
        ranks[self._rows] = find_ranks_by_cooccurrence(arrays, self._cases, vectors)
        return _within_depth(ranks)


def _rank_by_similarity(arrays: ReleaseArrays, cases: Cases, values: Values) -> Ranks:
    recency = Recency(values["dense_recency"])
    return _within_depth(find_ranks_by_similarity(arrays, cases, recency))


class HybridSearch:
    """Ranks labels by hybrid search, for any dense weight.

    `cooccurrence` contains the ranks for dense weight 0.
    """

    def __init__(
        self, arrays: ReleaseArrays, cases: Cases, parameters: Parameters, cooccurrence: Ranks
    ) -> None:
        self._cooccurrence = cooccurrence
        self._rows: list[int] = []
        self._pairs: list[tuple[Ranking, Ranking]] = []
        arrays = arrays.with_song_exponent(parameters.song_exponent)
        for row, pair in enumerate(rank_for_fusion(arrays, cases.queries, parameters, DEPTH)):
            # Cases whose label is in neither ranking are misses for any weight, and are dropped.
            if any((songs == cases.labels[row]).any() for songs, _ in pair):
                self._rows.append(row)
                self._pairs.append(pair)
        self._labels = cases.labels[self._rows]

    def rank(self, values: Values) -> Ranks:
        """Return the ranks of the labels: from 1 to `DEPTH`, or 0 for a miss."""
        weight = values["dense_weight"]
        if not weight:
            return self._cooccurrence
        ranks = np.zeros(len(self._cooccurrence), np.int64)
        ranks[self._rows] = ranks_of_labels(
            (fuse(*pair, weight, DEPTH) for pair in self._pairs), self._labels
        )
        return ranks


def _within_depth(ranks: Ranks) -> Ranks:
    return np.where(ranks <= DEPTH, ranks, 0)


def _summarise(
    selected: Selected, steps: Mapping[str, Descent], untried: list[str], cases: int
) -> ChooseSummary:
    """Return the summary of a selection. `steps` contains the results of `descend` by mode."""
    ranks = {name: step.last for name, step in steps.items()}
    if "cooccurrence" in steps:
        ranks = {"simplest": steps["cooccurrence"].first} | ranks
    figures = {f"auto, {name} HR@{k}": hit_rate(own, k) for name, own in ranks.items() for k in KS}
    figures |= {
        f"auto, {name} gain": float(discounted_gains(own).mean()) for name, own in ranks.items()
    }
    if "hybrid" in ranks and selected.mode == "cooccurrence":  # dense weight 0, so equal ranks
        figures = {name: figure for name, figure in figures.items() if "hybrid" not in name}
    parts = [f"gain {figures[f'auto, {selected.mode} gain']:.4f}"] if steps else []
    if "simplest" in ranks:
        parts[0] += f" (simplest values {figures['auto, simplest gain']:.4f})"
    if steps:
        rates = (figures[f"auto, {selected.mode} HR@{k}"] for k in KS)
        parts.append(
            "HR@10 and HR@100 {:.4f} and {:.4f} on {:,} validation cases".format(*rates, cases)
        )
    return ChooseSummary(
        text="; ".join([_describe(selected), ", ".join(parts)]),
        selected=selected,
        trials=[trial for step in steps.values() for trial in step.trials],
        figures=figures,
        cases=cases,
        untried=untried,
    )


def _describe(selected: Selected) -> str:
    """Return a text with the mode and the parameter values that the mode uses."""
    parts = [selected.mode]
    if selected.mode != "dense":
        parts += [f"recency {selected.recency:g}", f"song exponent {selected.song_exponent:g}"]
        parts += [f"{_SHARE}{name} {value:g}" for name, value in selected.content_shares.items()]
    if selected.mode != "cooccurrence":
        parts.append(f"dense recency {selected.dense_recency:g}")
    if selected.mode == "hybrid":
        parts.append(f"dense weight {selected.dense_weight:g}")
    return ", ".join(parts)
