"""The account of a finished run, for people: what came in, what was used, what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.pipeline import Outcome


def of(outcome: Outcome) -> str:
    """A few lines of text; every row that was read is in them, used or rejected."""
    manifest = outcome.manifest
    prepared = outcome.stages["prepare"].summary
    splits = outcome.stages["split"].summary
    folder = outcome.stages["prepare"].folder
    used, reasons = prepared["used"], prepared["rejected"]
    rejected = sum(reasons.values())
    lines = [
        ("rows", f"{used + rejected:,} read = {used:,} used + {rejected:,} rejected"),
    ]
    if rejected:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        lines.append(("rejected", f"{listed}: {folder / 'rejects.parquet'}"))
    playlists = f"{prepared['playlists']:,} kept"
    if prepared["short_playlists"]:
        where = folder / "short_playlists.parquet"
        playlists += f", {prepared['short_playlists']:,} too short: {where}"
    catalog = (
        f"{manifest.counts.songs:,} songs of {manifest.counts.artists:,} artists, "
        f"{manifest.counts.vectors:,} with a vector and {manifest.counts.predicted:,} with "
        f"co-occurrence"
    )
    state = "is now current" if outcome.published else "was current already"
    lines += [
        ("playlists", playlists),
        ("split", splits["text"]),
        ("catalog", catalog),
        ("release", f"{manifest.release} {state}"),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in lines)
