"""The questions to ask: `nextsong recommend`, `similar` and `search`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from catalog.commands.options import (
    Decimal,
    Text,
    home_option,
    json_option,
    one_line_errors,
    qdrant_server,
)
from catalog.terminal import echo
from service.client.target import running_service
from service.client.usage_errors import request_errors_as_usage

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from nextsong.v1 import recommender_pb2 as pb
    from service.client.client import Client, Direct
    from service.client.target import Target


class Condition(Text):
    """A condition that is written like one; whether it suits the release shows later."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or fail."""
        from catalog.errors import RequestError
        from service.api.conditions import require_condition

        text = super().convert(value, param, ctx)
        try:
            require_condition(text)
        except RequestError as error:
            self.fail(error.problem, param, ctx)
        return text


song_argument = click.argument("song", type=Text())
limit_option = click.option(
    "--limit",
    "-n",
    default=10,
    show_default=True,
    type=click.IntRange(1, 500),
    help="How many songs.",
)
filter_option = click.option(
    "--filter",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    type=Condition(),
    help="What an extra field must hold: 'year>=1990', 'year<=1999', 'genre=rock|pop', "
    "'genre!=live' or 'album~best of'. May be given several times.",
)


@click.command(short_help="Say which songs come next in a playlist.")
@click.argument("songs", nargs=-1, required=True, metavar="SONG...", type=Text())
@running_service
@home_option
@qdrant_server
@limit_option
@click.option(
    "--include-artist", multiple=True, metavar="ARTIST", type=Text(), help="Only these artists."
)
@click.option(
    "--exclude-artist", multiple=True, metavar="ARTIST", type=Text(), help="None of these artists."
)
@click.option(
    "--mode",
    type=click.Choice(["auto", "dense", "cooccurrence", "hybrid", "ranked"]),
    default="auto",
    show_default=True,
    help="Rank by Word2Vec vectors, by co-occurrence, by both, or by the ranker.",
)
@filter_option
@click.option(
    "--unlike",
    multiple=True,
    metavar="SONG",
    type=Text(),
    help="Push away what is like this song; it is not recommended either.",
)
@click.option(
    "--max-per-artist",
    default=0,
    show_default=True,
    type=click.IntRange(0, 500),
    help="At most this many songs of one artist; 0: no bound.",
)
@click.option(
    "--diversity",
    default=0.0,
    show_default=True,
    type=Decimal(0, 1),
    help="How unlike each other the songs should be: 0, only the fit counts, to 1.",
)
@click.option("--explain", is_flag=True, help="Say which songs brought each one in.")
@json_option
@one_line_errors
@request_errors_as_usage
def recommend(
    songs: tuple[str, ...],
    target: Target | None,
    home: Path,
    qdrant: QdrantOptions | None,
    limit: int,
    include_artist: tuple[str, ...],
    exclude_artist: tuple[str, ...],
    mode: str,
    conditions: tuple[str, ...],
    unlike: tuple[str, ...],
    max_per_artist: int,
    diversity: float,
    explain: bool,
    as_json: bool,
) -> None:
    """Say which songs come next in a playlist.

    Each SONG is "Artist - Title", a title alone that only one song has, or a song id, in play
    order, the most recent last.
    """
    from nextsong.v1 import recommender_pb2 as pb
    from service.client import render

    request = pb.RecommendRequest(
        limit=limit,
        filter=pb.Filter(include_artists=include_artist, exclude_artists=exclude_artist),
        mode="MODE_UNSPECIFIED" if mode == "auto" else f"MODE_{mode.upper()}",
        max_per_artist=max_per_artist,
        diversity=diversity,
        explain=explain,
    )
    with _recommender(target, home, qdrant) as recommender:
        request.seeds.extend(_seeds(recommender, [*songs, *unlike]))
        for seed in request.seeds[len(songs) :]:
            seed.weight = -1
        request.filter.conditions.extend(_conditions(recommender, conditions))
        response = recommender.recommend(request)
    notice = render.other_mode(request, response)
    if notice:
        echo(f"Note: {notice}", err=True)
    if as_json:
        render.as_json(response)
    else:
        render.recommendations(request, response)


@click.command(short_help="List the songs nearest to a song.")
@song_argument
@running_service
@home_option
@qdrant_server
@limit_option
@filter_option
@json_option
@one_line_errors
@request_errors_as_usage
def similar(
    song: str,
    target: Target | None,
    home: Path,
    qdrant: QdrantOptions | None,
    limit: int,
    conditions: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the songs nearest to SONG: "Artist - Title", a title alone, or a song id."""
    from nextsong.v1 import recommender_pb2 as pb
    from service.client import render

    with _recommender(target, home, qdrant) as recommender:
        (seed,) = _seeds(recommender, [song])
        where = pb.Filter(conditions=_conditions(recommender, conditions))
        response = recommender.similar_songs(
            pb.SimilarSongsRequest(song=seed, limit=limit, filter=where)
        )
    if as_json:
        render.as_json(response)
    else:
        render.similar_songs(response)


@click.command(short_help="Find songs by part of their names.")
@click.argument("words", nargs=-1, required=True, metavar="WORD...", type=Text())
@running_service
@home_option
@qdrant_server
@limit_option
@json_option
@one_line_errors
@request_errors_as_usage
def search(
    words: tuple[str, ...],
    target: Target | None,
    home: Path,
    qdrant: QdrantOptions | None,
    limit: int,
    as_json: bool,
) -> None:
    """Find songs in whose artist or title a word begins with each WORD."""
    from nextsong.v1 import recommender_pb2 as pb
    from service.client import render

    with _recommender(target, home, qdrant) as recommender:
        response = recommender.search_songs(
            pb.SearchSongsRequest(query=" ".join(words), limit=limit)
        )
    if as_json:
        render.as_json(response)
    else:
        render.found_songs(" ".join(words), response)


def _recommender(
    target: Target | None, home: Path, qdrant: QdrantOptions | None
) -> Client | Direct:
    if target:
        return target.client()
    from catalog.open_store import open_store
    from service.client.client import Direct

    return Direct(open_store(home, qdrant).open())


def _conditions(recommender: Client | Direct, written: tuple[str, ...]) -> list[pb.Condition]:
    from service.api.conditions import conditions_of

    if not written:
        return []
    return conditions_of(written, recommender.get_release().release.payload_fields)


def _seeds(recommender: Client | Direct, texts: list[str]) -> list[pb.Seed]:
    from service.client.seed_texts import SeedTextError, seeds_of

    try:
        return seeds_of(recommender, texts)
    except SeedTextError as error:
        raise click.BadParameter(str(error), param_hint="SONG") from error
