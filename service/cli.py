"""`nextsong serve`, and the questions to ask: `recommend`, `similar` and `search`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import click

from catalog.cli import Text, home_option, one_line_errors

if TYPE_CHECKING:
    from pathlib import Path

    from nextsong.v1 import recommender_pb2 as pb
    from service.client import Client, Direct

song_argument = click.argument("song", type=Text())
address_option = click.option(
    "--address",
    envvar="NEXTSONG_ADDRESS",
    metavar="HOST:PORT",
    show_envvar=True,
    help="Ask a running service.  [default: open the current release in HOME]",
)
limit_option = click.option(
    "--limit",
    "-n",
    default=10,
    show_default=True,
    type=click.IntRange(1, 500),
    help="How many songs.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(short_help="Answer gRPC calls from the current release.")
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=50051,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@one_line_errors
def serve(home: Path, host: str, port: int) -> None:
    """Answer gRPC calls from the current release until stopped."""
    import logging

    from catalog.embedded import EmbeddedHome
    from service import server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def ready(running: server.Server) -> None:
        release = running.release.manifest
        click.echo(
            f"serving release {release.release} ({release.counts.songs:,} songs) "
            f"on {running.address}"
        )

    asyncio.run(server.serve(EmbeddedHome(home), host, port, ready))


@click.command(short_help="Say which songs come next in a playlist.")
@click.argument("songs", nargs=-1, required=True, metavar="SONG...", type=Text())
@address_option
@home_option
@limit_option
@click.option(
    "--include-artist", multiple=True, metavar="ARTIST", type=Text(), help="Only these artists."
)
@click.option(
    "--exclude-artist", multiple=True, metavar="ARTIST", type=Text(), help="None of these artists."
)
@click.option(
    "--mode",
    type=click.Choice(["auto", "dense", "cooccurrence", "hybrid"]),
    default="auto",
    show_default=True,
    help="Rank by Word2Vec vectors, by co-occurrence, or by both.",
)
@json_option
@one_line_errors
def recommend(
    songs: tuple[str, ...],
    address: str | None,
    home: Path,
    limit: int,
    include_artist: tuple[str, ...],
    exclude_artist: tuple[str, ...],
    mode: str,
    as_json: bool,
) -> None:
    """Say which songs come next in a playlist.

    Each SONG is "Artist - Title" or a song id, in play order, the most recent last.
    """
    from nextsong.v1 import recommender_pb2 as pb
    from service import show

    request = pb.RecommendRequest(
        seeds=[_seed(song) for song in songs],
        limit=limit,
        filter=pb.Filter(include_artists=include_artist, exclude_artists=exclude_artist),
        mode="MODE_UNSPECIFIED" if mode == "auto" else f"MODE_{mode.upper()}",
    )
    with _recommender(address, home) as recommender:
        response = recommender.recommend(request)
    if as_json:
        show.as_json(response)
    else:
        show.recommendations(request, response)


@click.command(short_help="List the songs nearest to a song.")
@song_argument
@address_option
@home_option
@limit_option
@json_option
@one_line_errors
def similar(song: str, address: str | None, home: Path, limit: int, as_json: bool) -> None:
    """List the songs nearest to SONG, given as "Artist - Title" or as a song id."""
    from nextsong.v1 import recommender_pb2 as pb
    from service import show

    with _recommender(address, home) as recommender:
        response = recommender.similar_songs(pb.SimilarSongsRequest(song=_seed(song), limit=limit))
    if as_json:
        show.as_json(response)
    else:
        show.similar_songs(response)


@click.command(short_help="Find songs by part of their names.")
@click.argument("words", nargs=-1, required=True, metavar="WORD...", type=Text())
@address_option
@home_option
@limit_option
@json_option
@one_line_errors
def search(
    words: tuple[str, ...],
    address: str | None,
    home: Path,
    limit: int,
    as_json: bool,
) -> None:
    """Find songs in whose artist or title a word begins with each WORD."""
    from nextsong.v1 import recommender_pb2 as pb
    from service import show

    with _recommender(address, home) as recommender:
        response = recommender.search_songs(
            pb.SearchSongsRequest(query=" ".join(words), limit=limit)
        )
    if as_json:
        show.as_json(response)
    else:
        show.found_songs(response)


def _recommender(address: str | None, home: Path) -> Client | Direct:
    from service.client import Client, Direct

    if address:
        return Client(address)
    from catalog.embedded import EmbeddedHome

    return Direct(EmbeddedHome(home).open())


def _seed(song: str) -> pb.Seed:
    from nextsong.v1 import recommender_pb2 as pb

    try:
        return pb.Seed(song_id=str(UUID(song)))
    except ValueError:
        artist, dash, title = song.partition(" - ")
        if not (dash and artist.strip() and title.strip()):
            raise click.BadParameter(
                f"'{song}' is neither \"Artist - Title\" nor a song id"
            ) from None
        return pb.Seed(artist=artist.strip(), title=title.strip())
