"""Lists of recommended songs, with scores, reasons and buttons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nextsong.v1 import recommender_pb2 as pb
from service.explore.explorer import describe_value
from service.explore.pages.elements import Text, box, format_count, icon_button, rename, set_class

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nicegui.element import Element

    from service.explore.session import Session

SHOWN_REASONS = 3
"""Number of reasons of a song that are shown as text. The bar shows all reasons."""

EMPTY_REASONS = {
    pb.EMPTY_REASON_FILTER: "No song of this release passes the filters.",
    pb.EMPTY_REASON_SEEDS: "No song that passes the filters is related to this playlist.",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A song with the texts and the bar shown for it.

    The length of the bar, from 0 to 1, is the score relative to the highest score in the list. The
    bar has one segment per seed: `shares` are the parts of the score that come from each seed.
    """

    song: pb.Song
    score: str = ""
    length: float = 0.0
    shares: Sequence[float] = ()
    reasons: Sequence[str] = ()
    note: str = ""


class SongList:
    """A list of songs. Its rows are kept and filled with new songs, so that the focus stays.

    `pick(song, weight)` is called when a song is added to the playlist, liked or disliked.
    """

    def __init__(
        self, pick: Callable[[pb.Song, float], Awaitable[None]], label: str, *, is_narrow: bool
    ) -> None:
        self._pick = pick
        self._is_narrow = is_narrow
        self._rows: list[_Row] = []
        self.element = box("ol", "songs narrow" if is_narrow else "songs", aria_label=label)

    def show(self, songs: Sequence[Shown]) -> None:
        """Show these songs."""
        with self.element:
            while len(self._rows) < len(songs):
                self._rows.append(_Row(len(self._rows), self._pick, is_narrow=self._is_narrow))
        for row, shown in zip(self._rows, songs, strict=False):
            row.show(shown)
        for row in self._rows[len(songs) :]:
            row.element.visible = False

    @property
    def songs(self) -> list[pb.Song]:
        """The songs that are shown."""
        return [row.song for row in self._rows if row.element.visible]


class _Row:
    """A row of a list of songs."""

    def __init__(
        self, rank: int, pick: Callable[[pb.Song, float], Awaitable[None]], *, is_narrow: bool
    ) -> None:
        self.song = pb.Song()
        self._pick = pick
        self.element: Element = box("li", "song")
        with self.element:
            Text(str(rank + 1), "rank")
            with box("div", "song-body"):
                with box("div", "song-line"):
                    with box("div", "song-name"):
                        self._title = Text("", "title")
                        self._artist = Text("", "artist")
                    self._score = Text("", "score")
                self._track = box("div", "bar-track", aria_hidden="true")
                with self._track:
                    self._bar = box("div", "bar")
                with box("div", "reasons"):
                    self._reasons = [Text("", "reason") for _ in range(SHOWN_REASONS)]
                    self._note = Text("", "note")
            with box("div", "song-actions"):
                self._add = icon_button("add", "", self._like, "add").mark(f"add-{rank}")
                self._add.props["data-suggestion"] = str(rank)
                self._dislike = icon_button("thumb_down_off_alt", "", self._refuse, "quiet")
                self._dislike.mark(f"dislike-{rank}")
                self._dislike.visible = not is_narrow

    def show(self, shown: Shown) -> None:
        """Fill the row with a song."""
        self.song = shown.song
        title = shown.song.title or shown.song.song_id
        self._title.text = title
        self._artist.text = shown.song.artist
        self._score.text = shown.score
        style = f"width: {shown.length:.1%}"
        if shown.shares:
            style += f"; background: {build_gradient(shown.shares)}"
        self._bar.style(replace=style)
        self._track.visible = bool(shown.length)
        for index, element in enumerate(self._reasons):
            element.text = shown.reasons[index] if index < len(shown.reasons) else ""
            element.visible = bool(element.text)
        self._note.text = shown.note
        rename(self._add, f"Add {title} to the playlist")
        rename(self._dislike, f"Less like {title}")
        self.element.visible = True

    async def _like(self) -> None:
        await self._pick(self.song, 1.0)

    async def _refuse(self) -> None:
        await self._pick(self.song, -1.0)


def build_gradient(shares: Sequence[float]) -> str:
    """Return a CSS background with a segment for each share; their colours become paler."""
    stops, start = [], 0.0
    total = sum(shares) or 1.0
    for index, share in enumerate(shares):
        stop = start + share / total
        opacity = max(25, 100 - 22 * index)
        colour = f"color-mix(in srgb, var(--accent) {opacity}%, var(--track))"
        stops.append(f"{colour} {start:.1%} {stop:.1%}")
        start = stop
    return f"linear-gradient(90deg, {', '.join(stops)})"


def show_popular(songs: Sequence[pb.Song]) -> list[Shown]:
    """Return the rows for popular songs, with bars that show their number of playlists."""
    most = max((song.playlists for song in songs), default=0)
    return [
        Shown(song, note=describe_song(song), length=song.playlists / most if most else 0.0)
        for song in songs
    ]


def show_answer(session: Session, response: pb.RecommendResponse) -> list[Shown]:
    """Return the rows for the songs of a response, with scores and reasons."""
    best = max((scored.score for scored in response.songs), default=0.0)
    return [
        Shown(
            scored.song,
            f"{scored.score:.3f}",
            max(0.02, scored.score / best) if best > 0 else 0.0,
            [reason.share for reason in scored.reasons],
            [describe_reason(session, reason) for reason in scored.reasons[:SHOWN_REASONS]],
            describe_song(scored.song),
        )
        for scored in response.songs
    ]


def describe_reason(session: Session, reason: pb.Reason) -> str:
    """Return a text with the share of a reason and the title of its seed.

    If most of the share comes from a content field, such as the artist, the text names the field.
    """
    title, _, _ = session.describe(session.seeds[reason.seed])
    field = max(reason.content, key=lambda name: reason.content[name], default="")
    if field and reason.content[field] > reason.share / 2:
        return f"{reason.share:.0%} from the {field} of {title}"
    return f"{reason.share:.0%} from {title}"


def describe_song(song: pb.Song) -> str:
    """Return the popularity and the extra fields of a song."""
    parts = [format_count(song.playlists, "playlist")]
    for name in sorted(song.extra):
        value = str(describe_value(song.extra[name]))
        # A boolean is stored as "true" or "false": show the name of a field that is true.
        parts.append({"true": name, "false": ""}.get(value, value))
    return " · ".join(filter(None, parts))


def describe_emptiness(response: pb.RecommendResponse) -> str:
    """Return a sentence that says why a response has no songs, or "" if it has songs."""
    if response.songs:
        return ""
    return EMPTY_REASONS.get(response.empty_reason, "No song was found.")


def set_busy(element: Element, *, is_busy: bool) -> None:
    """Mark an element while its content is being computed."""
    set_class(element, "busy", on=is_busy)
