"""The search box: songs are found while typing, and chosen with the keyboard or the pointer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui

from catalog.errors import NextsongError
from service.explore.pages.elements import Text, box, format_count, set_class

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nicegui.element import Element

    from nextsong.v1 import recommender_pb2 as pb
    from service.explore.explorer import Explorer

RESULTS = 8  # maximum number of songs in the list
MAX_LENGTH = 200  # maximum number of characters of a search text in the API

LIST_ID = "search-results"


class SearchBox:
    """An input with a list of the songs that it finds.

    `choose(song)` is called for a song that is chosen, and `show_results(songs)` for each new list.
    """

    def __init__(
        self,
        explorer: Explorer,
        choose: Callable[[pb.Song], Awaitable[None]],
        show_results: Callable[[list[pb.Song]], None],
    ) -> None:
        self._explorer = explorer
        self._choose = choose
        self._show_results = show_results
        self._songs: list[pb.Song] = []
        self._active = 0
        self._searches = 0
        with box("div", "search", role="search"):
            self._input = ui.input(placeholder="Artist or title", on_change=self._search)
            self._input.props(
                f"dense borderless debounce=60 maxlength={MAX_LENGTH} autocomplete=off "
                f"role=combobox aria-autocomplete=list aria-expanded=false "
                f"aria-controls={LIST_ID} input-class=search-input"
            ).props('aria-label="Find songs by artist or title"').mark("search")
            with self._input.add_slot("prepend"):
                ui.icon("search").props("aria-hidden=true")
            with self._input.add_slot("append"), box("kbd", "key only-wide", aria_hidden="true"):
                Text("/")
            self._input.on("keydown.down.prevent", lambda: self._move(1), args=[])
            self._input.on("keydown.up.prevent", lambda: self._move(-1), args=[])
            self._input.on("keydown.enter.prevent", self._choose_active, args=[])
            self._input.on("keydown.escape", self._clear, args=[])
            self._list = box("ul", "results", id=LIST_ID, role="listbox", aria_label="Songs found")
            self._list.visible = False
            self._options: list[_Option] = []

    async def _search(self) -> None:
        self._searches += 1
        search, text = self._searches, (self._input.value or "").strip()
        songs: list[pb.Song] = []
        problem = ""
        if text:
            try:
                songs = list(await self._explorer.search(text, RESULTS))
            except NextsongError as error:
                problem = str(error)
        if search != self._searches:
            return  # a later search has begun meanwhile
        self._songs, self._active = songs, 0
        self._show_results(songs)
        self._show(problem or ("No song has a similar name." if text and not songs else ""))

    def _show(self, problem: str) -> None:
        with self._list:
            while len(self._options) <= len(self._songs):
                self._options.append(_Option(len(self._options), self._choose_at))
        for index, option in enumerate(self._options):
            option.show(self._songs[index] if index < len(self._songs) else None)
        if problem:
            self._options[0].show_text(problem)
        self._list.visible = bool(self._songs or problem)
        self._mark_active()

    def _move(self, step: int) -> None:
        if self._songs:
            self._active = (self._active + step) % len(self._songs)
            self._mark_active()

    def _mark_active(self) -> None:
        for index, option in enumerate(self._options):
            option.set_active(is_active=index == self._active and bool(self._songs))
        expanded = "true" if self._songs else "false"
        active = f"{LIST_ID}-{self._active}" if self._songs else ""
        self._input.props["aria-expanded"] = expanded
        self._input.props["aria-activedescendant"] = active
        self._input.update()

    async def _choose_active(self) -> None:
        if self._songs:
            await self._choose_at(self._active)

    async def _choose_at(self, index: int) -> None:
        song = self._songs[index]
        self._clear()
        await self._choose(song)

    def _clear(self) -> None:
        self._searches += 1
        self._songs = []
        self._input.value = ""
        self._show_results([])
        self._show("")


class _Option:
    """A row of the list of songs that were found."""

    def __init__(self, index: int, choose: Callable[[int], Awaitable[None]]) -> None:
        self._element: Element = box("li", "result", role="option", id=f"{LIST_ID}-{index}")
        self._element.mark(f"result-{index}")
        with self._element:
            with box("div", "song-name"):
                self._title = Text("", "title")
                self._artist = Text("", "artist")
            self._count = Text("", "result-count")

        async def on_click() -> None:
            await choose(index)

        # Without this handler, the input would lose the focus before the click.
        self._element.on("mousedown", js_handler="(event) => event.preventDefault()")
        self._element.on("click", on_click, args=[])

    def show(self, song: pb.Song | None) -> None:
        self._element.visible = song is not None
        if song is not None:
            self._title.text = song.title or song.song_id
            self._artist.text = song.artist
            self._count.text = format_count(song.playlists, "playlist")

    def show_text(self, text: str) -> None:
        self._element.visible = True
        self._title.text, self._artist.text, self._count.text = text, "", ""

    def set_active(self, *, is_active: bool) -> None:
        set_class(self._element, "active", on=is_active)
        self._element.props["aria-selected"] = "true" if is_active else "false"
        self._element.update()
