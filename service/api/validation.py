"""Messages of the API as queries: the one place where the input of callers is checked.

Everything raises `RequestError`, naming the field that is malformed or out of range. Every text has
an upper bound, which is checked before any work on the text; long requests let other calls have
their turn.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import RequestError
from catalog.model import Condition, Filter
from catalog.song import normalise
from catalog.turns import turn
from nextsong.v1 import recommender_pb2 as pb
from service.recommend.engine import Mode, Query
from service.recommend.seeds import Seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from catalog.model import Value
    from catalog.schema import Kind

DEFAULT_LIMIT = 10
MOST_SONGS = 500
MOST_SEEDS = 1_000
MOST_ARTISTS = 1_000
MOST_EXCLUDED = 10_000
MOST_CONDITIONS = 50
MOST_VALUES = 1_000
MOST_PLAYLISTS = 100
MOST_SEEDS_OF_ALL = 10_000
MOST_SONGS_OF_ALL = 10_000
LONGEST_NAME = 512
"""Characters of an artist or a title, as it is given and normalised. Unicode normalisation takes
time in proportion to the square of a run of combining marks, so this bounds it to a millisecond;
and it may turn one character into eighteen."""
LONGEST_VALUE = 2_048
"""Characters of a text that a keyword field is compared with."""
LONGEST_QUERY = 200
"""Characters of words to search for."""
LONGEST_USER = 256
"""Characters of the name of a user."""
FASTEST_CLOCK_MS = 60_000
HEAVIEST_SEED = 1_000.0

MODES = {
    pb.MODE_DENSE: Mode.DENSE,
    pb.MODE_COOCCURRENCE: Mode.COOCCURRENCE,
    pb.MODE_HYBRID: Mode.HYBRID,
    pb.MODE_RANKED: Mode.RANKED,
}
# What each kind of field can be asked, and the kinds of value that it is compared with.
_SUITS: Mapping[Kind, tuple[set[str], set[str]]] = {
    "keyword": ({"any_of", "none_of"}, {"text", "boolean"}),
    "integer": ({"any_of", "none_of", "minimum", "maximum"}, {"integer"}),
    "float": ({"minimum", "maximum"}, set()),
    "text": ({"text"}, set()),
}
_UUID = re.compile("[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def work_of(request: object) -> int:
    """How much a request asks for, before it is checked: 0 if that does not depend on it."""
    if isinstance(request, pb.BatchRecommendRequest):
        return sum(work_of(one) for one in request.requests[: MOST_PLAYLISTS + 1])
    if isinstance(request, pb.RecommendRequest):
        limit = min(max(0, request.limit) or DEFAULT_LIMIT, MOST_SONGS)
        varied = bool(request.diversity or request.max_per_artist)
        return work_of_query(len(request.seeds), limit, varied=varied)
    return len(request.plays) if isinstance(request, pb.RecordPlaysRequest) else 0


def work_of_query(seeds: int, limit: int, *, varied: bool) -> int:
    """How much a playlist asks for: its seeds, and the songs that have to be looked at.

    `varied` answers, which leave out songs for others, are chosen from five times as many.
    """
    return seeds + limit * (5 if varied else 1)


async def ask_of(
    request: pb.RecommendRequest, payload: Mapping[str, Kind], prefix: str = ""
) -> Query:
    """The playlist to continue; `payload` says which extra fields its filter may name."""
    if not request.seeds:
        raise RequestError(f"{prefix}seeds", "must hold at least one song")
    _at_most(f"{prefix}seeds", request.seeds, MOST_SEEDS)
    seeds = []
    for place, seed in enumerate(request.seeds):
        seeds.append(seed_of(f"{prefix}seeds[{place}]", seed))
        await turn()
    _require_spread(f"{prefix}seeds", (seed.song_id for seed in seeds))
    limit = limit_of(request.limit, f"{prefix}limit")
    if request.mode and request.mode not in MODES:
        raise RequestError(f"{prefix}mode", f"{request.mode} is none of the modes there are")
    if request.max_per_artist > MOST_SONGS:
        raise RequestError(f"{prefix}max_per_artist", f"must be at most {MOST_SONGS}")
    if not 0 <= request.diversity <= 1:
        raise RequestError(f"{prefix}diversity", "must be from 0 to 1")
    return Query(
        seeds,
        limit,
        await filter_of(request.filter, payload, f"{prefix}filter"),
        MODES.get(request.mode),
        request.max_per_artist,
        request.diversity,
        request.explain,
    )


async def asks_of(
    request: pb.BatchRecommendRequest, payload: Mapping[str, Kind]
) -> AsyncIterator[Query]:
    """The playlists to continue, one after another: what is too much in all is said first."""
    if not request.requests:
        raise RequestError("requests", "must hold at least one playlist")
    _at_most("requests", request.requests, MOST_PLAYLISTS)
    for place, one in enumerate(request.requests):
        if one.user_id:
            raise RequestError(f"requests[{place}].user_id", "is not allowed in a batch")
    limits = (one.limit or DEFAULT_LIMIT for one in request.requests)
    for name, total, most in (
        ("seeds", sum(len(one.seeds) for one in request.requests), MOST_SEEDS_OF_ALL),
        ("songs to answer with", sum(limit for limit in limits if limit > 0), MOST_SONGS_OF_ALL),
    ):
        if total > most:
            raise RequestError("requests", f"may have {most:,} {name} in all, and have {total:,}")
    for place, one in enumerate(request.requests):
        yield await ask_of(one, payload, f"requests[{place}].")


def user_of(user_id: str) -> str:
    """Whose plays are meant."""
    if not 1 <= len(user_id) <= LONGEST_USER:
        raise RequestError("user_id", f"must have 1 to {LONGEST_USER} characters")
    return user_id


async def plays_of(request: pb.RecordPlaysRequest) -> list[tuple[Seed, int]]:
    """Songs that were heard, and when, in milliseconds since 1970."""
    if not request.plays:
        raise RequestError("plays", "must hold at least one")
    _at_most("plays", request.plays, MOST_SEEDS)
    now = time.time_ns() // 1_000_000
    plays = []
    for place, play in enumerate(request.plays):
        if not 0 <= play.at_ms <= now + FASTEST_CLOCK_MS:
            raise RequestError(f"plays[{place}].at_ms", "must be from 1970 to now")
        # Plays without a time were heard in the order in which they are told.
        at_ms = play.at_ms or now - (len(request.plays) - 1 - place)
        plays.append((song_of(f"plays[{place}].song", play.song), at_ms))
        await turn()
    _require_spread("plays", (seed.song_id for seed, _ in plays))
    return plays


def seed_of(field: str, seed: pb.Seed) -> Seed:
    """A song of a playlist, named by id, or by artist and title, with its weight."""
    weight = seed.weight if seed.HasField("weight") else 1.0
    if not (weight and -HEAVIEST_SEED <= weight <= HEAVIEST_SEED):
        most = f"{HEAVIEST_SEED:g}"
        raise RequestError(f"{field}.weight", f"must be from -{most} to {most}, and not 0")
    return song_of(field, seed, weight)


def song_of(field: str, seed: pb.Seed, weight: float = 1.0) -> Seed:
    """A song that is named by id, or by artist and title; the weight that it brings is not used."""
    song_id = _uuid(f"{field}.song_id", seed.song_id) if seed.song_id else None
    _no_longer(f"{field}.artist", seed.artist, LONGEST_NAME)
    _no_longer(f"{field}.title", seed.title, LONGEST_NAME)
    named = Seed(song_id, seed.artist, seed.title, weight)
    for name, key in (("artist", named.artist_key), ("title", named.title_key)):
        _no_longer(f"{field}.{name}", key, LONGEST_NAME)
        if not (key or song_id):
            raise RequestError(f"{field}.{name}", "must be given where there is no song_id")
    return named


async def filter_of(given: pb.Filter, payload: Mapping[str, Kind], field: str = "filter") -> Filter:
    """Which songs may be recommended."""
    _at_most(f"{field}.exclude_song_ids", given.exclude_song_ids, MOST_EXCLUDED)
    if given.max_playlists and given.min_playlists > given.max_playlists:
        raise RequestError(f"{field}.min_playlists", f"must not be above {field}.max_playlists")
    _at_most(f"{field}.conditions", given.conditions, MOST_CONDITIONS)
    excluded = [
        _uuid(f"{field}.exclude_song_ids[{place}]", value)
        for place, value in enumerate(given.exclude_song_ids)
    ]
    _require_spread(f"{field}.exclude_song_ids", excluded)
    conditions = []
    for place, condition in enumerate(given.conditions):
        conditions.append(_condition(f"{field}.conditions[{place}]", condition, payload))
        await turn()
    return Filter(
        include_artists=await _artists(f"{field}.include_artists", given.include_artists),
        exclude_artists=await _artists(f"{field}.exclude_artists", given.exclude_artists),
        exclude_songs=frozenset(excluded),
        min_playlists=given.min_playlists,
        max_playlists=given.max_playlists,
        conditions=tuple(conditions),
    )


def query_of(query: str) -> str:
    """Words to find songs by."""
    _no_longer("query", query, LONGEST_QUERY)
    if not normalise(query):
        raise RequestError("query", "must hold at least one word")
    return query


def limit_of(limit: int, field: str = "limit") -> int:
    """How many songs to answer with."""
    if not 0 <= limit <= MOST_SONGS:
        raise RequestError(field, f"must be from 1 to {MOST_SONGS}, or 0 for {DEFAULT_LIMIT}")
    return limit or DEFAULT_LIMIT


def _condition(field: str, given: pb.Condition, payload: Mapping[str, Kind]) -> Condition:
    if given.field not in payload:
        there_are = ", ".join(f"{name} ({kind})" for name, kind in sorted(payload.items()))
        raise RequestError(
            f"{field}.field",
            f"'{given.field[:40]}' is no extra field of this release; there are: "
            f"{there_are or 'none'}",
        )
    kind = payload[given.field]
    asked = {descriptor.name for descriptor, _ in given.ListFields()} - {"field"}
    if not asked:
        raise RequestError(field, "must ask for something")
    suits, compared_with = _SUITS[kind]
    for name in sorted(asked - suits):
        raise RequestError(
            f"{field}.{name}",
            f"does not suit '{given.field}', a field of the kind {kind}; what does: "
            f"{', '.join(sorted(suits))}",
        )
    minimum = _bound(f"{field}.minimum", given.minimum) if given.HasField("minimum") else None
    maximum = _bound(f"{field}.maximum", given.maximum) if given.HasField("maximum") else None
    if minimum is not None and maximum is not None and minimum > maximum:
        raise RequestError(f"{field}.minimum", f"must not be above {field}.maximum")
    _no_longer(f"{field}.text", given.text, LONGEST_QUERY)
    if given.text and not normalise(given.text):
        raise RequestError(f"{field}.text", "must hold at least one word")
    return Condition(
        given.field,
        any_of=_values(f"{field}.any_of", given.any_of, kind, compared_with),
        none_of=_values(f"{field}.none_of", given.none_of, kind, compared_with),
        minimum=minimum,
        maximum=maximum,
        text=given.text,
    )


def _values(
    field: str, given: Sequence[pb.Value], kind: Kind, compared_with: set[str]
) -> tuple[Value, ...]:
    _at_most(field, given, MOST_VALUES)
    return tuple(dict.fromkeys(_each_value(field, given, kind, compared_with)))


def _each_value(
    field: str, given: Sequence[pb.Value], kind: Kind, compared_with: set[str]
) -> Iterable[Value]:
    for place, value in enumerate(given):
        chosen = value.WhichOneof("kind")
        if chosen not in compared_with:
            wanted = " or ".join(sorted(compared_with))
            raise RequestError(
                f"{field}[{place}]",
                f"must be {wanted} for a field of the kind {kind}, and is {chosen or 'empty'}",
            )
        _no_longer(f"{field}[{place}].text", value.text, LONGEST_VALUE)
        if chosen == "boolean":
            yield "true" if value.boolean else "false"
        else:
            yield value.integer if chosen == "integer" else value.text


def _bound(field: str, value: float) -> float:
    if not math.isfinite(value):
        raise RequestError(field, "must be finite")
    return value


async def _artists(field: str, names: Sequence[str]) -> frozenset[str]:
    _at_most(field, names, MOST_ARTISTS)
    keys = set()
    for place, name in enumerate(names):
        _no_longer(f"{field}[{place}]", name, LONGEST_NAME)
        key = normalise(name)
        _no_longer(f"{field}[{place}]", key, LONGEST_NAME)
        if not key:
            raise RequestError(f"{field}[{place}]", "must not be empty")
        keys.add(key)
        await turn()
    return frozenset(keys)


def _at_most(field: str, values: Sequence[object], most: int) -> None:
    if len(values) > most:
        raise RequestError(field, f"must hold at most {most:,}, and holds {len(values):,}")


def _no_longer(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise RequestError(field, f"must have at most {most:,} characters, and has {len(text):,}")


def _require_spread(field: str, ids: Iterable[UUID | None]) -> None:
    """Refuse ids that were made to have one hash.

    Python hashes a UUID as a number, without a secret: a set of 10,000 that collide takes many
    seconds. By chance no two of them ever do.
    """
    distinct = {song_id.bytes: hash(song_id) for song_id in ids if song_id}
    if len(set(distinct.values())) < len(distinct):
        raise RequestError(field, "must not hold song ids that were made to collide")


def _uuid(field: str, text: str) -> UUID:
    if not _UUID.fullmatch(text):  # UUID() alone takes signs, blanks and digits of any script
        raise RequestError(field, f"'{text[:40]}' is not a UUID")
    return UUID(text)
