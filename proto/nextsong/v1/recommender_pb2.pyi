from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FieldKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FIELD_KIND_UNSPECIFIED: _ClassVar[FieldKind]
    FIELD_KIND_KEYWORD: _ClassVar[FieldKind]
    FIELD_KIND_INTEGER: _ClassVar[FieldKind]
    FIELD_KIND_FLOAT: _ClassVar[FieldKind]
    FIELD_KIND_TEXT: _ClassVar[FieldKind]

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_SEEDS: _ClassVar[Strategy]
    STRATEGY_ARTISTS: _ClassVar[Strategy]
    STRATEGY_POPULAR: _ClassVar[Strategy]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_DENSE: _ClassVar[Mode]
    MODE_COOCCURRENCE: _ClassVar[Mode]
    MODE_HYBRID: _ClassVar[Mode]
    MODE_RANKED: _ClassVar[Mode]

class Resolution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOLUTION_UNSPECIFIED: _ClassVar[Resolution]
    RESOLUTION_SONG: _ClassVar[Resolution]
    RESOLUTION_ARTIST: _ClassVar[Resolution]
    RESOLUTION_UNKNOWN: _ClassVar[Resolution]

class EmptyReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EMPTY_REASON_UNSPECIFIED: _ClassVar[EmptyReason]
    EMPTY_REASON_FILTER: _ClassVar[EmptyReason]
    EMPTY_REASON_SEEDS: _ClassVar[EmptyReason]
FIELD_KIND_UNSPECIFIED: FieldKind
FIELD_KIND_KEYWORD: FieldKind
FIELD_KIND_INTEGER: FieldKind
FIELD_KIND_FLOAT: FieldKind
FIELD_KIND_TEXT: FieldKind
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_SEEDS: Strategy
STRATEGY_ARTISTS: Strategy
STRATEGY_POPULAR: Strategy
MODE_UNSPECIFIED: Mode
MODE_DENSE: Mode
MODE_COOCCURRENCE: Mode
MODE_HYBRID: Mode
MODE_RANKED: Mode
RESOLUTION_UNSPECIFIED: Resolution
RESOLUTION_SONG: Resolution
RESOLUTION_ARTIST: Resolution
RESOLUTION_UNKNOWN: Resolution
EMPTY_REASON_UNSPECIFIED: EmptyReason
EMPTY_REASON_FILTER: EmptyReason
EMPTY_REASON_SEEDS: EmptyReason

class Song(_message.Message):
    __slots__ = ("song_id", "artist", "title", "playlists", "extra")
    class ExtraEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    SONG_ID_FIELD_NUMBER: _ClassVar[int]
    ARTIST_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    song_id: str
    artist: str
    title: str
    playlists: int
    extra: _containers.MessageMap[str, Value]
    def __init__(self, song_id: _Optional[str] = ..., artist: _Optional[str] = ..., title: _Optional[str] = ..., playlists: _Optional[int] = ..., extra: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("text", "integer", "number", "boolean")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_FIELD_NUMBER: _ClassVar[int]
    text: str
    integer: int
    number: float
    boolean: bool
    def __init__(self, text: _Optional[str] = ..., integer: _Optional[int] = ..., number: _Optional[float] = ..., boolean: _Optional[bool] = ...) -> None: ...

class Seed(_message.Message):
    __slots__ = ("song_id", "artist", "title", "weight")
    SONG_ID_FIELD_NUMBER: _ClassVar[int]
    ARTIST_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    song_id: str
    artist: str
    title: str
    weight: float
    def __init__(self, song_id: _Optional[str] = ..., artist: _Optional[str] = ..., title: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("include_artists", "exclude_artists", "exclude_song_ids", "min_playlists", "max_playlists", "conditions")
    INCLUDE_ARTISTS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ARTISTS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SONG_IDS_FIELD_NUMBER: _ClassVar[int]
    MIN_PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    MAX_PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    include_artists: _containers.RepeatedScalarFieldContainer[str]
    exclude_artists: _containers.RepeatedScalarFieldContainer[str]
    exclude_song_ids: _containers.RepeatedScalarFieldContainer[str]
    min_playlists: int
    max_playlists: int
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    def __init__(self, include_artists: _Optional[_Iterable[str]] = ..., exclude_artists: _Optional[_Iterable[str]] = ..., exclude_song_ids: _Optional[_Iterable[str]] = ..., min_playlists: _Optional[int] = ..., max_playlists: _Optional[int] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("field", "any_of", "none_of", "minimum", "maximum", "text")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    ANY_OF_FIELD_NUMBER: _ClassVar[int]
    NONE_OF_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    field: str
    any_of: _containers.RepeatedCompositeFieldContainer[Value]
    none_of: _containers.RepeatedCompositeFieldContainer[Value]
    minimum: float
    maximum: float
    text: str
    def __init__(self, field: _Optional[str] = ..., any_of: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., none_of: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...

class ResolvedSeed(_message.Message):
    __slots__ = ("resolution", "song", "suggestions")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    SONG_FIELD_NUMBER: _ClassVar[int]
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    resolution: Resolution
    song: Song
    suggestions: _containers.RepeatedCompositeFieldContainer[Suggestion]
    def __init__(self, resolution: _Optional[_Union[Resolution, str]] = ..., song: _Optional[_Union[Song, _Mapping]] = ..., suggestions: _Optional[_Iterable[_Union[Suggestion, _Mapping]]] = ...) -> None: ...

class Suggestion(_message.Message):
    __slots__ = ("song", "similarity")
    SONG_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    song: Song
    similarity: float
    def __init__(self, song: _Optional[_Union[Song, _Mapping]] = ..., similarity: _Optional[float] = ...) -> None: ...

class UnknownSong(_message.Message):
    __slots__ = ("suggestions",)
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    suggestions: _containers.RepeatedCompositeFieldContainer[Suggestion]
    def __init__(self, suggestions: _Optional[_Iterable[_Union[Suggestion, _Mapping]]] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("seed", "share", "content")
    class ContentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SEED_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    seed: int
    share: float
    content: _containers.ScalarMap[str, float]
    def __init__(self, seed: _Optional[int] = ..., share: _Optional[float] = ..., content: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ScoredSong(_message.Message):
    __slots__ = ("song", "score", "reasons")
    SONG_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    song: Song
    score: float
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    def __init__(self, song: _Optional[_Union[Song, _Mapping]] = ..., score: _Optional[float] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("seeds", "limit", "filter", "mode", "max_per_artist", "diversity", "explain", "user_id", "min_artist_gap", "allow_versions", "suggestions")
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_ARTIST_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_ARTIST_GAP_FIELD_NUMBER: _ClassVar[int]
    ALLOW_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    seeds: _containers.RepeatedCompositeFieldContainer[Seed]
    limit: int
    filter: Filter
    mode: Mode
    max_per_artist: int
    diversity: float
    explain: bool
    user_id: str
    min_artist_gap: int
    allow_versions: bool
    suggestions: int
    def __init__(self, seeds: _Optional[_Iterable[_Union[Seed, _Mapping]]] = ..., limit: _Optional[int] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., mode: _Optional[_Union[Mode, str]] = ..., max_per_artist: _Optional[int] = ..., diversity: _Optional[float] = ..., explain: _Optional[bool] = ..., user_id: _Optional[str] = ..., min_artist_gap: _Optional[int] = ..., allow_versions: _Optional[bool] = ..., suggestions: _Optional[int] = ...) -> None: ...

class RecordPlaysRequest(_message.Message):
    __slots__ = ("user_id", "plays")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PLAYS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    plays: _containers.RepeatedCompositeFieldContainer[Play]
    def __init__(self, user_id: _Optional[str] = ..., plays: _Optional[_Iterable[_Union[Play, _Mapping]]] = ...) -> None: ...

class Play(_message.Message):
    __slots__ = ("song", "at_ms")
    SONG_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    song: Seed
    at_ms: int
    def __init__(self, song: _Optional[_Union[Seed, _Mapping]] = ..., at_ms: _Optional[int] = ...) -> None: ...

class RecordPlaysResponse(_message.Message):
    __slots__ = ("recorded",)
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    recorded: int
    def __init__(self, recorded: _Optional[int] = ...) -> None: ...

class ForgetUserRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    def __init__(self, user_id: _Optional[str] = ...) -> None: ...

class ForgetUserResponse(_message.Message):
    __slots__ = ("known",)
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: bool
    def __init__(self, known: _Optional[bool] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("songs", "strategy", "seeds", "release", "mode", "empty_reason")
    SONGS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_REASON_FIELD_NUMBER: _ClassVar[int]
    songs: _containers.RepeatedCompositeFieldContainer[ScoredSong]
    strategy: Strategy
    seeds: _containers.RepeatedCompositeFieldContainer[ResolvedSeed]
    release: str
    mode: Mode
    empty_reason: EmptyReason
    def __init__(self, songs: _Optional[_Iterable[_Union[ScoredSong, _Mapping]]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., seeds: _Optional[_Iterable[_Union[ResolvedSeed, _Mapping]]] = ..., release: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., empty_reason: _Optional[_Union[EmptyReason, str]] = ...) -> None: ...

class BatchRecommendRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ...) -> None: ...

class BatchRecommendResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[RecommendResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[RecommendResponse, _Mapping]]] = ...) -> None: ...

class SimilarSongsRequest(_message.Message):
    __slots__ = ("song", "limit", "filter", "allow_versions")
    SONG_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ALLOW_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    song: Seed
    limit: int
    filter: Filter
    allow_versions: bool
    def __init__(self, song: _Optional[_Union[Seed, _Mapping]] = ..., limit: _Optional[int] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., allow_versions: _Optional[bool] = ...) -> None: ...

class SimilarSongsResponse(_message.Message):
    __slots__ = ("songs", "song", "release", "empty_reason")
    SONGS_FIELD_NUMBER: _ClassVar[int]
    SONG_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_REASON_FIELD_NUMBER: _ClassVar[int]
    songs: _containers.RepeatedCompositeFieldContainer[ScoredSong]
    song: Song
    release: str
    empty_reason: EmptyReason
    def __init__(self, songs: _Optional[_Iterable[_Union[ScoredSong, _Mapping]]] = ..., song: _Optional[_Union[Song, _Mapping]] = ..., release: _Optional[str] = ..., empty_reason: _Optional[_Union[EmptyReason, str]] = ...) -> None: ...

class SearchSongsRequest(_message.Message):
    __slots__ = ("query", "limit", "fuzzy")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FUZZY_FIELD_NUMBER: _ClassVar[int]
    query: str
    limit: int
    fuzzy: bool
    def __init__(self, query: _Optional[str] = ..., limit: _Optional[int] = ..., fuzzy: _Optional[bool] = ...) -> None: ...

class SearchSongsResponse(_message.Message):
    __slots__ = ("songs", "release", "similarities")
    SONGS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITIES_FIELD_NUMBER: _ClassVar[int]
    songs: _containers.RepeatedCompositeFieldContainer[Song]
    release: str
    similarities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, songs: _Optional[_Iterable[_Union[Song, _Mapping]]] = ..., release: _Optional[str] = ..., similarities: _Optional[_Iterable[float]] = ...) -> None: ...

class GetReleaseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Release(_message.Message):
    __slots__ = ("id", "created", "songs", "artists", "training_playlists", "dimensions", "data_fingerprint", "code_version", "parameters_json", "payload_fields", "has_spelling")
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SONGS_FIELD_NUMBER: _ClassVar[int]
    ARTISTS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    DATA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELDS_FIELD_NUMBER: _ClassVar[int]
    HAS_SPELLING_FIELD_NUMBER: _ClassVar[int]
    id: str
    created: str
    songs: int
    artists: int
    training_playlists: int
    dimensions: int
    data_fingerprint: str
    code_version: str
    parameters_json: str
    payload_fields: _containers.RepeatedCompositeFieldContainer[PayloadField]
    has_spelling: bool
    def __init__(self, id: _Optional[str] = ..., created: _Optional[str] = ..., songs: _Optional[int] = ..., artists: _Optional[int] = ..., training_playlists: _Optional[int] = ..., dimensions: _Optional[int] = ..., data_fingerprint: _Optional[str] = ..., code_version: _Optional[str] = ..., parameters_json: _Optional[str] = ..., payload_fields: _Optional[_Iterable[_Union[PayloadField, _Mapping]]] = ..., has_spelling: _Optional[bool] = ...) -> None: ...

class PayloadField(_message.Message):
    __slots__ = ("name", "kind")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: FieldKind
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[FieldKind, str]] = ...) -> None: ...

class GetReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...
