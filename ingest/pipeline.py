"""The whole ingest: files -> rows -> playlists -> splits -> vectors -> a published release."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from catalog.draft import Draft
from catalog.errors import PlaylistError, RejectsError, ReleaseError
from catalog.files import locked
from catalog.manifest import Manifest, Origin, StoredReranker
from catalog.reranker import MOST_FIELDS, load_lightgbm, pack
from ingest.learn.cooccurrence import count_cooccurrence
from ingest.learn.reranker import MODEL, StageFiles, train_reranker
from ingest.learn.selection import Candidates, dense_weights_to_try, select_mode
from ingest.learn.word2vec import describe_rarity, train_word2vec
from ingest.prepare.playlists import Choices, prepare
from ingest.prepare.split import split
from ingest.publish.points import assemble_points
from ingest.sources.columns import has_sessions
from ingest.sources.files import STDIN, find_files
from ingest.sources.options import DEFAULT_OPTIONS
from ingest.sources.payload import index_kind
from ingest.sources.read import read_files
from ingest.sources.standard_input import copy_standard_input
from ingest.stages import Stage, WorkFolder, fingerprint_of, fingerprint_of_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from catalog.progress import Reporter
    from catalog.schema import Kind
    from catalog.store import OpenRelease, ReleaseStore
    from ingest.parameters import Parameters
    from ingest.sources.files import SourceFiles
    from ingest.sources.options import ReadOptions

LARGE = 1 << 29
"""Bytes of files from which on it takes a while to see whether they have changed."""

MAX_REJECTS = 0.05
"""The share of rejected rows beyond which nothing is published."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the current release, and whether this run published it."""

    manifest: Manifest
    published: bool
    stages: dict[str, Stage]


def run(
    files: Sequence[Path],
    columns: Mapping[str, str],
    home: ReleaseStore,
    work: Path,
    parameters: Parameters,
    reporter: Reporter,
    *,
    how: ReadOptions = DEFAULT_OPTIONS,
    told: Collection[str] = (),
    max_rejects: float = MAX_REJECTS,
    validation: Mapping[str, float] | None = None,
    study: Mapping[str, Any] | None = None,
    force: bool = False,
    gate: Callable[[OpenRelease, Path], None] | None = None,
) -> Outcome:
    """Make a release of playlist files and publish it in `home`.

    `STDIN` among `files` stands for standard input. `columns` says which column plays which role,
    where the aliases do not find it; `how`, how the files are read and which columns travel with
    the songs. `told` names the parameters that stay as they are also for playlists without an order
    (see `Parameters.in_order`). More rejected rows than the share `max_rejects` end the run before
    anything is trained. Stages that an earlier run finished in `work` with the same input,
    parameters and code are reused, and a release that would equal the current one is not published
    again, unless `force`. `validation` are figures that the parameters were chosen by, and `study`
    says more of how they were, for the manifest: another study makes another release. `gate` is
    given the new release and `work`, and raises where it must not become current. Whatever goes
    wrong, the current release stays as it was. If no song reaches `min_count`, the release holds
    co-occurrence alone. Raises any `NextsongError` but those of requests.
    """
    if parameters.ranker:
        load_lightgbm()  # fails before hours of work, not after
    with locked(work, "an ingest run"), copy_standard_input(files, work) as copy:
        folder = WorkFolder(work, force=force)
        inputs = find_files(files, copy)
        data = _fingerprint(inputs, inputs.size, reporter)
        read = folder.stage(
            "read",
            {
                "data": data,
                "files": [str(file) for file in inputs.files],
                "columns": dict(columns),
                "how": asdict(how),
            },
            lambda out: _read(inputs, columns, how, out, reporter),
            reporter,
        )
        choices = _choices(read.summary, parameters)
        prepared = folder.stage(
            "prepare",
            {"read": read.fingerprint, **parameters.of_stage("prepare")},
            lambda out: prepare(
                read.folder / "rows.parquet",
                read.folder / "unreadable.parquet",
                out,
                choices,
                reporter,
            ),
            reporter,
        )
        require_few_rejects(prepared, max_rejects)
        parameters = parameters.in_order(prepared.summary["order"]["found"], told)
        splits = folder.stage(
            "split",
            {"prepare": prepared.fingerprint, **parameters.of_stage("split")},
            lambda out: split(
                prepared.folder / "playlists.parquet",
                out,
                parameters.seed,
                parameters.order,
                reporter,
            ),
            reporter,
        )
        counted = folder.stage(
            "count",
            {"split": splits.fingerprint, **parameters.of_stage("count")},
            lambda out: count_cooccurrence(
                splits.folder / "train.parquet", out, parameters, reporter
            ),
            reporter,
        )
        trained = folder.stage(
            "train",
            {"split": splits.fingerprint, **parameters.of_stage("train")},
            lambda out: train_word2vec(splits.folder / "train.parquet", out, parameters, reporter),
            reporter,
        )
        require_something_learned(counted, trained, parameters)
        least = parameters.catalog_min_for(counted.summary["songs"])
        stages = {
            "read": read,
            "prepare": prepared,
            "split": splits,
            "count": counted,
            "train": trained,
        }
        ranked = _ranked(folder, stages, parameters, reporter)
        if ranked:
            stages["rank"] = ranked
        chosen = _chosen(folder, stages, parameters, told, least, reporter)
        stages["choose"] = chosen
        content = fingerprint_of(
            [
                counted.fingerprint,
                trained.fingerprint,
                ranked and ranked.fingerprint,
                chosen.fingerprint,
                *([dict(study)] if study else []),
            ]
        )
        current = _same_as_current(home, content)
        if current is not None and not force:
            reporter.say(f"  publish    release {current.release} holds just this  (unchanged)")
            return Outcome(current, published=False, stages=stages)
        origin = Origin(
            data_fingerprint=data,
            split_fingerprint=splits.fingerprint,
            content_fingerprint=content,
            code_version=version("nextsong"),
            parameters=asdict(parameters)
            | {
                "epochs": trained.summary["epochs"],
                "window": trained.summary["window"],
                "lone_neighbours": counted.summary["lone_neighbours"],
                "catalog_min": least,
                "mode": chosen.summary["mode"],
                "dense_weight": chosen.summary["dense_weight"],
            }
            | ({"study": dict(study)} if study else {}),
            sources=["standard input" if file == STDIN else file.name for file in files],
            track_ids=prepared.summary["track_ids"],
        )
        payload = _kinds(read)
        with assemble_points(stages, work, least, payload) as (songs_path, counts):
            draft = Draft(
                songs_path,
                parameters.dimensions,
                counts,
                origin,
                payload,
                ranker=_stored(ranked),
                validation={
                    **(validation or {}),
                    **_figures(ranked),
                    **chosen.summary["figures"],
                },
            )
            before = (lambda release: gate(release, work)) if gate else None
            manifest = home.publish(draft, reporter, before)
        return Outcome(manifest, published=True, stages=stages)


def _ranked(
    folder: WorkFolder,
    stages: Mapping[str, Stage],
    parameters: Parameters,
    reporter: Reporter,
) -> Stage | None:
    if not parameters.ranker:
        return None
    files = _stage_files(stages)
    return folder.stage(
        "rank",
        {
            "count": stages["count"].fingerprint,
            "train": stages["train"].fingerprint,
            "fields": list(files.fields),
            **parameters.of_stage("query"),
            "seed": parameters.seed,
        },
        lambda out: train_reranker(files, out, parameters, reporter),
        reporter,
    )


def _chosen(
    folder: WorkFolder,
    stages: Mapping[str, Stage],
    parameters: Parameters,
    told: Collection[str],
    least: int,
    reporter: Reporter,
) -> Stage:
    """How the release answers where nothing is asked for; all its query parameters are inputs."""
    ranked = stages.get("rank")
    model = ranked.folder / MODEL if ranked and ranked.summary["better"] else None
    candidates = Candidates(dense_weights_to_try(parameters, told), least, model)
    files = _stage_files(stages)
    return folder.stage(
        "choose",
        {
            "split": stages["split"].fingerprint,
            "count": stages["count"].fingerprint,
            "train": stages["train"].fingerprint,
            "rank": ranked and ranked.fingerprint,
            "weights": list(candidates.dense_weights),
            **parameters.of_stage("query"),
        },
        lambda _: select_mode(files, candidates, parameters, reporter),
        reporter,
    )


def _stage_files(stages: Mapping[str, Stage]) -> StageFiles:
    keywords = [name for name, kind in _kinds(stages["read"]).items() if kind == "keyword"]
    return StageFiles(
        songs=stages["prepare"].folder / "songs.parquet",
        train=stages["split"].folder / "train.parquet",
        validation=stages["split"].folder / "validation.parquet",
        cooccurrence=stages["count"].folder / "cooccurrence.parquet",
        vectors=stages["train"].folder / "vectors.parquet",
        fields=sorted(keywords)[:MOST_FIELDS],
    )


def _kinds(read: Stage) -> dict[str, Kind]:
    """How the engine indexes each payload field."""
    return {name: index_kind(tally["kind"]) for name, tally in read.summary["payload"].items()}


def _stored(ranked: Stage | None) -> StoredReranker | None:
    if ranked is None:
        return None
    return StoredReranker(*pack((ranked.folder / MODEL).read_text(encoding="utf-8")))


def _figures(ranked: Stage | None) -> dict[str, float]:
    summary = ranked.summary if ranked else {}
    return {name: value for name, value in summary.items() if " HR@" in name}


def _fingerprint(inputs: SourceFiles, size: int, reporter: Reporter) -> str:
    if size < LARGE:
        return fingerprint_of_files(inputs.paths)
    with reporter.task("check") as task:
        found = fingerprint_of_files(inputs.paths, lambda done: task.advance(done, size))
        task.result(f"{size / 1e9:,.1f} GB of files, by their content")
    return found


def _read(
    inputs: SourceFiles,
    columns: Mapping[str, str],
    how: ReadOptions,
    folder: Path,
    reporter: Reporter,
) -> dict[str, object]:
    rows, unreadable = folder / "rows.parquet", folder / "unreadable.parquet"
    account = read_files(inputs, columns, rows, unreadable, reporter, how)
    return {"text": f"{account.rows:,} rows, {account.unreadable:,} unreadable"} | asdict(account)


def _choices(read: Mapping[str, Any], parameters: Parameters) -> Choices:
    return Choices(
        **parameters.of_stage("prepare"),
        session_files=[note["file"] for note in read["notes"] if has_sessions(note["columns"])],
        fields=list(read["payload"]),
    )


def require_few_rejects(prepared: Stage, max_rejects: float) -> None:
    """Raise `RejectsError` when more than this share of the rows that were read was rejected."""
    rejected = prepared.summary["rejected"]
    read, lost = prepared.summary["rows"], sum(rejected.values())
    read += prepared.summary["unreadable"]
    if lost > max_rejects * read:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in list(rejected.items())[:4])
        raise RejectsError(
            f"{lost:,} of {read:,} rows ({lost / read:.1%}) were rejected ({reasons}), and at most "
            f"{max_rejects:.1%} may be: look at them in {prepared.folder / 'rejects.parquet'}, "
            f"then mend the file, name its columns with --column, or allow more with --max-rejects"
        )


def require_something_learned(counted: Stage, trained: Stage, parameters: Parameters) -> None:
    """Raise `PlaylistError` when there are neither song vectors nor co-occurrence to publish."""
    if not trained.summary["songs"] and not counted.summary["strengths"]:
        raise PlaylistError(
            f"{describe_rarity(trained.summary['most'], parameters.min_count)}, and no two songs "
            f"co-occur often enough: give more playlists, or lower --min-count or raise --lone-neighbours"
        )


def _same_as_current(home: ReleaseStore, content: str) -> Manifest | None:
    try:
        release = home.current()
        if release is None:
            return None
        manifest = home.manifest(release)
    except ReleaseError:  # all the more reason to publish
        return None
    return manifest if manifest.origin.content_fingerprint == content else None
