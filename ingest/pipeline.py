"""The ingest pipeline: turns files into rows, playlists, splits, vectors and finally a release."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from catalog.content import ARTIST
from catalog.draft import Draft
from catalog.errors import InputError, PlaylistError, RejectsError, ReleaseError
from catalog.files import lock_folder
from catalog.manifest import Manifest, Origin, StoredReranker
from catalog.reranker import load_lightgbm, pack
from ingest import parameters as parameters_module
from ingest.learn import cooccurrence, reranker, selection, word2vec
from ingest.learn.arrays import StageFiles
from ingest.learn.cooccurrence import CountSummary
from ingest.learn.reranker import RankSummary
from ingest.learn.selection import ChooseSummary, SelectionInputs
from ingest.learn.word2vec import TrainSummary, describe_rarity
from ingest.prepare import catalog_songs, playlists, split
from ingest.prepare.catalog_songs import CatalogOptions, CatalogSummary
from ingest.prepare.playlists import PrepareSummary, prepare_options
from ingest.prepare.split import SplitSummary
from ingest.publish.points import PointOptions, assemble_points
from ingest.sources import read as read_module
from ingest.sources.account import ReadAccount
from ingest.sources.catalog_files import CatalogFiles, divide_payload
from ingest.sources.files.find import STDIN, find_files
from ingest.sources.files.standard_input import copy_standard_input
from ingest.sources.options import COLUMN_FLAG, ReadOptions
from ingest.sources.options import DEFAULT_OPTIONS as DEFAULT_READ_OPTIONS
from ingest.sources.read import read_files
from ingest.sources.values.payload import index_kind
from ingest.stages import (
    Stage,
    StageDefinition,
    WorkFolder,
    fingerprint_of,
    fingerprint_of_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.schema import Kind
    from catalog.store import OpenRelease, ReleaseStore
    from ingest.learn.descent import Trial
    from ingest.parameters import Parameters
    from ingest.sources.files.find import SourceFiles
    from ingest.sources.values.payload import PayloadTally

    Gate = Callable[[OpenRelease, Path], None]

LARGE_INPUT = 1 << 29
"""Minimum size of the input in bytes for showing progress while files are fingerprinted."""

MAX_REJECTS = 0.05
"""Default maximum share of rejected rows. If it is exceeded, a run ends with an error."""


@dataclass(frozen=True, kw_only=True)
class ReadSummary(ReadAccount):
    """Result of the `read` stage. `text` is a one-line summary for display."""

    text: str


READ = StageDefinition("read", ReadSummary, (read_module,))
PREPARE = StageDefinition("prepare", PrepareSummary, (playlists, parameters_module))
CATALOG = StageDefinition(
    catalog_songs.STAGE, CatalogSummary, (catalog_songs, read_module, parameters_module)
)
SPLIT = StageDefinition("split", SplitSummary, (split,))
COUNT = StageDefinition("count", CountSummary, (cooccurrence, parameters_module))
TRAIN = StageDefinition("train", TrainSummary, (word2vec, parameters_module))
RANK = StageDefinition("rank", RankSummary, (reranker, parameters_module))
CHOOSE = StageDefinition("choose", ChooseSummary, (selection, parameters_module))


@dataclass(frozen=True)
class SourceStages:
    """The finished stages that read the files. `catalog` is None if there are no catalog files."""

    read: Stage[ReadSummary]
    prepare: Stage[PrepareSummary]
    catalog: Stage[CatalogSummary] | None

    @property
    def songs(self) -> Path:
        """Path of the file that lists all songs, both from playlists and from catalog files."""
        return (self.catalog or self.prepare).folder / "songs.parquet"

    @property
    def payload(self) -> dict[str, PayloadTally]:
        """The counts of values for each payload field.

        They are from the playlist files if these have the field, else from the catalog files.
        """
        listed = self.catalog.summary.read.payload if self.catalog else {}
        return {**listed, **self.read.summary.payload}


@dataclass(frozen=True)
class Stages(SourceStages):
    """The finished stages of a run, in order.

    `rank` is None if the parameters do not allow a re-ranker.
    """

    split: Stage[SplitSummary]
    count: Stage[CountSummary]
    train: Stage[TrainSummary]
    choose: Stage[ChooseSummary]
    rank: Stage[RankSummary] | None
    files: StageFiles

    @property
    def trials(self) -> list[Trial]:
        """All values of parameters that were tried on validation cases, in order."""
        return [*self.choose.summary.trials, *(self.rank.summary.trials if self.rank else [])]

    def items(self) -> Iterator[tuple[str, Stage[Any]]]:
        """Yield the name of each stage, and the stage."""
        yield from ((name, stage) for name, stage in vars(self).items() if isinstance(stage, Stage))


@dataclass(frozen=True)
class Outcome:
    """The result of a run: the current release, whether this run published it, and the stages."""

    manifest: Manifest
    published: bool
    stages: Stages


@dataclass(frozen=True)
class RunOptions:
    """Options of a run, in addition to the release parameters.

    - `columns`: column names by role, for columns whose roles are not clear from their names.
    - `reading`: options for reading the files, including the payload columns.
    - `catalog`: catalog files. Songs in them are part of the release even if no playlist contains
      them. Their formats are detected.
    - `catalog_columns`: column names by role for the catalog files.
    - `given`: names of the parameters that the user has set. Their values are never replaced (see
      `Parameters.with_order` and `Parameters.fixed`).
    - `max_rejects`: maximum share of rejected rows; if it is exceeded, the run ends before
      training.
    - `validation`, `study`: if `nextsong tune` chose the parameters, their metric values on
      validation cases, and a description of the tuning study. Both are stored in the manifest. If
      `study` changes, the run publishes a new release.
    - `force`: repeat every stage, and publish even if the new release equals the current release.
    - `gate`: called with the new release and the work folder. It raises an error if the release
      must not become current.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    reading: ReadOptions = DEFAULT_READ_OPTIONS
    catalog: Sequence[Path] = ()
    catalog_columns: Mapping[str, str] = field(default_factory=dict)
    given: Collection[str] = ()
    max_rejects: float = MAX_REJECTS
    validation: Mapping[str, float] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False
    gate: Gate | None = None


DEFAULT_OPTIONS = RunOptions()


def run(
    files: Sequence[Path],
    store: ReleaseStore,
    work: Path,
    parameters: Parameters,
    reporter: Reporter,
    options: RunOptions = DEFAULT_OPTIONS,
) -> Outcome:
    """Make a release from playlist files and publish it in `store`.

    `files` may contain `STDIN`, which stands for standard input. Stages that an earlier run
    finished in `work` are reused if their input, parameters and code are unchanged. If the new
    release would equal the current release, nothing is published. If no song is in `min_count`
    training playlists, the release has no dense vectors. After an error, the current release is
    unchanged. Raises any `NextsongError` except errors about requests.
    """
    if parameters.needs_ranker:
        load_lightgbm()  # if LightGBM is not installed, fail now instead of after hours of work
    with lock_folder(work, "an ingest run"), copy_standard_input(files, work) as copy:
        folder = WorkFolder(work, reporter, force=options.force)
        sources = _prepare_sources(folder, find_files(files, copy), parameters, options, reporter)
        parameters = parameters.with_order(sources.prepare.summary.order.found, options.given)
        stages = _learn(folder, sources, parameters, options.given, reporter)
        content = _fingerprint_content(stages, options.study)
        if not options.force:
            current = _current_with(store, content)
            if current is not None:
                reporter.say(
                    f"  {'publish':<10} release {current.release} has the same content  (unchanged)"
                )
                return Outcome(current, published=False, stages=stages)
        names = ["standard input" if file == STDIN else file.name for file in files]
        origin = _describe_origin(stages, parameters, content, names, options.study)
        manifest = _publish(store, stages, origin, work, reporter, options)
        return Outcome(manifest, published=True, stages=stages)


def _prepare_sources(
    folder: WorkFolder,
    inputs: SourceFiles,
    parameters: Parameters,
    options: RunOptions,
    reporter: Reporter,
) -> SourceStages:
    """Run the stages that read the playlist files and the catalog files."""
    catalog_files = None
    if options.catalog:
        reading, catalog_files = divide_payload(
            inputs,
            find_files(options.catalog),
            options.columns,
            options.catalog_columns,
            options.reading,
        )
        options = replace(options, reading=reading)
    read = _read(folder, inputs, options, reporter)
    if catalog_files is None:
        require_known_shares(read.summary.payload, parameters)
    prepared = _prepare(folder, read, parameters, reporter)
    require_few_rejects(prepared, options.max_rejects)
    if catalog_files is None:
        folder.remove_stage(CATALOG)
        return SourceStages(read, prepared, None)
    catalog_files = catalog_files.with_kinds(read.summary.payload)
    listed = _add_catalog(folder, catalog_files, SourceStages(read, prepared, None), reporter)
    require_few_rejects(listed, options.max_rejects, "--catalog-column")
    sources = SourceStages(read, prepared, listed)
    require_known_shares(sources.payload, parameters)
    return sources


def _read(
    folder: WorkFolder, inputs: SourceFiles, options: RunOptions, reporter: Reporter
) -> Stage[ReadSummary]:
    def build(out: Path) -> ReadSummary:
        rows, unreadable = out / "rows.parquet", out / "unreadable.parquet"
        account = read_files(inputs, options.columns, rows, unreadable, reporter, options.reading)
        text = f"{account.rows:,} rows, {account.unreadable:,} unreadable"
        return ReadSummary(**vars(account), text=text)

    values = {
        "data": _fingerprint_input(inputs, inputs.size, reporter),
        "files": [str(file) for file in inputs.files],
        "columns": dict(options.columns),
        "how": asdict(options.reading),
    }
    return folder.run_stage(READ, values, build)


def _fingerprint_input(inputs: SourceFiles, size: int, reporter: Reporter) -> str:
    if size < LARGE_INPUT:
        return fingerprint_of_files(inputs.paths)
    with reporter.task("check") as task:
        fingerprint = fingerprint_of_files(inputs.paths, lambda done: task.advance(done, size))
        task.result(f"{size / 1e9:,.1f} GB of files, by their content")
    return fingerprint


def _prepare(
    folder: WorkFolder, read: Stage[ReadSummary], parameters: Parameters, reporter: Reporter
) -> Stage[PrepareSummary]:
    options = prepare_options(read.summary, parameters)
    return folder.run_stage(
        PREPARE,
        {"read": read.fingerprint, **parameters.of_stage("prepare")},
        lambda out: playlists.prepare(
            read.folder / "rows.parquet", read.folder / "unreadable.parquet", out, options, reporter
        ),
    )


def _add_catalog(
    folder: WorkFolder, files: CatalogFiles, sources: SourceStages, reporter: Reporter
) -> Stage[CatalogSummary]:
    prepared = sources.prepare
    options = CatalogOptions(
        merge_versions=prepared.summary.versions.merged,
        track_ids=prepared.summary.track_ids,
        fields=list(sources.payload),
    )

    def build(out: Path) -> CatalogSummary:
        rows, unreadable = out / "rows.parquet", out / "unreadable.parquet"
        read = read_files(files.inputs, files.columns, rows, unreadable, reporter, files.reading)
        songs = prepared.folder / "songs.parquet"
        return catalog_songs.add_catalog_songs(songs, out, read, options, reporter)

    values = {
        "prepare": prepared.fingerprint,
        "data": _fingerprint_input(files.inputs, files.inputs.size, reporter),
        "files": [str(file) for file in files.inputs.files],
        "columns": dict(files.columns),
        "how": asdict(files.reading),
    }
    return folder.run_stage(CATALOG, values, build)


def _learn(
    folder: WorkFolder,
    sources: SourceStages,
    parameters: Parameters,
    given: Collection[str],
    reporter: Reporter,
) -> Stages:
    """Run the stages that split the playlists, learn from them, and select mode and parameters."""
    prepared = sources.prepare
    splits = folder.run_stage(
        SPLIT,
        {"prepare": prepared.fingerprint, **parameters.of_stage("split")},
        lambda out: split.split(
            prepared.folder / "playlists.parquet", out, parameters.seed, parameters.order, reporter
        ),
    )
    train = splits.folder / "train.parquet"
    counted = folder.run_stage(
        COUNT,
        {"split": splits.fingerprint, **parameters.of_stage("count")},
        lambda out: cooccurrence.count_cooccurrence(train, out, parameters, reporter),
    )
    trained = folder.run_stage(
        TRAIN,
        {"split": splits.fingerprint, **parameters.of_stage("train")},
        lambda out: word2vec.train_word2vec(train, out, parameters, reporter),
    )
    require_something_learned(counted.summary, trained.summary, parameters)
    files = StageFiles(
        songs=sources.songs,
        train=train,
        validation=splits.folder / "validation.parquet",
        cooccurrence=counted.folder / "cooccurrence.parquet",
        vectors=trained.folder / "vectors.parquet",
        fields=_keyword_fields(sources.payload),
    )
    inputs = {"count": counted.fingerprint, "train": trained.fingerprint}
    selection_inputs = SelectionInputs(
        parameters,
        parameters.fixed(given),
        counted.summary.scale,
        parameters.catalog_min_for(counted.summary.songs),
    )
    chosen = _choose(
        folder,
        files,
        {"split": splits.fingerprint, **inputs},
        sources.catalog,
        selection_inputs,
        reporter,
    )
    ranked = _rank(folder, files, inputs, chosen, selection_inputs, reporter)
    return Stages(
        sources.read,
        prepared,
        sources.catalog,
        splits,
        counted,
        trained,
        chosen,
        ranked,
        files,
    )


def _choose(
    folder: WorkFolder,
    files: StageFiles,
    inputs: Mapping[str, str],
    catalog: Stage[CatalogSummary] | None,
    selection_inputs: SelectionInputs,
    reporter: Reporter,
) -> Stage[ChooseSummary]:
    """Run the stage that selects mode and parameters on validation cases."""
    values = {
        **inputs,
        "fixed": sorted(selection_inputs.fixed),
        "fields": list(files.fields),
        **selection_inputs.parameters.of_stage("query"),
    }
    # Selection reads only the keyword fields of catalog files. Without such fields, a changed
    # catalog file does not repeat the stage.
    if catalog and files.fields:
        values["catalog"] = catalog.fingerprint
    return folder.run_stage(
        CHOOSE, values, lambda _: selection.select_parameters(files, selection_inputs, reporter)
    )


def _rank(
    folder: WorkFolder,
    files: StageFiles,
    inputs: Mapping[str, str],
    chosen: Stage[ChooseSummary],
    selection_inputs: SelectionInputs,
    reporter: Reporter,
) -> Stage[RankSummary] | None:
    parameters = selection_inputs.parameters
    if not parameters.allows_ranker:
        return None
    selected = replace(
        parameters,
        ranker=parameters.needs_ranker or None,
        **chosen.summary.selected.to_parameters(),
    )
    rank_inputs = replace(selection_inputs, parameters=selected)
    return folder.run_stage(
        RANK,
        {
            **inputs,
            "choose": chosen.fingerprint,
            "seed": parameters.seed,
            **parameters.of_stage("rank"),
        },
        lambda out: reranker.train_reranker(files, out, rank_inputs, parameters.mode, reporter),
    )


def _payload_kinds(payload: Mapping[str, PayloadTally]) -> dict[str, Kind]:
    """Return the kind of Qdrant payload index for each payload field."""
    return {name: index_kind(tally.kind) for name, tally in payload.items()}


def _keyword_fields(payload: Mapping[str, PayloadTally]) -> list[str]:
    """Return the names of the payload fields that are content fields."""
    return sorted(name for name, kind in _payload_kinds(payload).items() if kind == "keyword")


def require_known_shares(payload: Mapping[str, PayloadTally], parameters: Parameters) -> None:
    """Raise `InputError` if a content share is given for a field that is not a content field."""
    fields = (ARTIST, *_keyword_fields(payload))
    for name in parameters.content_shares:
        if name not in fields:
            raise InputError(
                f"there is no keyword field '{name}' for its content share: the fields are "
                f"{', '.join(fields)}; add one with --payload {name}:keyword"
            )


def require_few_rejects(
    stage: Stage[PrepareSummary] | Stage[CatalogSummary],
    max_rejects: float,
    column_flag: str = COLUMN_FLAG,
) -> None:
    """Raise `RejectsError` if the share of rejected rows exceeds `max_rejects`."""
    summary = stage.summary
    rejected = sum(summary.rejected.values())
    total = summary.rows + summary.unreadable
    if rejected > max_rejects * total:
        counts = list(summary.rejected.items())[:4]
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts)
        raise RejectsError(
            f"{rejected:,} of {total:,} rows ({rejected / total:.1%}) were rejected ({reasons}); "
            f"the limit is {max_rejects:.1%}: look at the rejected rows in "
            f"{stage.folder / 'rejects.parquet'}, then repair the file, name its columns with "
            f"{column_flag}, or raise the limit with --max-rejects"
        )


def require_something_learned(
    counted: CountSummary, trained: TrainSummary, parameters: Parameters
) -> None:
    """Raise `PlaylistError` if there are neither song vectors nor co-occurrence weights."""
    if not trained.songs and not counted.strengths:
        raise PlaylistError(
            f"{describe_rarity(trained.most, parameters.min_count)}, and no two songs co-occur "
            f"often enough: give more playlists, or lower --min-count or raise --lone-neighbours"
        )


def _fingerprint_content(stages: Stages, study: Mapping[str, Any]) -> str:
    """Return the fingerprint of all inputs, parameters and code that determine the release."""
    return fingerprint_of(
        [
            stages.count.fingerprint,
            stages.train.fingerprint,
            stages.rank and stages.rank.fingerprint,
            stages.choose.fingerprint,
            *([stages.catalog.fingerprint] if stages.catalog else []),
            *([dict(study)] if study else []),
        ]
    )


def _current_with(store: ReleaseStore, content: str) -> Manifest | None:
    """Return the current release's manifest if its content fingerprint is `content`, else None."""
    try:
        release = store.current()
        if release is None:
            return None
        manifest = store.manifest(release)
    except ReleaseError:  # the current release is damaged, so publish a new release
        return None
    return manifest if manifest.origin.content_fingerprint == content else None


def _describe_origin(
    stages: Stages,
    parameters: Parameters,
    content: str,
    sources: list[str],
    study: Mapping[str, Any],
) -> Origin:
    counted, trained, chosen = stages.count.summary, stages.train.summary, stages.choose.summary
    effective = {
        "epochs": trained.epochs,
        "window": trained.window,
        "lone_neighbours": counted.lone_neighbours,
        "catalog_min": parameters.catalog_min_for(counted.songs),
        "cooccurrence_scale": counted.scale,
        **chosen.selected.to_parameters(),
        "mode": _select_mode(stages),
        "selection": [asdict(trial) for trial in stages.trials],
    }
    return Origin(
        data_fingerprint=stages.read.inputs["data"],
        split_fingerprint=stages.split.fingerprint,
        content_fingerprint=content,
        code_version=version("nextsong"),
        parameters=asdict(parameters) | effective | ({"study": dict(study)} if study else {}),
        sources=sources,
        track_ids=stages.prepare.summary.track_ids,
    )


def _select_mode(stages: Stages) -> str:
    """Return the default mode: "ranked" if the re-ranker is used, else the selected mode."""
    if stages.rank is not None and stages.rank.summary.is_used:
        return "ranked"
    return stages.choose.summary.selected.mode


def _publish(
    store: ReleaseStore,
    stages: Stages,
    origin: Origin,
    work: Path,
    reporter: Reporter,
    options: RunOptions,
) -> Manifest:
    payload = _payload_kinds(stages.payload)
    catalog_min = origin.parameters["catalog_min"]
    gate = options.gate
    chosen = PointOptions(
        catalog_min=catalog_min,
        payload=payload,
        song_exponent=origin.parameters["song_exponent"],
        scale=origin.parameters["cooccurrence_scale"],
        with_new_songs=stages.catalog is not None,
    )
    with assemble_points(stages.files, work, chosen) as points:
        counted = {"collided_keys": points.collided_keys}
        if stages.catalog:
            counted["new_songs"] = points.new_songs
        draft = Draft(
            points.path,
            origin.parameters["dimensions"],
            points.counts,
            replace(origin, parameters=origin.parameters | counted),
            payload,
            ranker=_pack_reranker(stages.rank, origin.parameters),
            validation={
                **options.validation,
                **(stages.rank.summary.figures if stages.rank else {}),
                **stages.choose.summary.figures,
            },
        )
        before = (lambda release: gate(release, work)) if gate else None
        return store.publish(draft, reporter, before)


def _pack_reranker(
    ranked: Stage[RankSummary] | None, parameters: Mapping[str, Any]
) -> StoredReranker | None:
    """Return the re-ranker to publish, or None.

    The result is None if no re-ranker was trained, or if the trained re-ranker is neither used by
    default nor requested with --ranker.
    """
    is_kept = parameters["mode"] == "ranked" or parameters["ranker"]
    if ranked is None or not ranked.summary.examples or not is_kept:
        return None
    return StoredReranker(*pack((ranked.folder / reranker.MODEL).read_text(encoding="utf-8")))
