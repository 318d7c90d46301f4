"""The page of the release: its size, origin, fields, parameters and validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.explore.pages.elements import Text, box
from service.explore.pages.frame import page_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.explore.explorer import Explorer


def build_release_page(explorer: Explorer) -> None:
    """Build the page with the manifest of the release."""
    manifest = explorer.manifest
    counts = manifest.counts
    with page_frame(explorer, "/release", "reading"):
        with box("section", "card"):
            Text("Release", "panel-title", "h1")
            Text(f"{manifest.release}, in {explorer.store.location}", "hint mono", "p")
            build_facts(
                [
                    ("songs", counts.songs),
                    ("artists", counts.artists),
                    ("training playlists", counts.training_playlists),
                    ("training plays", counts.training_plays),
                    ("with dense vector", counts.vectors),
                    ("with co-occurrence", counts.predicted),
                ]
            )
        with box("section", "card"):
            Text("Origin", "panel-title", "h2")
            origin = manifest.origin
            build_table(
                [
                    ("created", manifest.created),
                    ("sources", ", ".join(origin.sources)),
                    ("nextsong", origin.code_version),
                    ("data", origin.data_fingerprint),
                    ("split", origin.split_fingerprint),
                    ("content", origin.content_fingerprint),
                    ("song ids from", "track ids" if origin.track_ids else "artist and title"),
                    ("re-ranker", "yes" if manifest.ranker else "no"),
                    ("dimensions", manifest.dimensions),
                    ("search width", manifest.search_ef),
                    ("recall@10 of the index", manifest.recall),
                    ("format", manifest.format),
                ]
            )
        for title, values in (
            ("Validation", manifest.validation),
            ("Extra fields", manifest.payload),
            ("Parameters", manifest.origin.parameters),
        ):
            if values:
                with box("section", "card"):
                    Text(title, "panel-title", "h2")
                    build_table(sorted(values.items()))


def build_facts(facts: Iterable[tuple[str, int]]) -> None:
    """Show numbers in large type, each with its name."""
    with box("dl", "facts"):
        for name, value in facts:
            with box("div", "fact"):
                Text(f"{value:,}", "fact-value", "dd")
                Text(name, "fact-name", "dt")


def build_table(rows: Iterable[tuple[str, Any]]) -> None:
    """Build a table with a name and a value in each row. Rows without a value are left out."""
    with box("table", "values"), box("tbody"):
        for name, value in rows:
            if value is None:
                continue
            with box("tr"):
                Text(name, tag="th").props("scope=row")
                Text(f"{value:.4g}" if isinstance(value, float) else str(value), tag="td")
