"""The commands `nextsong recommend`, `similar` and `search`."""

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
from catalog.console.terminal import echo
from service.client.target import service_options
from service.client.usage_errors import request_errors_as_usage

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.server.options import QdrantOptions
    from nextsong.v1 import recommender_pb2 as pb
    from service.api.conditions import WrittenCondition
    from service.client.client import Client, Direct
    from service.client.target import Target


class ConditionType(click.ParamType["WrittenCondition"]):
    """The type of `--filter`, which checks the syntax of a condition such as `year>=1990`.

    Whether the release has the field is checked later, when the release is open.
    """

    name = "text"

    def convert(
        self,
        value: str | WrittenCondition,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> WrittenCondition:
        """Return the parsed condition. Fails with a usage error if the syntax is wrong."""
        from catalog.errors import RequestError
        from service.api.conditions import parse_condition

        if not isinstance(value, str):
            return value
        try:
            return parse_condition(Text().convert(value, param, ctx))
        except RequestError as error:
            self.fail(error.problem, param, ctx)


SUGGESTIONS = 5
"""Number of songs with similar names that are listed for a song that the catalog does not have."""

NO_SPELLING = (
    "this release does not find misspelt names, because an older nextsong published it: publish "
    "again with `nextsong ingest run FILE`"
)

song_argument = click.argument("song", type=Text())
limit_option = click.option(
    "--limit",
    "-n",
    default=10,
    show_default=True,
    type=click.IntRange(1, 500),
    help="Number of songs.",
)
versions_option = click.option(
    "--allow-versions",
    is_flag=True,
    help="Allow versions of the given songs (remaster, radio edit, live, other guests), and more "
    "than one version of a song.",
)
filter_option = click.option(
    "--filter",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    type=ConditionType(),
    help="Only songs whose extra field matches: 'year>=1990', 'year<=1999', 'genre=rock|pop', "
    "'genre!=live' or 'album~best of'. May be given several times.",
)


@click.command(short_help="Recommend the songs that come next in a playlist.")
@click.argument("songs", nargs=-1, required=True, metavar="SONG...", type=Text())
@service_options
@home_option
@qdrant_server
@limit_option
@click.option(
    "--include-artist",
    multiple=True,
    metavar="ARTIST",
    type=Text(),
    help="Only songs of these artists.",
)
@click.option(
    "--exclude-artist",
    multiple=True,
    metavar="ARTIST",
    type=Text(),
    help="No songs of these artists.",
)
@click.option(
    "--mode",
    type=click.Choice(["auto", "dense", "cooccurrence", "hybrid", "ranked"]),
    default="auto",
    show_default=True,
    help="Rank by Word2Vec vectors, by co-occurrence, by both, or by the re-ranker. auto is the "
    "mode selected when the release was trained.",
)
@filter_option
@click.option(
    "--unlike",
    multiple=True,
    metavar="SONG",
    type=Text(),
    help="Make songs similar to SONG less likely. SONG itself is not recommended.",
)
@click.option(
    "--max-per-artist",
    default=0,
    show_default=True,
    type=click.IntRange(0, 500),
    help="Maximum number of songs of one artist; 0 for no maximum.",
)
@click.option(
    "--min-artist-gap",
    default=0,
    show_default=True,
    type=click.IntRange(0, 500),
    help="Minimum number of other songs between two songs of one artist; 1 for never two in a row.",
)
@versions_option
@click.option(
    "--diversity",
    default=0.0,
    show_default=True,
    type=Decimal(0, 1),
    help="How different from each other the songs should be, from 0 (relevance only) to 1.",
)
@click.option("--explain", is_flag=True, help="Show which songs of the playlist led to each song.")
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
    conditions: tuple[WrittenCondition, ...],
    unlike: tuple[str, ...],
    max_per_artist: int,
    min_artist_gap: int,
    allow_versions: bool,
    diversity: float,
    explain: bool,
    as_json: bool,
) -> None:
    """Recommend the songs that come next in a playlist.

    Each SONG is "Artist - Title", the title of a song that has no artist, a title that only one
    song has, or a song id. The songs are given in play order, the most recent last. A misspelt name
    is corrected if it can mean only one song. If it can mean several songs, you are asked which one
    if the command runs on a terminal.
    """
    from nextsong.v1 import recommender_pb2 as pb
    from service.client import render

    request = pb.RecommendRequest(
        limit=limit,
        filter=pb.Filter(include_artists=include_artist, exclude_artists=exclude_artist),
        mode="MODE_UNSPECIFIED" if mode == "auto" else f"MODE_{mode.upper()}",
        max_per_artist=max_per_artist,
        min_artist_gap=min_artist_gap,
        allow_versions=allow_versions,
        diversity=diversity,
        explain=explain,
        suggestions=SUGGESTIONS,
    )
    with _open_recommender(target, home, qdrant) as recommender:
        request.seeds.extend(_resolve_seeds(recommender, [*songs, *unlike], is_json=as_json))
        for seed in request.seeds[len(songs) :]:
            seed.weight = -1
        request.filter.conditions.extend(_build_conditions(recommender, conditions))
        response = recommender.recommend(request)
    note = render.describe_other_mode(request, response)
    if note:
        echo(f"Note: {note}", err=True)
    if as_json:
        render.print_message(response)
    else:
        render.print_recommendations(request, response)


@click.command(short_help="List the songs nearest to a song.")
@song_argument
@service_options
@home_option
@qdrant_server
@limit_option
@filter_option
@versions_option
@json_option
@one_line_errors
@request_errors_as_usage
def similar(
    song: str,
    target: Target | None,
    home: Path,
    qdrant: QdrantOptions | None,
    limit: int,
    conditions: tuple[WrittenCondition, ...],
    allow_versions: bool,
    as_json: bool,
) -> None:
    """List the songs nearest to SONG.

    SONG is "Artist - Title", the title of a song that has no artist, a title that only one song
    has, or a song id. A misspelt name is corrected as by `nextsong recommend`.
    """
    from nextsong.v1 import recommender_pb2 as pb
    from service.client import render

    with _open_recommender(target, home, qdrant) as recommender:
        (seed,) = _resolve_seeds(recommender, [song], is_json=as_json)
        where = pb.Filter(conditions=_build_conditions(recommender, conditions))
        response = recommender.similar_songs(
            pb.SimilarSongsRequest(
                song=seed, limit=limit, filter=where, allow_versions=allow_versions
            )
        )
    if as_json:
        render.print_message(response)
    else:
        render.print_similar_songs(response)


@click.command(short_help="Find songs by part of their artist or title.")
@click.argument("words", nargs=-1, required=True, metavar="WORD...", type=Text())
@service_options
@home_option
@qdrant_server
@limit_option
@click.option(
    "--fuzzy",
    is_flag=True,
    help="Also find songs with similar names, and list the most similar first.  [default: only if "
    "no song has the words]",
)
@json_option
@one_line_errors
@request_errors_as_usage
def search(
    words: tuple[str, ...],
    target: Target | None,
    home: Path,
    qdrant: QdrantOptions | None,
    limit: int,
    fuzzy: bool,
    as_json: bool,
) -> None:
    """Find songs by the beginnings of words in their artist and title.

    A song is found if each WORD is the beginning of a word in the artist or the title. If no song
    is found, songs with similar names are listed.
    """
    from nextsong.v1 import recommender_pb2 as pb
    from service.client import render

    request = pb.SearchSongsRequest(query=" ".join(words), limit=limit, fuzzy=fuzzy)
    has_spelling = True
    with _open_recommender(target, home, qdrant) as recommender:
        response = recommender.search_songs(request)
        if not response.songs and not fuzzy:
            request.fuzzy = True
            response = recommender.search_songs(request)
        if request.fuzzy:
            has_spelling = recommender.get_release().release.has_spelling
    if not has_spelling:
        echo(f"Note: {NO_SPELLING}", err=True)
    if as_json:
        render.print_message(response)
    else:
        render.print_search_results(request, response, is_fuzzy=fuzzy)


def _open_recommender(
    target: Target | None, home: Path, qdrant: QdrantOptions | None
) -> Client | Direct:
    if target:
        return target.connect()
    from catalog.open_store import open_store
    from service.client.client import Direct

    return Direct(open_store(home, qdrant).open())


def _build_conditions(
    recommender: Client | Direct, conditions: tuple[WrittenCondition, ...]
) -> list[pb.Condition]:
    from service.api.conditions import build_conditions

    if not conditions:
        return []
    return build_conditions(conditions, recommender.get_release().release.payload_fields)


def _resolve_seeds(
    recommender: Client | Direct, texts: list[str], *, is_json: bool
) -> list[pb.Seed]:
    from service.client.questions import ask_for_song, is_interactive
    from service.client.seed_texts import Corrections, SeedTextError, resolve_texts

    corrections = Corrections(
        tell=lambda text: echo(f"Note: {text}", err=True),
        ask=ask_for_song if is_interactive() and not is_json else None,
        accepts_doubt=is_json,
    )
    try:
        return resolve_texts(recommender, texts, corrections)
    except SeedTextError as error:
        raise click.BadParameter(str(error), param_hint="SONG") from error
