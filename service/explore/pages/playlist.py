"""The playlist: its songs in play order, with buttons to move, weigh, dislike and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui

from catalog.errors import FileError, NextsongError
from service.explore.pages.elements import Text, box, icon_button, rename, set_class
from service.explore.playlist_files import WRITERS, read_playlist
from service.explore.session import get_weight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nextsong.v1 import recommender_pb2 as pb
    from service.explore.session import Session

MAX_FILE_BYTES = 5_000_000
TIMES = "\N{MULTIPLICATION SIGN}"


class PlaylistPanel:
    """The list of the playlist's songs. `changed` is called after each change of the session."""

    def __init__(self, session: Session, changed: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._changed = changed
        self._rows: list[_Row] = []
        with box("div", "panel-head"):
            Text("Playlist", "panel-title", "h2")
            self._count = Text("", "muted")
            with box("div", "panel-actions"):
                self._build_actions()
        self._hint = Text("Find a song above, or begin with one of the popular songs.", "hint", "p")
        self._list = box("ol", "playlist", aria_label="Playlist, most recent song last")
        self._list.on("sortend", self._drop, js_handler="(event) => emit(event.detail)")
        ui.run_javascript(f"nextsong.makeSortable({self._list.id})")
        self.show()

    def _build_actions(self) -> None:
        upload = ui.upload(
            auto_upload=True,
            max_file_size=MAX_FILE_BYTES,
            on_upload=self._import,
            on_rejected=lambda: ui.notify("The file is larger than 5 MB.", type="negative"),
        )
        upload.props('accept=".m3u,.m3u8,.jspf,.json,.csv,.txt" aria-hidden=true').classes("hidden")
        self._upload = upload.mark("upload")
        icon_button("link", "Copy a link to this playlist").on(
            "click", js_handler="() => nextsong.copyLink()"
        )
        icon_button("file_open", "Import a playlist: M3U, JSPF, CSV, JSON, or lines").on(
            "click", js_handler=f"() => getElement({upload.id}).pickFiles()"
        )
        with icon_button("download", "Export the playlist").mark("export"), ui.menu():
            for suffix in WRITERS:
                ui.menu_item(suffix.upper(), lambda suffix=suffix: self._export(suffix)).mark(
                    f"export-{suffix}"
                )
        icon_button("delete_sweep", "Remove all songs", self._clear).mark("clear")

    def show(self) -> None:
        """Show the session's playlist."""
        seeds = self._session.seeds
        while len(self._rows) > len(seeds):
            self._rows.pop().element.delete()
        with self._list:
            while len(self._rows) < len(seeds):
                self._rows.append(_Row(self, len(self._rows)))
        for row, seed in zip(self._rows, seeds, strict=True):
            row.show(self._session, seed)
        self._hint.visible = not seeds
        self._count.text = f"{len(seeds):,}" if seeds else ""

    async def change(self) -> None:
        """Show the playlist after a change, and call `changed`."""
        self.show()
        await self._changed()

    async def move(self, index: int, step: int) -> None:
        """Move the song at `index` by `step` positions, and keep the focus on the song."""
        target = self._session.move(index, index + step)
        ui.run_javascript(f"nextsong.focusRow({target})")
        await self.change()

    async def weigh(self, index: int) -> None:
        """Give the song at `index` the next weight."""
        self._session.weigh_more(index)
        await self.change()

    async def toggle_dislike(self, index: int) -> None:
        """Set the weight of the song at `index` to `DISLIKED`, or to 1 if it is negative."""
        self._session.toggle_dislike(index)
        await self.change()

    async def remove(self, index: int) -> None:
        """Remove the song at `index`, and move the focus to the song that follows it."""
        self._session.remove(index)
        ui.run_javascript(f"nextsong.focusRow({min(index, len(self._session.seeds) - 1)})")
        await self.change()

    async def _drop(self, event: Any) -> None:
        self._session.move(event.args["from"], event.args["to"])
        await self.change()

    async def _clear(self) -> None:
        self._session.replace([])
        await self.change()

    def _export(self, suffix: str) -> None:
        ui.download.content(WRITERS[suffix](self._session).encode(), f"playlist.{suffix}")

    async def _import(self, event: Any) -> None:
        self._upload.reset()
        try:
            request = read_playlist(event.file.name, await event.file.read())
        except FileError as error:
            ui.notify(str(error), type="negative")
            return
        has_options = any(field.name != "seeds" for field, _ in request.ListFields())
        before = self._session.request
        try:
            if has_options:
                request.explain = True
                request.ClearField("user_id")
                self._session.request = request
            else:
                self._session.replace(request.seeds)
            await self.change()
        except NextsongError as error:
            self._session.request = before
            ui.notify(str(error), type="negative")


class _Row:
    """A row of the list, which shows a song of the playlist."""

    def __init__(self, panel: PlaylistPanel, index: int) -> None:
        self.element = box("li", "entry", tabindex="0", data_row=str(index))
        self.element.mark(f"row-{index}")
        self.element.on("keydown.alt.up.prevent", lambda: panel.move(index, -1), args=[])
        self.element.on("keydown.alt.down.prevent", lambda: panel.move(index, 1), args=[])
        self.element.on("keydown.delete", lambda: panel.remove(index), args=[])
        with self.element:
            ui.icon("drag_indicator").classes("handle").props("aria-hidden=true")
            with box("div", "song-name"):
                self._title = Text("", "title")
                self._artist = Text("", "artist")
                self._note = Text("", "entry-note")
            with box("div", "entry-actions"):
                with box("button", "weight", type="button") as self._weight:
                    self._weight_text = Text(f"{TIMES}1")
                self._weight.on("click", lambda: panel.weigh(index), args=[])
                self._weight.mark(f"weight-{index}")
                self._dislike = icon_button(
                    "thumb_down_off_alt", "", lambda: panel.toggle_dislike(index), "quiet"
                ).mark(f"unlike-{index}")
                self._remove = icon_button("close", "", lambda: panel.remove(index), "quiet")
                self._remove.mark(f"remove-{index}")

    def show(self, session: Session, seed: pb.Seed) -> None:
        """Show a seed in this row."""
        title, artist, note = session.describe(seed)
        weight = get_weight(seed)
        self._title.text, self._artist.text, self._note.text = title, artist, note
        self._note.visible = bool(note)
        self._weight_text.text = f"{TIMES}{abs(weight):g}"
        self._weight.visible = weight > 0
        set_class(self._weight, "changed", on=weight not in {1.0, -1.0})
        set_class(self.element, "disliked", on=weight < 0)
        rename(self._weight, f"Weight {weight:g}; change the weight of {title}")
        rename(self._dislike, f"Like {title} again" if weight < 0 else f"Less like {title}")
        self._dislike.props["aria-pressed"] = "true" if weight < 0 else "false"
        rename(self._remove, f"Remove {title}")
