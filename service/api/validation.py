"""Parse the messages of the API. Requests are validated here and nowhere else.

If a field is malformed or out of range, the functions raise `RequestError` with the name of the
field. The length of a text is checked before the text is processed. Functions that parse long lists
are asynchronous, so that other calls can proceed meanwhile.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from catalog.errors import RequestError
from catalog.model import Condition, Filter
from catalog.pauses import pause_between
from catalog.song import normalise
from nextsong.v1 import recommender_pb2 as pb
from service.recommend.query import Mode, Query
from service.recommend.seeds import Seed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from catalog.model import Value
    from catalog.schema import Kind

DEFAULT_LIMIT = 10  # songs in a response
MAX_LIMIT = 500  # songs in a response
MAX_SEEDS = 1_000  # songs in a playlist to continue, or plays to record
MAX_ARTISTS = 1_000  # artists in each of the two artist lists of a filter
MAX_EXCLUDED_SONGS = 10_000  # songs that a filter excludes
MAX_CONDITIONS = 50  # conditions in a filter
MAX_VALUES = 1_000  # values in `any_of` or in `none_of` of a condition
MAX_PLAYLISTS = 100  # playlists in a batch
MAX_SEEDS_OF_BATCH = 10_000  # seeds in all playlists of a batch
MAX_SONGS_OF_BATCH = 10_000  # songs in all responses to a batch
MAX_SEED_WEIGHT = 1_000.0  # absolute value of a seed's weight

MAX_NAME_LENGTH = 512
"""Characters of an artist or a title, before and after normalisation.

Unicode normalisation takes quadratic time for a run of combining marks (about a millisecond at this
length), and can expand one character to eighteen.
"""

MAX_VALUE_LENGTH = 2_048  # characters in a value of a keyword field
MAX_SEARCH_LENGTH = 200  # characters in a search text
MAX_SUGGESTIONS = 10  # songs that are suggested for an unknown seed
MAX_SUGGESTED_SEEDS = 10  # unknown seeds of a request for which songs are suggested
MAX_USER_ID_LENGTH = 256  # characters in a user id
MAX_VALUE_IN_MESSAGE = 40  # characters of a malformed value that an error message quotes
MAX_CLOCK_LEAD_MS = 60_000  # milliseconds by which a caller's clock may be ahead of this machine's

VARIED_WORK_FACTOR = 5
"""Estimated number of candidates per song to return, if the options of a query may reject songs.

See `Query.may_reject`.
"""

SPELLING_WORK = 50
"""Work of a search for similar names, which takes as long as this number of seeds of a query."""

MODES = {
    pb.MODE_DENSE: Mode.DENSE,
    pb.MODE_COOCCURRENCE: Mode.COOCCURRENCE,
    pb.MODE_HYBRID: Mode.HYBRID,
    pb.MODE_RANKED: Mode.RANKED,
}


@dataclass(frozen=True, slots=True)
class _Comparisons:
    """The comparisons that a kind of payload field supports.

    - `parts`: the fields of `pb.Condition` that may be set.
    - `values`: the kinds of `pb.Value` allowed in `any_of` and `none_of`.
    """

    parts: frozenset[str]
    values: frozenset[str] = frozenset()


_COMPARISONS: Mapping[Kind, _Comparisons] = {
    "keyword": _Comparisons(frozenset({"any_of", "none_of"}), frozenset({"text", "boolean"})),
    "integer": _Comparisons(
        frozenset({"any_of", "none_of", "minimum", "maximum"}), frozenset({"integer"})
    ),
    "float": _Comparisons(frozenset({"minimum", "maximum"})),
    "text": _Comparisons(frozenset({"text"})),
}
_UUID = re.compile("[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def estimate_work(request: object) -> int:
    """Estimate the work of a request before it is validated: its seeds plus its candidates.

    Each search for similar names adds `SPELLING_WORK`. For `RecordPlays`, the work is the number of
    plays. The work of other methods counts as 0.
    """
    if isinstance(request, pb.BatchRecommendRequest):
        return sum(estimate_work(query) for query in request.requests[: MAX_PLAYLISTS + 1])
    if isinstance(request, pb.RecommendRequest):
        limit = min(max(0, request.limit) or DEFAULT_LIMIT, MAX_LIMIT)
        is_varied = bool(request.diversity or request.max_per_artist or request.min_artist_gap)
        suggested = min(len(request.seeds), MAX_SUGGESTED_SEEDS) if request.suggestions else 0
        work = estimate_query_work(len(request.seeds), limit, is_varied=is_varied)
        return work + suggested * SPELLING_WORK
    if isinstance(request, pb.SearchSongsRequest):
        return SPELLING_WORK if request.fuzzy else 0
    if isinstance(request, pb.SimilarSongsRequest):
        return SPELLING_WORK  # if the song is unknown, songs are suggested
    return len(request.plays) if isinstance(request, pb.RecordPlaysRequest) else 0


def estimate_query_work(seeds: int, limit: int, *, is_varied: bool) -> int:
    """Estimate the work of a query: the number of seeds plus the number of candidates.

    The candidates are the songs that are searched for, to return `limit` songs. There are more of
    them if `is_varied`, because some are then left out.
    """
    return seeds + limit * (VARIED_WORK_FACTOR if is_varied else 1)


async def parse_seeds(messages: Sequence[pb.Seed], prefix: str = "") -> list[Seed]:
    """Return the seeds of a query.

    Error messages name fields with `prefix`, the path of the query, such as `requests[3].`.
    """
    if not messages:
        raise RequestError(f"{prefix}seeds", "must hold at least one song")
    _require_count(f"{prefix}seeds", messages, MAX_SEEDS)
    seeds = [
        _parse_seed(f"{prefix}seeds[{index}]", message)
        async for index, message in pause_between(enumerate(messages))
    ]
    _require_distinct_hashes(f"{prefix}seeds", (seed.song_id for seed in seeds))
    return seeds


async def parse_query(
    request: pb.RecommendRequest,
    seeds: Sequence[Seed],
    payload: Mapping[str, Kind],
    prefix: str = "",
) -> Query:
    """Return the query of a request, with `seeds` as its seeds.

    `payload` has the kind of each extra field that the filter may use. Error messages name fields
    with `prefix`, the path of the query, such as `requests[3].`.
    """
    limit = parse_limit(request.limit, f"{prefix}limit")
    if request.mode and request.mode not in MODES:
        raise RequestError(f"{prefix}mode", f"{request.mode} is not a mode")
    if request.max_per_artist > MAX_LIMIT:
        raise RequestError(f"{prefix}max_per_artist", f"must be at most {MAX_LIMIT}")
    if request.min_artist_gap > MAX_LIMIT:
        raise RequestError(f"{prefix}min_artist_gap", f"must be at most {MAX_LIMIT}")
    if not 0 <= request.diversity <= 1:
        raise RequestError(f"{prefix}diversity", "must be from 0 to 1")
    return Query(
        seeds,
        limit,
        await parse_filter(request.filter, payload, f"{prefix}filter"),
        MODES.get(request.mode),
        request.max_per_artist,
        request.diversity,
        request.explain,
        request.min_artist_gap,
        request.allow_versions,
    )


async def parse_batch(
    request: pb.BatchRecommendRequest, payload: Mapping[str, Kind]
) -> list[Query]:
    """Return the queries of a batch, after a check of the total numbers of seeds and songs."""
    if not request.requests:
        raise RequestError("requests", "must hold at least one playlist")
    _require_count("requests", request.requests, MAX_PLAYLISTS)
    for index, message in enumerate(request.requests):
        for name in ("user_id", "suggestions"):
            if getattr(message, name):
                raise RequestError(f"requests[{index}].{name}", "is not allowed in a batch")
    limits = (message.limit or DEFAULT_LIMIT for message in request.requests)
    for name, total, maximum in (
        ("seeds", sum(len(message.seeds) for message in request.requests), MAX_SEEDS_OF_BATCH),
        ("songs to return", sum(limit for limit in limits if limit > 0), MAX_SONGS_OF_BATCH),
    ):
        if total > maximum:
            raise RequestError(
                "requests", f"may have at most {maximum:,} {name} in all, and have {total:,}"
            )
    queries = []
    async for index, message in pause_between(enumerate(request.requests)):
        prefix = f"requests[{index}]."
        seeds = await parse_seeds(message.seeds, prefix)
        queries.append(await parse_query(message, seeds, payload, prefix))
    return queries


def parse_user_id(user_id: str) -> str:
    """Return the user id, after a check of its length."""
    if not 1 <= len(user_id) <= MAX_USER_ID_LENGTH:
        raise RequestError("user_id", f"must have 1 to {MAX_USER_ID_LENGTH} characters")
    return user_id


async def parse_plays(request: pb.RecordPlaysRequest) -> list[tuple[Seed, int]]:
    """Return the songs that were played, with the time of each play in milliseconds since 1970."""
    if not request.plays:
        raise RequestError("plays", "must hold at least one play")
    _require_count("plays", request.plays, MAX_SEEDS)
    now = time.time_ns() // 1_000_000
    plays = []
    async for index, play in pause_between(enumerate(request.plays)):
        if not 0 <= play.at_ms <= now + MAX_CLOCK_LEAD_MS:
            raise RequestError(f"plays[{index}].at_ms", "must be from 1970 to now")
        # Plays without a time get times one millisecond apart, in the order of the list.
        at_ms = play.at_ms or now - (len(request.plays) - 1 - index)
        plays.append((parse_song(f"plays[{index}].song", play.song), at_ms))
    _require_distinct_hashes("plays", (seed.song_id for seed, _ in plays))
    return plays


def parse_song(field: str, message: pb.Seed, weight: float = 1.0) -> Seed:
    """Return the song that a message names by id, or by title with or without an artist.

    The result has the weight `weight`; the weight in the message is ignored. `field` is the path of
    the song, for error messages.
    """
    song_id = _parse_uuid(f"{field}.song_id", message.song_id) if message.song_id else None
    _require_length(f"{field}.artist", message.artist, MAX_NAME_LENGTH)
    _require_length(f"{field}.title", message.title, MAX_NAME_LENGTH)
    seed = Seed(song_id, message.artist, message.title, weight)
    for name, key in (("artist", seed.artist_key), ("title", seed.title_key)):
        _require_length(f"{field}.{name}", key, MAX_NAME_LENGTH)
    if not (seed.title_key or song_id):
        raise RequestError(f"{field}.title", "must be given if there is no song_id")
    return seed


async def parse_filter(
    message: pb.Filter, payload: Mapping[str, Kind], field: str = "filter"
) -> Filter:
    """Return the filter of a message.

    `payload` has the kind of each extra field that the conditions may use. `field` is the path of
    the filter, for error messages.
    """
    _require_count(f"{field}.exclude_song_ids", message.exclude_song_ids, MAX_EXCLUDED_SONGS)
    if message.max_playlists and message.min_playlists > message.max_playlists:
        raise RequestError(f"{field}.min_playlists", f"must not be above {field}.max_playlists")
    _require_count(f"{field}.conditions", message.conditions, MAX_CONDITIONS)
    excluded = [
        _parse_uuid(f"{field}.exclude_song_ids[{index}]", text)
        for index, text in enumerate(message.exclude_song_ids)
    ]
    _require_distinct_hashes(f"{field}.exclude_song_ids", excluded)
    conditions = [
        _parse_condition(f"{field}.conditions[{index}]", condition, payload)
        async for index, condition in pause_between(enumerate(message.conditions))
    ]
    return Filter(
        include_artists=await _parse_artists(f"{field}.include_artists", message.include_artists),
        exclude_artists=await _parse_artists(f"{field}.exclude_artists", message.exclude_artists),
        exclude_songs=frozenset(excluded),
        min_playlists=message.min_playlists,
        max_playlists=message.max_playlists,
        conditions=tuple(conditions),
    )


def parse_search_text(text: str) -> str:
    """Return the text to search for, after a check that it has at least one word."""
    _require_length("query", text, MAX_SEARCH_LENGTH)
    if not normalise(text):
        raise RequestError("query", "must hold at least one word")
    return text


def parse_suggestions(suggestions: int) -> int:
    """Return the number of songs to suggest for an unknown seed, after a check of its range."""
    if suggestions > MAX_SUGGESTIONS:
        raise RequestError("suggestions", f"must be at most {MAX_SUGGESTIONS}")
    return suggestions


def parse_limit(limit: int, field: str = "limit") -> int:
    """Return the number of songs to return, which is `DEFAULT_LIMIT` if `limit` is 0."""
    if not 0 <= limit <= MAX_LIMIT:
        raise RequestError(field, f"must be from 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}")
    return limit or DEFAULT_LIMIT


def _parse_seed(field: str, message: pb.Seed) -> Seed:
    weight = message.weight if message.HasField("weight") else 1.0
    if not (weight and -MAX_SEED_WEIGHT <= weight <= MAX_SEED_WEIGHT):
        maximum = f"{MAX_SEED_WEIGHT:g}"
        raise RequestError(f"{field}.weight", f"must be from -{maximum} to {maximum}, and not 0")
    return parse_song(field, message, weight)


def _parse_condition(field: str, message: pb.Condition, payload: Mapping[str, Kind]) -> Condition:
    if message.field not in payload:
        known = ", ".join(f"{name} ({kind})" for name, kind in sorted(payload.items()))
        raise RequestError(
            f"{field}.field",
            f"'{message.field[:MAX_VALUE_IN_MESSAGE]}' is not an extra field of this release, "
            f"which has: {known or 'none'}",
        )
    kind = payload[message.field]
    parts = {descriptor.name for descriptor, _ in message.ListFields()} - {"field"}
    if not parts:
        raise RequestError(field, "must have at least one comparison")
    comparisons = _COMPARISONS[kind]
    for name in sorted(parts - comparisons.parts):
        raise RequestError(
            f"{field}.{name}",
            f"cannot be used with '{message.field}', a field of the kind {kind}; use "
            f"{', '.join(sorted(comparisons.parts))}",
        )
    minimum = _parse_bound(f"{field}.minimum", message.minimum, message.HasField("minimum"))
    maximum = _parse_bound(f"{field}.maximum", message.maximum, message.HasField("maximum"))
    if minimum is not None and maximum is not None and minimum > maximum:
        raise RequestError(f"{field}.minimum", f"must not be above {field}.maximum")
    _require_length(f"{field}.text", message.text, MAX_SEARCH_LENGTH)
    if message.text and not normalise(message.text):
        raise RequestError(f"{field}.text", "must hold at least one word")
    return Condition(
        message.field,
        any_of=_parse_values(f"{field}.any_of", message.any_of, kind),
        none_of=_parse_values(f"{field}.none_of", message.none_of, kind),
        minimum=minimum,
        maximum=maximum,
        text=message.text,
    )


def _parse_values(field: str, values: Sequence[pb.Value], kind: Kind) -> tuple[Value, ...]:
    """Return the values in a condition's list without duplicates, in the order of the request."""
    _require_count(field, values, MAX_VALUES)
    parsed = [_parse_value(f"{field}[{index}]", value, kind) for index, value in enumerate(values)]
    return tuple(dict.fromkeys(parsed))


def _parse_value(field: str, message: pb.Value, kind: Kind) -> Value:
    value_kind = message.WhichOneof("kind")
    allowed = _COMPARISONS[kind].values
    if value_kind not in allowed:
        raise RequestError(
            field,
            f"must be {' or '.join(sorted(allowed))} for a field of the kind {kind}, and is "
            f"{value_kind or 'empty'}",
        )
    _require_length(f"{field}.text", message.text, MAX_VALUE_LENGTH)
    if value_kind == "boolean":
        return "true" if message.boolean else "false"
    return message.integer if value_kind == "integer" else message.text


def _parse_bound(field: str, value: float, is_set: bool) -> float | None:
    if is_set and not math.isfinite(value):
        raise RequestError(field, "must be finite")
    return value if is_set else None


async def _parse_artists(field: str, names: Sequence[str]) -> frozenset[str]:
    """Return the normalised names of artists, without duplicates."""
    _require_count(field, names, MAX_ARTISTS)
    keys = set()
    async for index, name in pause_between(enumerate(names)):
        _require_length(f"{field}[{index}]", name, MAX_NAME_LENGTH)
        key = normalise(name)
        _require_length(f"{field}[{index}]", key, MAX_NAME_LENGTH)
        if not key:
            raise RequestError(f"{field}[{index}]", "must not be empty")
        keys.add(key)
    return frozenset(keys)


def _require_count(field: str, values: Collection[object], maximum: int) -> None:
    if len(values) > maximum:
        raise RequestError(field, f"must hold at most {maximum:,}, and holds {len(values):,}")


def _require_length(field: str, text: str, maximum: int) -> None:
    if len(text) > maximum:
        raise RequestError(
            field, f"must have at most {maximum:,} characters, and has {len(text):,}"
        )


def _require_distinct_hashes(field: str, ids: Iterable[UUID | None]) -> None:
    """Raise `RequestError` if two different ids have the same hash.

    The hash of a UUID in Python does not depend on a random secret. A caller could therefore choose
    10,000 ids with the same hash, and building a set of them would take many seconds. Random ids
    practically never have the same hash.
    """
    hashes = {song_id.bytes: hash(song_id) for song_id in ids if song_id}
    if len(set(hashes.values())) < len(hashes):
        raise RequestError(field, "must not hold song ids that were made to collide")


def _parse_uuid(field: str, text: str) -> UUID:
    if not _UUID.fullmatch(text):  # UUID() also accepts signs, spaces and digits of any script
        raise RequestError(field, f"'{text[:MAX_VALUE_IN_MESSAGE]}' is not a UUID")
    return UUID(text)
