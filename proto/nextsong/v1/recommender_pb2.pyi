from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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

class Resolution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOLUTION_UNSPECIFIED: _ClassVar[Resolution]
    RESOLUTION_SONG: _ClassVar[Resolution]
    RESOLUTION_ARTIST: _ClassVar[Resolution]
    RESOLUTION_UNKNOWN: _ClassVar[Resolution]
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_SEEDS: Strategy
STRATEGY_ARTISTS: Strategy
STRATEGY_POPULAR: Strategy
MODE_UNSPECIFIED: Mode
MODE_DENSE: Mode
MODE_COOCCURRENCE: Mode
MODE_HYBRID: Mode
RESOLUTION_UNSPECIFIED: Resolution
RESOLUTION_SONG: Resolution
RESOLUTION_ARTIST: Resolution
RESOLUTION_UNKNOWN: Resolution

class Song(_message.Message):
    __slots__ = ("song_id", "artist", "title", "playlists")
    SONG_ID_FIELD_NUMBER: _ClassVar[int]
    ARTIST_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    song_id: str
    artist: str
    title: str
    playlists: int
    def __init__(self, song_id: _Optional[str] = ..., artist: _Optional[str] = ..., title: _Optional[str] = ..., playlists: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("include_artists", "exclude_artists", "exclude_song_ids", "min_playlists", "max_playlists")
    INCLUDE_ARTISTS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ARTISTS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SONG_IDS_FIELD_NUMBER: _ClassVar[int]
    MIN_PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    MAX_PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    include_artists: _containers.RepeatedScalarFieldContainer[str]
    exclude_artists: _containers.RepeatedScalarFieldContainer[str]
    exclude_song_ids: _containers.RepeatedScalarFieldContainer[str]
    min_playlists: int
    max_playlists: int
    def __init__(self, include_artists: _Optional[_Iterable[str]] = ..., exclude_artists: _Optional[_Iterable[str]] = ..., exclude_song_ids: _Optional[_Iterable[str]] = ..., min_playlists: _Optional[int] = ..., max_playlists: _Optional[int] = ...) -> None: ...

class ResolvedSeed(_message.Message):
    __slots__ = ("resolution", "song")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    SONG_FIELD_NUMBER: _ClassVar[int]
    resolution: Resolution
    song: Song
    def __init__(self, resolution: _Optional[_Union[Resolution, str]] = ..., song: _Optional[_Union[Song, _Mapping]] = ...) -> None: ...

class ScoredSong(_message.Message):
    __slots__ = ("song", "score")
    SONG_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    song: Song
    score: float
    def __init__(self, song: _Optional[_Union[Song, _Mapping]] = ..., score: _Optional[float] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("seeds", "limit", "filter", "mode")
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    seeds: _containers.RepeatedCompositeFieldContainer[Seed]
    limit: int
    filter: Filter
    mode: Mode
    def __init__(self, seeds: _Optional[_Iterable[_Union[Seed, _Mapping]]] = ..., limit: _Optional[int] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("songs", "strategy", "seeds", "release", "mode")
    SONGS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    songs: _containers.RepeatedCompositeFieldContainer[ScoredSong]
    strategy: Strategy
    seeds: _containers.RepeatedCompositeFieldContainer[ResolvedSeed]
    release: str
    mode: Mode
    def __init__(self, songs: _Optional[_Iterable[_Union[ScoredSong, _Mapping]]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., seeds: _Optional[_Iterable[_Union[ResolvedSeed, _Mapping]]] = ..., release: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class SimilarSongsRequest(_message.Message):
    __slots__ = ("song", "limit", "filter")
    SONG_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    song: Seed
    limit: int
    filter: Filter
    def __init__(self, song: _Optional[_Union[Seed, _Mapping]] = ..., limit: _Optional[int] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ...) -> None: ...

class SimilarSongsResponse(_message.Message):
    __slots__ = ("songs", "song", "release")
    SONGS_FIELD_NUMBER: _ClassVar[int]
    SONG_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    songs: _containers.RepeatedCompositeFieldContainer[ScoredSong]
    song: Song
    release: str
    def __init__(self, songs: _Optional[_Iterable[_Union[ScoredSong, _Mapping]]] = ..., song: _Optional[_Union[Song, _Mapping]] = ..., release: _Optional[str] = ...) -> None: ...

class SearchSongsRequest(_message.Message):
    __slots__ = ("query", "limit")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    query: str
    limit: int
    def __init__(self, query: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class SearchSongsResponse(_message.Message):
    __slots__ = ("songs", "release")
    SONGS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    songs: _containers.RepeatedCompositeFieldContainer[Song]
    release: str
    def __init__(self, songs: _Optional[_Iterable[_Union[Song, _Mapping]]] = ..., release: _Optional[str] = ...) -> None: ...

class GetReleaseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Release(_message.Message):
    __slots__ = ("id", "created", "songs", "artists", "training_playlists", "dimensions", "data_fingerprint", "code_version", "parameters_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SONGS_FIELD_NUMBER: _ClassVar[int]
    ARTISTS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_PLAYLISTS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    DATA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    created: str
    songs: int
    artists: int
    training_playlists: int
    dimensions: int
    data_fingerprint: str
    code_version: str
    parameters_json: str
    def __init__(self, id: _Optional[str] = ..., created: _Optional[str] = ..., songs: _Optional[int] = ..., artists: _Optional[int] = ..., training_playlists: _Optional[int] = ..., dimensions: _Optional[int] = ..., data_fingerprint: _Optional[str] = ..., code_version: _Optional[str] = ..., parameters_json: _Optional[str] = ...) -> None: ...

class GetReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...
