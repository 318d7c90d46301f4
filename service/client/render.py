"""Answers as a person likes to read them, and as programs do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import json_format
from rich.markup import escape

from catalog.tables import Console, Table
from catalog.terminal import one_line, print_json
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.message import Message

_STRATEGIES = {
    pb.STRATEGY_SEEDS: "from the songs of the playlist",
    pb.STRATEGY_ARTISTS: "no song of the playlist is known: from other songs of its artists",
    pb.STRATEGY_POPULAR: "neither its songs nor their artists are known: the most popular songs",
}
_EMPTY = {
    pb.EMPTY_REASON_UNSPECIFIED: "No song was found.",
    pb.EMPTY_REASON_FILTER: "No song was found: none passes the filter.",
    pb.EMPTY_REASON_SEEDS: "No song was found: songs pass the filter, but the songs that were "
    "given lead to none of them.",
}
_MODES = {
    pb.MODE_DENSE: "dense",
    pb.MODE_COOCCURRENCE: "cooccurrence",
    pb.MODE_HYBRID: "hybrid",
    pb.MODE_RANKED: "ranked",
}


def as_json(message: Message) -> None:
    """Print a message as JSON, every field given."""
    print_json(
        json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )


def other_mode(request: pb.RecommendRequest, response: pb.RecommendResponse) -> str:
    """Return a sentence if another mode answered than the request names, else ""."""
    asked, answered = request.mode, response.mode
    if asked == pb.MODE_UNSPECIFIED or answered in {asked, pb.MODE_UNSPECIFIED}:
        return ""
    if asked == pb.MODE_RANKED and answered == pb.MODE_HYBRID:
        why = "the release has no ranker, or it cannot be run here (`nextsong ingest run --ranker`)"
    elif asked == pb.MODE_RANKED:
        why = "it takes a ranker (`nextsong ingest run --ranker`), and songs that have a vector"
    else:
        why = "the songs that were given, or the whole release, lack what that mode needs"
    return f"--mode {_MODES[asked]} was asked for, and {_MODES[answered]} answered: {why}"


def recommendations(request: pb.RecommendRequest, response: pb.RecommendResponse) -> None:
    """Print the playlist as it was understood, and the songs that come next."""
    console = Console()
    after = Table("After", show_header=False)
    for asked, resolved in zip(request.seeds, response.seeds, strict=True):
        name, note = _understood(asked, resolved)
        after.add_row(f"unlike {name}" if asked.weight < 0 else name, note)
    console.print(after)
    if response.songs:
        title = f"Next, {_STRATEGIES[response.strategy]}"
        console.print(_scored(title, response.songs))
    for scored in response.songs:
        if scored.reasons:
            console.print(f"  {_because(request, response, scored)}", style="dim")
    _say_release(console, response.release, response.empty_reason, empty=not response.songs)


def similar_songs(response: pb.SimilarSongsResponse) -> None:
    """Print the songs nearest to one."""
    console = Console()
    if response.songs:
        title = f"Near {response.song.artist} - {response.song.title}"
        console.print(_scored(title, response.songs))
    _say_release(console, response.release, response.empty_reason, empty=not response.songs)


def found_songs(query: str, response: pb.SearchSongsResponse) -> None:
    """Print the songs found by name."""
    console = Console()
    if response.songs:
        console.print(_songs("Found", response.songs))
    else:
        console.print(
            escape(
                f"No song was found: in no artist and title together does a word begin with each "
                f"of: {query}"
            )
        )
    _say_release(console, response.release, empty=False)


def _because(
    request: pb.RecommendRequest, response: pb.RecommendResponse, scored: pb.ScoredSong
) -> str:
    """The song and the three seeds that did most to bring it in."""
    named = []
    for reason in scored.reasons[:3]:
        name, _ = _understood(request.seeds[reason.seed], response.seeds[reason.seed])
        named.append(f"{name} ({reason.share:.0%})")
    return f"{escape(one_line(scored.song.title))}: because of {', '.join(named)}"


def _understood(asked: pb.Seed, resolved: pb.ResolvedSeed) -> tuple[str, str]:
    name = one_line(f"{asked.artist} - {asked.title}" if asked.title else asked.song_id)
    if resolved.resolution == pb.RESOLUTION_SONG:
        return escape(one_line(f"{resolved.song.artist} - {resolved.song.title}")), ""
    if resolved.resolution == pb.RESOLUTION_ARTIST:
        return escape(name), "[yellow]not in the catalog; its artist is[/]"
    return escape(name), "[yellow]not in the catalog[/]"


def _scored(title: str, hits: Iterable[pb.ScoredSong]) -> Table:
    hits = list(hits)
    return _songs(title, [hit.song for hit in hits], [hit.score for hit in hits])


def _songs(title: str, songs: Iterable[pb.Song], scores: Sequence[float] = ()) -> Table:
    table = Table(escape(title))
    table.add_column("#", justify="right", style="dim")
    table.add_column("artist", style="bold")
    table.add_column("title")
    table.add_column("playlists", justify="right")
    if scores:
        table.add_column("score", justify="right")
    for place, song in enumerate(songs, start=1):
        cells = [str(place), escape(song.artist), escape(song.title), f"{song.playlists:,}"]
        table.add_row(*cells, *([f"{scores[place - 1]:.3f}"] if scores else []))
    return table


def _say_release(
    console: Console,
    release: str,
    reason: pb.EmptyReason = pb.EMPTY_REASON_UNSPECIFIED,
    *,
    empty: bool,
) -> None:
    if empty:
        console.print(_EMPTY[reason])
    console.print(f"  release {release}", style="dim")
