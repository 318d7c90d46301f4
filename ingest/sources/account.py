"""The result of reading: notes on each file, and numbers of records and payload values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping  # noqa: TC003 -- pydantic reads the annotations
from dataclasses import dataclass

from ingest.sources.values.payload import PayloadTally  # noqa: TC001 -- as above


@dataclass(frozen=True)
class FileNote:
    """The result of reading one file: format, column for each role, and numbers of records.

    `left_out` is the number of ignored plays, by reason. `needs_artist` is set if rows without an
    artist must be rejected. `remarks` are notes about unusual properties of the file.
    """

    file: str
    kind: str
    columns: Mapping[str, str]
    rows: int
    unreadable: int
    left_out: Mapping[str, int]
    needs_artist: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadAccount:
    """The result of reading all files. Each record counts as a row, as unreadable or as ignored.

    - `payload`: the counts of values for each payload field, by field name.
    - `passed_over`: files in folders and archives that were skipped because their extensions are
      unknown.
    - `empty`: one message for each file without records.
    """

    files: int
    rows: int
    unreadable: int
    notes: tuple[FileNote, ...]
    payload: Mapping[str, PayloadTally]
    passed_over: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


def summarize(account: ReadAccount) -> str:
    """Return the result of reading as a one-line summary."""
    kinds = "; ".join(dict.fromkeys(note.kind for note in account.notes))
    text = (
        f"{account.rows:,} rows of {account.files:,} {_files(account.files)} ({kinds}), "
        f"{account.unreadable:,} unreadable"
    )
    left_out = count_left_out(account)
    if left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        text += f"; {sum(left_out.values()):,} left out ({reasons})"
    if account.passed_over:
        text += f"; {len(account.passed_over):,} other files skipped"
    if account.empty:
        text += f"; {len(account.empty):,} empty {_files(len(account.empty))} skipped"
    for name, tally in account.payload.items():
        if tally.wrong:
            text += f"; {name}: {tally.wrong:,} values are not of kind {tally.kind}"
    return text


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


def count_left_out(account: ReadAccount) -> dict[str, int]:
    """Return the number of ignored plays in all files, by reason."""
    counts: Counter[str] = Counter()
    for note in account.notes:
        counts.update(note.left_out)
    return dict((+counts).most_common())
