"""The tabs with recommendations: next songs, modes side by side, two releases side by side."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import ui

from catalog.errors import NextsongError
from nextsong.v1 import recommender_pb2 as pb
from service.explore.explorer import MODE_NAMES
from service.explore.pages.elements import Text, box
from service.explore.pages.suggestions import (
    SongList,
    describe_emptiness,
    show_answer,
    show_popular,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.explore.explorer import Answer, Explorer
    from service.explore.pages.suggestions import Shown
    from service.explore.session import Session

    Pick = Callable[[pb.Song, float], Awaitable[None]]

STRATEGIES = {
    pb.STRATEGY_ARTISTS: "No song of the playlist is in this release: songs of its artists.",
    pb.STRATEGY_POPULAR: "Neither songs nor artists of the playlist are in this release: popular "
    "songs.",
}


class NextView:
    """The songs that should come next, or popular songs if the playlist is empty.

    `status` names the mode and the time of the last answer.
    """

    def __init__(self, explorer: Explorer, session: Session, pick: Pick) -> None:
        self._explorer = explorer
        self._session = session
        self.status = ""
        self._note = Text("", "hint", "p")
        self.list = SongList(pick, "Next songs", is_narrow=False)

    async def update(self) -> None:
        """Answer the session's request, and show the answer. Raises `NextsongError`."""
        request = self._session.request
        if not request.seeds:
            songs = await self._explorer.list_popular(request)
            self._show("popular songs", "" if songs else "No song passes the filters.")
            self.list.show(show_popular(songs))
            return
        answer = await self._explorer.recommend(request)
        response = answer.response
        self._session.learn(response)
        note = describe_emptiness(response) or STRATEGIES.get(response.strategy, "")
        self._show(_describe_time(answer), note)
        self.list.show(show_answer(self._session, response))

    def _show(self, status: str, note: str) -> None:
        self.status, self._note.text = status, note
        self._note.visible = bool(note)


class ModesView:
    """The answers in all modes of the release, side by side."""

    def __init__(self, explorer: Explorer, session: Session, pick: Pick) -> None:
        self._explorer = explorer
        self._session = session
        self._note = Text("Add a song to the playlist to compare the modes.", "hint", "p")
        self._columns = {}
        self._grid = box("div", "columns")
        with self._grid:
            for mode in explorer.modes:
                self._columns[mode] = _Column(MODE_NAMES[mode], pick)

    async def update(self) -> None:
        """Answer the session's request in each mode. Raises `NextsongError`."""
        has_seeds = bool(self._session.seeds)
        self._note.visible, self._grid.visible = not has_seeds, has_seeds
        if not has_seeds:
            return
        answers = await self._explorer.recommend_in_modes(self._session.request)
        counts = Counter(
            scored.song.song_id for answer in answers.values() for scored in answer.response.songs
        )
        for mode, answer in answers.items():
            self._session.learn(answer.response)
            songs = [
                replace(shown, note=f"in {counts[shown.song.song_id]} of {len(answers)} modes")
                for shown in show_answer(self._session, answer.response)
            ]
            note = f"{answer.milliseconds:.0f} ms"
            if answer.response.mode not in {mode, pb.MODE_UNSPECIFIED}:
                note = f"not possible here; {MODE_NAMES[answer.response.mode].lower()} was used"
            self._columns[mode].show(songs, note)


class ReleasesView:
    """The answers of two releases to the same request, side by side."""

    def __init__(self, explorer: Explorer, session: Session, pick: Pick) -> None:
        self._explorer = explorer
        self._session = session
        self._pick = pick
        self._element = box("div", "releases-view")
        self._other_release: str | None = None
        self._is_built = False

    async def update(self) -> None:
        """Answer the session's request from both releases. Raises `NextsongError`."""
        if not self._is_built:
            self._is_built = True
            release = self._explorer.manifest.release
            releases = await self._explorer.list_releases()
            with self._element:
                self._build(release, [name for name in releases if name != release])
        if self._other_release is None:
            return
        has_seeds = bool(self._session.seeds)
        self._grid.visible = has_seeds
        if not has_seeds:
            self._summary.text = "Add a song to the playlist to compare the releases."
            return
        await self._compare(self._other_release)

    def _build(self, release: str, other_releases: list[str]) -> None:
        if not other_releases:
            Text("The store keeps no other release to compare with.", "hint", "p")
            return
        self._other_release = other_releases[0]
        with box("div", "view-head"):
            Text("Compared with", "muted")
            ui.select(other_releases, value=other_releases[0], on_change=self._choose).props(
                'dense outlined options-dense aria-label="Other release"'
            ).classes("mono")
        self._summary = Text("", "hint", "p").mark("overlap")
        self._grid = box("div", "columns")
        with self._grid:
            self._columns = (
                _Column(release, self._pick),
                _Column(other_releases[0], self._pick),
            )

    async def _choose(self, event: Any) -> None:
        self._other_release = event.value
        self._columns[1].title.text = event.value
        try:
            await self.update()
        except NextsongError as error:
            self._summary.text = str(error)

    async def _compare(self, other_release: str) -> None:
        request = self._session.request
        answers = [
            await self._explorer.recommend(request),
            await self._explorer.recommend(request, await self._explorer.open_other(other_release)),
        ]
        ranks = [
            {scored.song.song_id: rank for rank, scored in enumerate(answer.response.songs, 1)}
            for answer in answers
        ]
        self._session.learn(answers[0].response)
        for side, answer in enumerate(answers):
            songs = [
                replace(shown, note=_describe_rank(rank, ranks[1 - side].get(shown.song.song_id)))
                for rank, shown in enumerate(show_answer(self._session, answer.response), 1)
            ]
            known = sum(seed.resolution == pb.RESOLUTION_SONG for seed in answer.response.seeds)
            note = f"{_describe_time(answer)} · knows {known} of {len(request.seeds)} songs"
            self._columns[side].show(songs, note)
        shared = len(ranks[0].keys() & ranks[1].keys())
        most = max(map(len, ranks))
        self._summary.text = f"{shared} of {most} songs are in both answers."


class _Column:
    """A column of a comparison: a title, a note, and a list of songs."""

    def __init__(self, title: str, pick: Pick) -> None:
        with box("section", "column-view", aria_label=title):
            self.title = Text(title, "column-title", "h3")
            self._note = Text("", "muted column-note")
            self._list = SongList(pick, title, is_narrow=True)

    def show(self, songs: list[Shown], note: str) -> None:
        """Show songs and a note."""
        self._note.text = note
        self._list.show(songs)


def _describe_rank(rank: int, other_rank: int | None) -> str:
    """Return a note on the rank of a song in the other list, None if that list lacks the song."""
    if other_rank is None:
        return "only here"
    return "same rank" if other_rank == rank else f"rank {other_rank} there"


def _describe_time(answer: Answer) -> str:
    mode = MODE_NAMES[answer.response.mode].lower() if answer.response.mode else "popular songs"
    return f"{mode} · {answer.milliseconds:.0f} ms"
