"""The account of a run, for people: what came in, what was used, what came out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from catalog.errors import MismatchError
from catalog.terminal import one_line
from ingest.learn.word2vec import describe_rarity
from ingest.prepare.split import COVERAGES
from ingest.sql import connect, literal
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ingest.pipeline import Outcome
    from ingest.stages import Stage

_STAGES = {
    "prepare": "read",
    "split": "prepare",
    "count": "split",
    "train": "split",
    "choose": "split",
}
_FILES = 8
_EXAMPLES = 2

Line = tuple[str, str]


def payload(outcome: Outcome) -> dict[str, Any]:
    """What the log of runs keeps of a run, as JSON values."""
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
        "stages": {name: stage.summary["text"] for name, stage in outcome.stages.items()},
    }


def of(outcome: Outcome) -> str:
    """A few lines of text; every row that was read is in them, used or rejected."""
    counts = outcome.manifest.counts
    state = "is now current" if outcome.published else "was current already"
    lines = [
        *_remarks(outcome.stages["read"].summary),
        *_empty(outcome.stages["read"].summary),
        *_rows(outcome.stages),
        *_playlists(outcome.stages),
        *_meaning(outcome.stages),
        ("split", outcome.stages["split"].summary["text"]),
        (
            "catalog",
            (
                f"{counts.songs:,} songs of {counts.artists:,} artists, "
                f"{counts.vectors:,} with a vector and {counts.predicted:,} with co-occurrence"
            ),
        ),
        *_missing(outcome.stages),
        ("release", f"{outcome.manifest.release} {state}"),
    ]
    return _text(lines)


def load(work: Path) -> dict[str, Stage]:
    """The finished stages of the last run in a work folder; a later stage may be missing.

    Raises `MismatchError` where there is none, or none of the same files.
    """
    stages = {"read": finished_stage(work, "read")}
    for name, before in _STAGES.items():
        try:
            stage = finished_stage(work, name)
        except MismatchError:
            continue
        if before in stages and stage.inputs.get(before) == stages[before].fingerprint:
            stages[name] = stage
    if "prepare" not in stages:
        raise MismatchError(f"{work} holds no finished 'prepare' of the files that were read last")
    return stages


def report(stages: Mapping[str, Stage]) -> str:
    """The whole account of the last run: files, rows, rejects with examples, playlists, labels.

    Raises `MismatchError` where another version of nextsong made the stages and tells other things.
    """
    try:
        return _text(_told(stages))
    except KeyError as error:
        raise MismatchError(
            f"{stages['read'].folder.parent} is of another version of nextsong, which does not "
            f"tell {error}: run `nextsong ingest run` again"
        ) from error


def _told(stages: Mapping[str, Stage]) -> list[Line]:
    prepared = stages["prepare"].summary
    lines = [
        *_files(stages["read"].summary),
        *_rows(stages),
        *_examples(stages["prepare"].folder / "rejects.parquet", prepared["rejected"]),
        *_payload(stages["read"].summary["payload"]),
        *_playlists(stages),
        ("songs", f"{prepared['songs']:,} songs of {prepared['artists']:,} artists"),
        *_meaning(stages),
    ]
    if "split" in stages:
        summary = stages["split"].summary
        lines += [("split", summary["text"]), *_labels(summary["label_coverage"])]
    later = [name for name in ("count", "train", "choose") if name in stages]
    lines += [(name, stages[name].summary["text"]) for name in later]
    return lines + list(_missing(stages))


def as_json(stages: Mapping[str, Stage]) -> dict[str, Any]:
    """The same figures for programs: the summary of each stage by its name."""
    folder = stages["prepare"].folder
    return {name: stage.summary for name, stage in stages.items()} | {
        "rejects": str(folder / "rejects.parquet"),
        "short_playlists": str(folder / "short_playlists.parquet"),
    }


def _text(lines: Sequence[Line]) -> str:
    width = max(10, *(len(name) for name, _ in lines))
    return "\n".join(f"{name:<{width}} {one_line(text)}" for name, text in lines)


def _files(read: Mapping[str, Any]) -> Iterator[Line]:
    notes = read["notes"]
    for note in notes[:_FILES]:
        columns = ", ".join(
            f"{role}={name}" if role != name else role for role, name in note["columns"].items()
        )
        rows = f"{note['rows']:,} rows, {note['unreadable']:,} unreadable"
        yield "file", f"{note['file']}: {note['kind']}; {rows}; {columns}"
        for remark in note["remarks"]:
            yield "  note", remark
    if len(notes) > _FILES:
        rest = notes[_FILES:]
        rows = sum(note["rows"] for note in rest)
        unreadable = sum(note["unreadable"] for note in rest)
        yield "file", f"and {len(rest):,} more: {rows:,} rows, {unreadable:,} unreadable"
    passed = read["passed_over"]
    if passed:
        yield "passed by", f"{len(passed):,} other files: {_few(passed)}"
    yield from _empty(read)


def _empty(read: Mapping[str, Any]) -> Iterator[Line]:
    empty = read["empty"]
    if empty:
        what = "file was" if len(empty) == 1 else "files were"
        yield "empty", f"{len(empty):,} {what} passed over: {_few(empty, '; ')}"


def _few(names: Sequence[str], between: str = ", ") -> str:
    return between.join([*names[:5], *(["..."] if len(names) > 5 else [])])


def _remarks(read: Mapping[str, Any]) -> Iterator[Line]:
    """What is odd about the files, each once."""
    said: dict[str, list[str]] = {}
    for note in read["notes"]:
        for remark in note["remarks"]:
            said.setdefault(remark, []).append(note["file"])
    for remark, files in list(said.items())[:_FILES]:
        yield "note", f"{_few(files)}: {remark}"


def _rows(stages: Mapping[str, Stage]) -> Iterator[Line]:
    prepared, folder = stages["prepare"].summary, stages["prepare"].folder
    used, reasons = prepared["used"], prepared["rejected"]
    rejected = sum(reasons.values())
    yield "rows", f"{used + rejected:,} read = {used:,} used + {rejected:,} rejected"
    if rejected:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        yield "rejected", f"{listed}: {folder / 'rejects.parquet'}"
    for name, tally in stages["read"].summary["payload"].items():
        if tally["wrong"]:
            yield (
                "payload",
                (
                    f"{name}: {tally['wrong']:,} values are no {tally['kind']} and were left out: "
                    f"{', '.join(tally['examples'])}"
                ),
            )


def _examples(rejects: Path, reasons: Mapping[str, int]) -> Iterator[Line]:
    if not reasons:
        return
    query = (
        "SELECT split_part(reason, ':', 1) AS kind, reason, file, line, text[:60] "
        f"FROM read_parquet({literal(rejects)}) "
        f"QUALIFY row_number() OVER (PARTITION BY kind ORDER BY file, line) <= {_EXAMPLES} "
        "ORDER BY kind, file, line"
    )
    with connect(rejects.parent) as sql:
        found = sql.sql(query).fetchall()
    for _, reason, file, line, text in found:
        yield "  example", f"{file}, line {line}: {reason}: {text!r}"


def _payload(fields: Mapping[str, Mapping[str, Any]]) -> Iterator[Line]:
    for name, tally in fields.items():
        yield (
            "payload",
            (
                f"{name} ({tally['kind']}): {tally['filled']:,} rows have it, {tally['empty']:,} "
                f"have none, {tally['wrong']:,} a wrong one"
            ),
        )


def _playlists(stages: Mapping[str, Stage]) -> Iterator[Line]:
    prepared, folder = stages["prepare"].summary, stages["prepare"].folder
    text = f"{prepared['playlists']:,} kept"
    if prepared["short_playlists"]:
        where = folder / "short_playlists.parquet"
        text += (
            f", {prepared['short_playlists']:,} too short, with {prepared['short_rows']:,} of the "
            f"rows used: {where}"
        )
    yield "playlists", text


def _meaning(stages: Mapping[str, Stage]) -> Iterator[Line]:
    """What the data means, where that is not what one would expect of it."""
    prepared = stages["prepare"].summary
    measured = prepared["order"]
    taken = stages["split"].summary["order"] if "split" in stages else measured["found"]
    text = measured["text"]
    if taken == "none":
        text += "; playlists are shuffled, and distance and direction count for nothing"
    elif not text.endswith("taken as played"):
        text += "; the order is taken for that of playing, and counts"
    if taken != measured["found"]:
        text += f" (--order {taken})"
    yield "order", text
    if prepared["sessions"]:
        told = "the files have no playlists: plays of a listener, cut where he pauses"
        for unit, files in prepared["units"].items():
            told += f"; times in {unit}: {_few(files)}"
        yield "sessions", told
    repeats = prepared["repeats"]
    if repeats:
        yield "repeats", f"{repeats:,} rows repeat a song of their playlist; the first counts"
    versions = prepared["versions"]
    if versions["songs"]:
        examples = "; ".join(
            f"{one['artist']}: {' | '.join(one['titles'])}" for one in versions["examples"][:2]
        )
        what = (
            "merged" if versions["merged"] else "kept apart (--merge-versions takes them for one)"
        )
        yield (
            "versions",
            (
                f"{versions['songs']:,} songs have {versions['more']:,} further versions, {what}: "
                f"{examples}"
            ),
        )
    if prepared["same_names"]:
        yield (
            "same names",
            f"{prepared['same_names']:,} playlists share owner and name with another",
        )
    if prepared["merged_blanks"]:
        yield (
            "merged",
            f"{prepared['merged_blanks']:,} playlists whose names differ in blanks alone are one",
        )
    if prepared["merged_files"]:
        yield "merged", f"{prepared['merged_files']:,} playlists have rows in several files"
    if prepared["same_songs"]:
        yield "same songs", f"{prepared['same_songs']:,} playlists repeat another, song by song"


def _missing(stages: Mapping[str, Stage]) -> Iterator[Line]:
    """Yield what the release lacks, and how to get it."""
    if "train" in stages and not stages["train"].summary["songs"]:
        most, min_count = stages["train"].summary["most"], stages["train"].inputs["min_count"]
        yield (
            "missing",
            (
                f"song vectors, as {describe_rarity(most, min_count)}: every mode answers by "
                f"co-occurrence; more playlists, or --min-count {most}, would give some"
            ),
        )


def _labels(coverage: Mapping[str, Mapping[str, float | None]]) -> Iterator[Line]:
    for split, shares in coverage.items():
        told = [
            f"{shares[str(least)]:.1%} in {least} or more"
            for least in COVERAGES
            if shares[str(least)] is not None
        ]
        if told:
            yield f"{split}", f"labels in training playlists: {', '.join(told)}"
