"""The page of the data report that `nextsong ingest stats` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.explore.pages.elements import Text, box
from service.explore.pages.frame import page_frame

if TYPE_CHECKING:
    from pathlib import Path

    from service.explore.explorer import Explorer

STATS_FOLDER = "stats"  # folder of the data report in HOME
REPORT_PATH = "/data-report"


def find_report(home: Path) -> Path | None:
    """Return the folder of the data report, or None if there is no report."""
    folder = home / STATS_FOLDER
    return folder if (folder / "index.html").is_file() else None


def build_data_page(explorer: Explorer) -> None:
    """Build the page, which shows the report in a frame."""
    has_report = find_report(explorer.home) is not None
    with page_frame(explorer, "/data", "framed" if has_report else "reading"):
        if has_report:
            box("iframe", "report", src=f"{REPORT_PATH}/index.html", title="Data report")
        else:
            with box("section", "card"):
                Text("Data", "panel-title", "h1")
                Text(
                    f"There is no data report in {explorer.home / STATS_FOLDER} yet: write it with "
                    f"`nextsong ingest stats`.",
                    "hint",
                    "p",
                )
