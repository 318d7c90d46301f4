"""Print responses of the API, as tables for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import json_format
from rich.markup import escape

from catalog.console.tables import Console, Table
from catalog.console.terminal import one_line, print_json
from catalog.song import full_name
from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

_STRATEGIES = {
    pb.STRATEGY_SEEDS: "from the songs of the playlist",
    pb.STRATEGY_ARTISTS: "from other songs of its artists, because no song of the playlist is "
    "in any training playlist",
    pb.STRATEGY_POPULAR: "the most popular songs, because neither a song of the playlist nor "
    "another of its artists was found",
}
_EMPTY_REASONS = {
    pb.EMPTY_REASON_UNSPECIFIED: "No song was found.",
    pb.EMPTY_REASON_FILTER: "No song was found: no song passes the filter.",
    pb.EMPTY_REASON_SEEDS: "No song was found: some songs pass the filter, but none of them is "
    "related to the given songs.",
}
_MODES = {
    pb.MODE_DENSE: "dense",
    pb.MODE_COOCCURRENCE: "cooccurrence",
    pb.MODE_HYBRID: "hybrid",
    pb.MODE_RANKED: "ranked",
}
SHOWN_REASONS = 3  # seeds shown as the reasons for a song


def print_message(message: Message) -> None:
    """Print a message as JSON, with all its fields."""
    print_json(
        json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )


def describe_other_mode(request: pb.RecommendRequest, response: pb.RecommendResponse) -> str:
    """Return a sentence if the service used a mode other than the requested one, else ""."""
    requested, used = request.mode, response.mode
    if requested == pb.MODE_UNSPECIFIED or used in {requested, pb.MODE_UNSPECIFIED}:
        return ""
    if requested == pb.MODE_RANKED and used == pb.MODE_HYBRID:
        reason = (
            "the release has no ranker (train it with `nextsong ingest run --ranker`), or LightGBM "
            "cannot be loaded"
        )
    elif requested == pb.MODE_RANKED:
        reason = (
            "it needs a ranker (train it with `nextsong ingest run --ranker`), and songs of "
            "training playlists"
        )
    else:
        reason = "the given songs, or the whole release, lack the data that it needs"
    return f"--mode {_MODES[requested]} could not be used, and {_MODES[used]} was: {reason}"


def print_recommendations(request: pb.RecommendRequest, response: pb.RecommendResponse) -> None:
    """Print the resolved playlist, and the songs that come next."""
    console = Console()
    playlist = Table("After", show_header=False)
    for seed, resolved in zip(request.seeds, response.seeds, strict=True):
        name, note = _describe_seed(seed, resolved)
        playlist.add_row(f"unlike {name}" if seed.weight < 0 else name, note)
    console.print(playlist)
    if response.songs:
        title = f"Next, {_STRATEGIES[response.strategy]}"
        console.print(_build_scored_table(title, response.songs))
    for scored in response.songs:
        if scored.reasons:
            console.print(f"  {_describe_reasons(request, response, scored)}", style="dim")
    _print_footer(console, response)


def print_similar_songs(response: pb.SimilarSongsResponse) -> None:
    """Print the songs nearest to a song."""
    console = Console()
    if response.songs:
        title = f"Near {_name_song(response.song)}"
        console.print(_build_scored_table(title, response.songs))
    _print_footer(console, response)


def print_search_results(
    request: pb.SearchSongsRequest, response: pb.SearchSongsResponse, *, is_fuzzy: bool
) -> None:
    """Print the songs found by name.

    `is_fuzzy` says whether the user asked for similar names. If the user did not, but the request
    is fuzzy, no song had the words of the query, and the response has songs with similar names.
    """
    console = Console()
    has_words = is_fuzzy or not request.fuzzy
    if not (has_words and response.songs):
        query = request.query
        console.print(
            escape(f"No song has, in its artist or title, a word that begins with each of: {query}")
        )
    if response.songs:
        title = "Found" if has_words else "Did you mean"
        console.print(_build_table(title, response.songs, response.similarities, "similarity"))
    _print_release(console, response.release)


def _describe_reasons(
    request: pb.RecommendRequest, response: pb.RecommendResponse, scored: pb.ScoredSong
) -> str:
    """Return a line that names a song and the seeds with the largest shares in its score.

    If most of a share comes from a content field, such as the artist, the line names the field.
    """
    names = []
    for reason in scored.reasons[:SHOWN_REASONS]:
        name, _ = _describe_seed(request.seeds[reason.seed], response.seeds[reason.seed])
        field = max(reason.content, key=lambda name: reason.content[name], default="")
        if field and reason.content[field] > reason.share / 2:
            name = f"the {escape(field)} of {name}"
        names.append(f"{name} ({reason.share:.0%})")
    name = one_line(scored.song.title or scored.song.song_id)
    return f"{escape(name)}: because of {', '.join(names)}"


def _describe_seed(seed: pb.Seed, resolved: pb.ResolvedSeed) -> tuple[str, str]:
    """Return the name of a seed, and a note if the catalog does not have the song, else ""."""
    if resolved.resolution == pb.RESOLUTION_SONG:
        return escape(one_line(_name_song(resolved.song))), ""
    name = one_line(full_name(seed.artist, seed.title) or seed.song_id)
    note = "not in the catalog"
    if resolved.resolution == pb.RESOLUTION_ARTIST:
        note += "; its artist is"
    if resolved.suggestions:
        similar = one_line(_name_song(resolved.suggestions[0].song))
        note += f"; did you mean {escape(similar)}?"
    return escape(name), f"[yellow]{note}[/]"


def _name_song(song: pb.Song) -> str:
    """Return the artist and title of a song, or its id if it has neither."""
    return full_name(song.artist, song.title) or song.song_id


def _build_scored_table(title: str, hits: Sequence[pb.ScoredSong]) -> Table:
    return _build_table(title, [hit.song for hit in hits], [hit.score for hit in hits])


def _build_table(
    title: str,
    songs: Sequence[pb.Song],
    scores: Sequence[float] = (),
    score_name: str = "score",
) -> Table:
    """Return a table of songs. If no song has an artist, the table has no column for artists."""
    has_artists = any(song.artist for song in songs)
    table = Table(escape(title))
    table.add_column("#", justify="right", style="dim")
    if has_artists:
        table.add_column("artist", style="bold")
    table.add_column("title")
    table.add_column("playlists", justify="right")
    if scores:
        table.add_column(score_name, justify="right")
    for rank, song in enumerate(songs, start=1):
        names = [song.artist] if has_artists else []
        names.append(song.title or song.song_id)
        cells = [str(rank), *map(escape, names), f"{song.playlists:,}"]
        table.add_row(*cells, *([f"{scores[rank - 1]:.3f}"] if scores else []))
    return table


def _print_footer(
    console: Console, response: pb.RecommendResponse | pb.SimilarSongsResponse
) -> None:
    if not response.songs:
        console.print(_EMPTY_REASONS[response.empty_reason])
    _print_release(console, response.release)


def _print_release(console: Console, release: str) -> None:
    console.print(f"  release {release}", style="dim")
