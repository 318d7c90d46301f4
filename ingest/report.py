"""Reports on a run, as text or JSON: files, rows used and rejected, playlists, and the release."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from catalog.console.terminal import one_line
from catalog.errors import MismatchError
from ingest.learn.cooccurrence import CountSummary
from ingest.learn.reranker import RankSummary
from ingest.learn.selection import ChooseSummary
from ingest.learn.word2vec import TrainSummary, describe_rarity
from ingest.pipeline import ReadSummary
from ingest.prepare.catalog_songs import STAGE, CatalogSummary
from ingest.prepare.playlists import PrepareSummary
from ingest.prepare.split import COVERAGES, SplitSummary
from ingest.sources.account import count_left_out
from ingest.sources.columns.roles import (
    ALL_ROLES,
    SONG_ROLES,
    THIS_FILE,
    column_option,
    has_sessions,
)
from ingest.sql import connect, literal
from ingest.stages import find_stage, finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.manifest import Manifest
    from ingest.learn.descent import Trial
    from ingest.pipeline import Outcome, Stages
    from ingest.sources.account import ReadAccount
    from ingest.stages import Stage

_MAX_FILES = 8  # maximum number of files that are listed one per line
_MAX_NAMES = 5  # maximum number of file names in a line
_MAX_EXAMPLES = 2  # maximum number of examples per reason for rejection, and of versions

Line = tuple[str, str]
"""A line of the report: heading and text."""


@dataclass(frozen=True)
class LastRun:
    """The finished stages of the last run. A stage that the run did not finish is None."""

    read: Stage[ReadSummary]
    prepare: Stage[PrepareSummary]
    catalog: Stage[CatalogSummary] | None = None
    split: Stage[SplitSummary] | None = None
    count: Stage[CountSummary] | None = None
    train: Stage[TrainSummary] | None = None
    choose: Stage[ChooseSummary] | None = None
    rank: Stage[RankSummary] | None = None


def load_last_run(work: Path) -> LastRun:
    """Return the finished stages of the last run in a work folder.

    Raises `MismatchError` if the last run did not finish the `prepare` stage, or used another
    version of nextsong.
    """
    read = finished_stage(work, "read", ReadSummary)
    prepare = finished_stage(work, "prepare", PrepareSummary)
    if prepare.inputs.get("read") != read.fingerprint:
        raise MismatchError(
            f"{work} holds no finished 'prepare' of the files that were read last: run `nextsong "
            f"ingest run FILE` again"
        )
    catalog = find_stage(work, STAGE, CatalogSummary)
    if catalog and catalog.inputs.get("prepare") != prepare.fingerprint:
        catalog = None
    split = find_stage(work, "split", SplitSummary)
    if split is None or split.inputs.get("prepare") != prepare.fingerprint:
        return LastRun(read, prepare, catalog)
    count = find_stage(work, "count", CountSummary)
    train = find_stage(work, "train", TrainSummary)
    choose = find_stage(work, "choose", ChooseSummary)
    if choose and choose.inputs.get("split") != split.fingerprint:
        choose = None
    rank = find_stage(work, "rank", RankSummary)
    return LastRun(
        read,
        prepare,
        catalog,
        split,
        count if count and count.inputs.get("split") == split.fingerprint else None,
        train if train and train.inputs.get("split") == split.fingerprint else None,
        choose,
        rank if rank and choose and rank.inputs.get("choose") == choose.fingerprint else None,
    )


def run_record(outcome: Outcome) -> dict[str, Any]:
    """Return a description of a run for the run log, as JSON values."""
    manifest = outcome.manifest
    return {
        "release": manifest.release,
        "published": outcome.published,
        "sources": manifest.origin.sources,
        "data_fingerprint": manifest.origin.data_fingerprint,
        "split_fingerprint": manifest.origin.split_fingerprint,
        "code_version": manifest.origin.code_version,
        "parameters": manifest.origin.parameters,
        "counts": asdict(manifest.counts),
        "recall": manifest.recall,
        "stages": {name: stage.summary.text for name, stage in outcome.stages.items()},
    }


def describe_run(outcome: Outcome) -> str:
    """Return a short report on a run as text."""
    stages = outcome.stages
    state = "is now current" if outcome.published else "was current already"
    lines = [
        *_remarks(stages.read.summary),
        *_empty_files(stages.read.summary),
        *_rows(stages),
        *_catalog_rows(stages.catalog),
        *_playlists(stages.prepare),
        *_findings(stages),
        ("split", stages.split.summary.text),
        ("catalog", _describe_catalog(outcome.manifest)),
        *_missing(stages.train),
        ("release", f"{outcome.manifest.release} {state}"),
    ]
    return _format(lines)


def describe_last_run(stages: LastRun) -> str:
    """Return the full report on the last run as text, with details of files and rejected rows."""
    prepared = stages.prepare.summary
    lines = [
        *_files(stages.read.summary),
        *_rows(stages),
        *_examples(stages.prepare),
        *_payload(stages.read.summary),
        *_catalog_files(stages.catalog),
        *_playlists(stages.prepare),
        ("songs", _describe_songs(prepared.songs, prepared.artists)),
        *_findings(stages),
    ]
    if stages.split:
        lines += [("split", stages.split.summary.text), *_labels(stages.split.summary)]
    for name in ("count", "train", "choose"):
        stage = getattr(stages, name)
        if stage:
            lines.append((name, stage.summary.text))
    if stages.choose:
        lines += _trials(stages.choose.summary.trials)
        for name in stages.choose.summary.untried:
            lines.append(("  untried", f"{name}: too many songs share a value"))
    if stages.rank:
        lines.append(("rank", stages.rank.summary.text))
        lines += _trials(stages.rank.summary.trials)
    if stages.train:
        lines += _missing(stages.train)
    return _format(lines)


def as_json(stages: LastRun) -> dict[str, Any]:
    """Return the report as JSON: stage summaries by name, and the paths of the files of rejects."""
    folder = stages.prepare.folder
    paths = {
        "rejects": str(folder / "rejects.parquet"),
        "short_playlists": str(folder / "short_playlists.parquet"),
    }
    if stages.catalog:
        paths["catalog_rejects"] = str(stages.catalog.folder / "rejects.parquet")
    return {name: asdict(stage.summary) for name, stage in vars(stages).items() if stage} | paths


def _format(lines: Sequence[Line]) -> str:
    width = max(10, *(len(name) for name, _ in lines))
    return "\n".join(f"{name:<{width}} {one_line(text)}" for name, text in lines)


def _files(
    read: ReadAccount, heading: str = "file", roles: Sequence[str] = ALL_ROLES
) -> Iterator[Line]:
    """Yield lines about the files. `roles` are the roles whose columns are shown."""
    for note in read.notes[:_MAX_FILES]:
        columns = ", ".join(
            f"{role}={name}" if role != name else role
            for role, name in note.columns.items()
            if role in roles
        )
        rows = f"{note.rows:,} rows, {note.unreadable:,} unreadable"
        if note.left_out:
            rows += f", {sum(note.left_out.values()):,} left out"
        yield heading, f"{note.file}: {note.kind}; {rows}; {columns}"
        for remark in note.remarks:
            yield "  note", remark
    if len(read.notes) > _MAX_FILES:
        others = read.notes[_MAX_FILES:]
        rows = f"{sum(note.rows for note in others):,} rows"
        unreadable = f"{sum(note.unreadable for note in others):,} unreadable"
        kinds = "; ".join(dict.fromkeys(note.kind for note in others))
        yield heading, f"and {len(others):,} more ({kinds}): {rows}, {unreadable}"
    if read.passed_over:
        files = "file" if len(read.passed_over) == 1 else "files"
        names = _shorten(read.passed_over)
        yield "not read", f"{len(read.passed_over):,} {files} of other formats: {names}"
    yield from _empty_files(read)


def _empty_files(read: ReadAccount) -> Iterator[Line]:
    if read.empty:
        files = "file was" if len(read.empty) == 1 else "files were"
        yield "empty", f"{len(read.empty):,} {files} skipped: {_shorten(read.empty, '; ')}"


def _shorten(names: Sequence[str], between: str = ", ") -> str:
    return between.join([*names[:_MAX_NAMES], *(["..."] if len(names) > _MAX_NAMES else [])])


def _remarks(read: ReadAccount) -> Iterator[Line]:
    """Yield a line for each distinct remark, with the names of the files to which it applies."""
    files_of: dict[str, list[str]] = {}
    for note in read.notes:
        for remark in note.remarks:
            files_of.setdefault(remark, []).append(note.file)
    for remark, files in list(files_of.items())[:_MAX_FILES]:
        yield "note", f"{_shorten(files)}: {remark}"


def _rows(stages: Stages | LastRun) -> Iterator[Line]:
    prepared, read = stages.prepare.summary, stages.read.summary
    left_out = count_left_out(read)
    yield "rows", _sum_rows(prepared.used, prepared.rejected, left_out)
    if left_out:
        yield "left out", ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    yield from _rejected(stages.prepare)
    yield from _wrong_values(read)


def _catalog_rows(catalog: Stage[CatalogSummary] | None) -> Iterator[Line]:
    """Yield lines about the rows of catalog files, rejected rows, wrong values and new songs."""
    if not catalog:
        return
    summary = catalog.summary
    yield "listed", _sum_rows(summary.used, summary.rejected, {})
    yield from _rejected(catalog)
    yield from _wrong_values(summary.read)
    yield "new songs", summary.text.partition("; ")[0]
    if summary.described:
        text = f"{summary.described:,} songs of playlists got values that playlist files lack"
        yield "payload", text


def _sum_rows(used: int, rejected: Mapping[str, int], left_out: Mapping[str, int]) -> str:
    total = used + sum(rejected.values()) + sum(left_out.values())
    text = f"{total:,} read = {used:,} used + {sum(rejected.values()):,} rejected"
    return f"{text} + {sum(left_out.values()):,} left out" if left_out else text


def _rejected(stage: Stage[PrepareSummary] | Stage[CatalogSummary]) -> Iterator[Line]:
    if rejected := stage.summary.rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.items())
        yield "rejected", f"{reasons}: {stage.folder / 'rejects.parquet'}"


def _wrong_values(read: ReadAccount) -> Iterator[Line]:
    for name, tally in read.payload.items():
        if tally.wrong:
            examples = ", ".join(tally.examples)
            yield (
                "payload",
                (
                    f"{name}: {tally.wrong:,} values that are not of kind {tally.kind} were left "
                    f"out: {examples}"
                ),
            )


def _catalog_files(catalog: Stage[CatalogSummary] | None) -> Iterator[Line]:
    """Yield lines about catalog files and their rows, with examples of rejected rows."""
    if catalog:
        yield from _files(catalog.summary.read, "catalog", SONG_ROLES)
        yield from _catalog_rows(catalog)
        yield from _examples(catalog)
        yield from _payload(catalog.summary.read)


def _examples(stage: Stage[PrepareSummary] | Stage[CatalogSummary]) -> Iterator[Line]:
    if not stage.summary.rejected:
        return
    query = (
        "SELECT split_part(reason, ':', 1) AS kind, reason, file, line, text[:60] "
        f"FROM read_parquet({literal(stage.folder / 'rejects.parquet')}) "
        f"QUALIFY row_number() OVER (PARTITION BY kind ORDER BY file, line) <= {_MAX_EXAMPLES} "
        "ORDER BY kind, file, line"
    )
    with connect(stage.folder) as sql:
        rejects = sql.sql(query).fetchall()
    for _, reason, file, line, text in rejects:
        yield "  example", f"{file}, line {line}: {reason}: {text!r}"


def _payload(read: ReadAccount) -> Iterator[Line]:
    for name, tally in read.payload.items():
        yield (
            "payload",
            (
                f"{name} ({tally.kind}): {tally.filled:,} rows with a value, "
                f"{tally.empty:,} without a value, {tally.wrong:,} with a value of another kind"
            ),
        )


def _playlists(prepare: Stage[PrepareSummary]) -> Iterator[Line]:
    prepared = prepare.summary
    text = f"{prepared.playlists:,} kept"
    if prepared.short_playlists:
        text += (
            f", {prepared.short_playlists:,} too short, with {prepared.short_rows:,} of the "
            f"rows used: {prepare.folder / 'short_playlists.parquet'}"
        )
    yield "playlists", text


def _describe_catalog(manifest: Manifest) -> str:
    counts, new = manifest.counts, manifest.origin.parameters.get("new_songs")
    text = _describe_songs(counts.songs, counts.artists)
    if new is not None:
        text += f" ({new:,} of them from catalog files alone)"
    return f"{text}, {counts.vectors:,} with a vector and {counts.predicted:,} with co-occurrence"


def _describe_songs(songs: int, artists: int) -> str:
    return f"{songs:,} songs" + (f" of {artists:,} artists" if artists else "")


def _findings(stages: Stages | LastRun) -> Iterator[Line]:
    """Yield lines about properties of the data that may be unexpected."""
    prepared = stages.prepare.summary
    yield "order", _describe_order(prepared, stages.split.summary.order if stages.split else None)
    if prepared.sessions:
        text = "the files have no playlists, so the plays of each listener are cut at pauses"
        for unit, files in prepared.units.items():
            text += f"; times in {unit}: {_shorten(files)}"
        owners = dict.fromkeys(
            note.columns["owner"]
            for note in stages.read.summary.notes
            if has_sessions(note.columns) and note.columns["owner"] != THIS_FILE
        )
        for owner in owners:
            option = column_option("playlist_id", owner)
            text += f"; for one playlist of all plays of a listener, say {option}"
        yield "sessions", text
    if prepared.repeats:
        yield (
            "repeats",
            f"{prepared.repeats:,} rows repeat a song of their playlist; only the first is used",
        )
    if prepared.versions.songs:
        yield "versions", _describe_versions(prepared)
    if prepared.credits.credits:
        yield "credits", _describe_credits(prepared)
    for count, name, text in (
        (prepared.same_names, "same names", "have the owner and the name of another playlist"),
        (prepared.merged_blanks, "merged", "were merged: their names differ only in blanks"),
        (prepared.merged_files, "merged", "have rows in several files"),
        (prepared.same_songs, "same songs", "have the same songs in the same order as another"),
    ):
        if count:
            yield name, f"{count:,} playlists {text}"


def _describe_order(prepared: PrepareSummary, used: str | None) -> str:
    measured, text = prepared.order.found, prepared.order.text
    used = used or measured
    if used == "none":
        text += "; playlists are shuffled, and distance and direction are ignored"
    elif not text.endswith("taken as played"):
        text += "; taken as the order of playing"
    return text if used == measured else f"{text} (--order {used})"


def _describe_versions(prepared: PrepareSummary) -> str:
    versions = prepared.versions
    examples = "; ".join(
        f"{example.artist}: {' | '.join(example.titles)}"
        for example in versions.examples[:_MAX_EXAMPLES]
    )
    state = "merged" if versions.merged else "kept as separate songs (see --merge-versions)"
    return f"{versions.songs:,} songs have {versions.more:,} other versions, {state}: {examples}"


def _describe_credits(prepared: PrepareSummary) -> str:
    split = prepared.credits
    examples = "; ".join(
        f"{example.credit}: {' | '.join(example.artists)}"
        for example in split.examples[:_MAX_EXAMPLES]
    )
    return f"{split.credits:,} credits, of {split.songs:,} songs, name several artists: {examples}"


def _missing(train: Stage[TrainSummary]) -> Iterator[Line]:
    """Yield a line with the reason and a remedy if the release has no song vectors."""
    summary = train.summary
    if not summary.songs:
        reason = describe_rarity(summary.most, train.inputs["min_count"])
        yield (
            "missing",
            (
                f"song vectors, because {reason}: every mode uses co-occurrence alone; "
                f"add playlists, or use --min-count {summary.most}"
            ),
        )


def _trials(all_trials: Sequence[Trial]) -> Iterator[Line]:
    """Yield one line per parameter, with the gain of each value that the selection tried."""
    by_parameter: dict[str, list[Trial]] = {}
    for trial in all_trials:
        by_parameter.setdefault(trial.parameter, []).append(trial)
    for name, trials in by_parameter.items():
        gains = ", ".join(
            f"{trial.value:g}{'*' if trial.is_selected else ''} {trial.gain:.4f}"
            for trial in trials
        )
        yield "  tried", f"{name.replace('_', ' ')}, gain of each value (*: selected): {gains}"


def _labels(split: SplitSummary) -> Iterator[Line]:
    for name, shares in split.label_coverage.items():
        parts = [
            f"{share:.1%} in {least} or more"
            for least in COVERAGES
            if (share := shares[str(least)]) is not None
        ]
        if parts:
            yield name, f"labels in training playlists: {', '.join(parts)}"
