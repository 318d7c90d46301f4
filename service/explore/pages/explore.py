"""The main page: search, playlist, options, and the views of the answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nicegui import context

from catalog.errors import NextsongError
from service.explore.link import MAX_LINK_LENGTH, decode_request, encode_request
from service.explore.pages.elements import Text, box, set_class, text_button
from service.explore.pages.frame import page_frame
from service.explore.pages.map_view import MapView
from service.explore.pages.playlist import PlaylistPanel
from service.explore.pages.search import SearchBox
from service.explore.pages.suggestions import set_busy
from service.explore.pages.tuning import TuningPanel
from service.explore.pages.views import ModesView, NextView, ReleasesView
from service.explore.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nicegui.element import Element

    from nextsong.v1 import recommender_pb2 as pb
    from service.explore.explorer import Explorer

VIEWS = {"next": "Next songs", "modes": "Modes", "map": "Map", "releases": "Releases"}

SHORTCUTS = {
    "/": "Find songs",
    "↑ ↓ Enter": "Choose among the songs found",
    "j k": "Go through the next songs; Enter adds one",
    "Alt+↑ Alt+↓": "Move the focused song of the playlist",
    "Delete": "Remove the focused song of the playlist",
    "?": "Show these shortcuts",
}


async def build_explore_page(explorer: Explorer, link: str, view: str) -> None:
    """Build the page with the view `view`, and with the request in `link` unless it is empty."""
    session, problem = Session(), ""
    if link:
        try:
            session.request = decode_request(link)
            session.request.explain = True
            session.request.ClearField("user_id")
        except NextsongError as error:
            problem = str(error)
    popular = await explorer.release.popular(1)
    most_playlists = popular[0].song.playlists if popular else 1
    with page_frame(explorer, "/", "explore"):
        page = ExplorePage(explorer, session, most_playlists, view if view in VIEWS else "next")
        await page.changed()
    if problem:
        page.show_problem(problem)


class ExplorePage:
    """The page of a browser tab.

    `most_playlists` is the number of playlists that contain the most popular song.
    """

    def __init__(
        self, explorer: Explorer, session: Session, most_playlists: int, view: str
    ) -> None:
        self._explorer = explorer
        self._session = session
        self._view = view
        self._is_answering = False
        self._has_changed = False
        self._client = context.client
        with box("section", "side", aria_label="Playlist"):
            SearchBox(explorer, self._choose, self._mark_found)
            with box("div", "card"):
                self._playlist = PlaylistPanel(session, self.changed)
        with box("section", "answers card", aria_label="Answers") as self._answers:
            self._build_tabs()
            self._problem = Text("", "problem", "p").props("role=alert")
            self._problem.visible = False
            with self._panel("next"):
                self._next = NextView(explorer, session, self._pick)
            with self._panel("modes"):
                self._modes = ModesView(explorer, session, self._pick)
            with self._panel("map"):
                self._map = MapView(explorer, self._pick_by_id)
            with self._panel("releases"):
                self._releases = ReleasesView(explorer, session, self._pick)
        with box("aside", "tuning card", aria_label="Options") as self._options:
            self._tuning = TuningPanel(explorer, session, most_playlists, self.changed)
        _build_help()
        self._show_view()

    def _build_tabs(self) -> None:
        self._tabs: dict[str, Element] = {}
        self._panels: dict[str, Element] = {}
        with box("div", "tabs-line"):
            with box("div", "tabs", role="tablist", aria_label="Views"):
                for name, title in VIEWS.items():
                    with box("button", "tab", type="button", role="tab") as tab:
                        Text(title)
                    tab.on("click", self._open_view(name), args=[]).mark(f"view-{name}")
                    self._tabs[name] = tab
            with box("div", "tabs-end"):
                self._status = Text("", "muted only-wide").mark("status")
                text_button("Options", icon="tune", classes="only-narrow small").on(
                    "click",
                    js_handler="() => document.querySelector('.tuning').classList.toggle('open')",
                )

    @contextmanager
    def _panel(self, name: str) -> Iterator[None]:
        with box("div", "view", role="tabpanel", aria_label=VIEWS[name]) as panel:
            yield
        self._panels[name] = panel

    def _open_view(self, name: str):  # type: ignore[no-untyped-def]
        async def open_view() -> None:
            self._view = name
            self._show_view()
            await self.changed()

        return open_view

    def _show_view(self) -> None:
        for name, tab in self._tabs.items():
            is_open = name == self._view
            set_class(tab, "active", on=is_open)
            tab.props["aria-selected"] = "true" if is_open else "false"
            tab.update()
            self._panels[name].visible = is_open

    async def changed(self) -> None:
        """Answer the request after a change of the session.

        Changes that happen meanwhile are answered together afterwards.
        """
        self._has_changed = True
        if self._is_answering:
            return
        self._is_answering = True
        set_busy(self._answers, is_busy=True)
        try:
            while self._has_changed:
                self._has_changed = False
                await self._answer()
        finally:
            self._is_answering = False
            set_busy(self._answers, is_busy=False)

    async def _answer(self) -> None:
        problem = ""
        try:
            if self._view == "modes":
                await self._modes.update()
            elif self._view == "releases":
                await self._releases.update()
            else:
                await self._next.update()
        except NextsongError as error:
            problem = str(error)
        self.show_problem(problem)
        self._status.text = self._next.status if self._view in {"next", "map"} else ""
        self._playlist.show()
        if self._view == "map":
            self._map.open()
        self._map.mark("playlist", [seed.song_id for seed in self._session.seeds])
        next_songs = self._next.list.songs if self._session.seeds else []
        self._map.mark("next", [song.song_id for song in next_songs])
        self._keep_link()

    def _keep_link(self) -> None:
        link = encode_request(self._session.request)
        if len(link) > MAX_LINK_LENGTH:
            self.show_problem("The playlist is too long for a link. Export it to share it.")
            return
        query = f"?q={link}" + (f"&view={self._view}" if self._view != "next" else "")
        self._client.run_javascript(f"nextsong.setLink('/{query}')")

    def show_problem(self, problem: str) -> None:
        """Show a problem above the answers, or no problem if `problem` is empty."""
        self._problem.text = problem
        self._problem.visible = bool(problem)

    async def _choose(self, song: pb.Song) -> None:
        await self._pick(song, 1.0)

    async def _pick(self, song: pb.Song, weight: float) -> None:
        self._session.add(song, weight)
        await self._playlist.change()

    async def _pick_by_id(self, song_id: str) -> None:
        for song in await self._explorer.get_songs([song_id]):
            await self._pick(song, 1.0)

    def _mark_found(self, songs: list[pb.Song]) -> None:
        self._map.mark("found", [song.song_id for song in songs])


def _build_help() -> None:
    with box("dialog", "help", id="shortcuts", aria_label="Keyboard shortcuts"):
        Text("Keyboard", "panel-title", "h2")
        with box("dl", "shortcuts"):
            for keys, meaning in SHORTCUTS.items():
                with box("dt"):
                    Text(keys, "key", "kbd")
                Text(meaning, tag="dd")
        text_button("Close").on("click", js_handler="() => nextsong.showHelp()")
