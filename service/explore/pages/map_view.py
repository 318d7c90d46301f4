"""The map of the songs: drawn by ECharts on a canvas, with the playlist and its next songs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui
from nicegui.element import Element

from service.explore.pages.elements import Text, box

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from service.explore.explorer import Explorer

POINTS_PATH, NAMES_PATH = "/map/points", "/map/names"


class SongMap(Element, component="../static/song_map.js"):
    """A canvas with a dot for each song. `marks` maps groups of songs to rows of the overview."""

    def __init__(self, release: str, on_pick: Callable[[Any], Awaitable[None]]) -> None:
        super().__init__()
        self._props["points"] = f"{POINTS_PATH}?{release}"
        self._props["names"] = f"{NAMES_PATH}?{release}"
        self._props["marks"] = {}
        self.on("pick", on_pick)
        self.classes("song-map").props('role=img aria-label="Map of the songs"')

    def set_marks(self, marks: dict[str, list[int]]) -> None:
        """Draw the songs in these rows larger, in the colour of their group."""
        if marks != self._props["marks"]:
            self._props["marks"] = marks
            self.update()


class MapView:
    """The map with its legend, or the progress of its computation.

    `pick(song_id)` is called for a song that is clicked.
    """

    def __init__(self, explorer: Explorer, pick: Callable[[str], Awaitable[None]]) -> None:
        self._explorer = explorer
        self._pick = pick
        self._map: SongMap | None = None
        self._rows: dict[str, int] = {}
        self._marked: dict[str, list[str]] = {}
        self._element = box("div", "map-view")
        self._timer: ui.timer | None = None

    def open(self) -> None:
        """Build the map as soon as the overview is computed, and show the progress until then."""
        if self._map is not None or self._timer is not None:
            return
        with self._element:
            self._status = Text("", "hint", "p").mark("map-status")
            self._timer = ui.timer(0.3, self._update)
        self._update()

    def _update(self) -> None:
        task = self._explorer.overview
        if task.overview is None:
            self._status.text = (
                task.problem or f"Computing the map of this release: {task.share:.0%}"
            )
            if not task.problem:
                return
        if self._timer is not None:
            self._timer.cancel()
        if task.overview is None:
            return
        shown = len(task.overview.song_ids)
        if shown < 2:
            self._status.text = "This release has no dense vectors, and so no map."
            return
        total = self._explorer.manifest.counts.songs
        rest = "" if shown == total else f" of {total:,}"
        self._status.text = (
            f"{shown:,}{rest} songs, similar ones near each other. Scroll to zoom, click to add."
        )
        self._rows = task.overview.find_rows()
        with self._element:
            self._map = SongMap(self._explorer.manifest.release, self._on_pick).mark("map")
            with box("div", "legend"):
                for name in ("playlist", "next", "found"):
                    with box("span", "legend-item"):
                        box("span", f"legend-dot dot-{name}")
                        Text(
                            {"playlist": "playlist", "next": "next songs", "found": "search"}[name]
                        )
        self._draw_marks()

    def mark(self, group: str, song_ids: Iterable[str]) -> None:
        """Draw the songs of a group (playlist, next or found) larger."""
        self._marked[group] = list(song_ids)
        self._draw_marks()

    def _draw_marks(self) -> None:
        if self._map is not None:
            marks = {
                group: [self._rows[song_id] for song_id in song_ids if song_id in self._rows]
                for group, song_ids in self._marked.items()
            }
            self._map.set_marks(marks)

    async def _on_pick(self, event: Any) -> None:
        overview = self._explorer.overview.overview
        if overview is not None and 0 <= int(event.args) < len(overview.song_ids):
            await self._pick(overview.song_ids[int(event.args)])
