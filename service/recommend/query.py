"""A query and its recommendation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from catalog.model import ANY, Filter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalog.model import Hit
    from service.recommend.seeds import ResolvedSeed, Seed


class Mode(Enum):
    """The method by which songs are retrieved and ranked.

    - DENSE: by Word2Vec vectors.
    - COOCCURRENCE: by co-occurrence in playlists.
    - HYBRID: by the weighted sum of the dense score and the co-occurrence score.
    - RANKED: by the release's re-ranker, which reorders the songs with the highest co-occurrence
      scores. If the release has no re-ranker, HYBRID is used.
    """

    DENSE = "dense"
    COOCCURRENCE = "cooccurrence"
    HYBRID = "hybrid"
    RANKED = "ranked"


class Strategy(Enum):
    """The source of a recommendation.

    - SEEDS: the seeds that are in the catalog.
    - ARTISTS: the artists of the seeds, because no training playlist contains a seed.
    - POPULAR: the most popular songs, because no training playlist contains a seed, and no song of
      the seeds' artists can be recommended.
    """

    SEEDS = "seeds"
    ARTISTS = "artists"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class Query:
    """A playlist to continue.

    - `seeds`: songs of the playlist in play order, the most recent last.
    - `limit`: number of songs to recommend.
    - `where`: the filter that recommended songs must pass.
    - `mode`: None for the mode that was selected when the release was trained.
    - `max_per_artist`: maximum number of songs of one artist; 0 for no maximum.
    - `diversity`: from 0 (relevance only) to 1 (dissimilarity only); see `DiverseSelection`.
    - `explain`: whether to compute the share of each seed in each song.
    - `min_artist_gap`: minimum number of other songs between two songs of one artist.
    - `allow_versions`: whether versions of seeds, and several versions of a song, can be
      recommended; see `service.recommend.recordings`.
    """

    seeds: Sequence[Seed]
    limit: int = 10
    where: Filter = ANY
    mode: Mode | None = None
    max_per_artist: int = 0
    diversity: float = 0.0
    explain: bool = False
    min_artist_gap: int = 0
    allow_versions: bool = False

    @property
    def may_reject(self) -> bool:
        """Whether the options are likely to reject songs that a search returns."""
        return bool(self.max_per_artist or self.min_artist_gap or self.diversity)


@dataclass(frozen=True, slots=True)
class Reason:
    """A seed, given by its index in the query, and its share in the score of a song, from 0 to 1.

    `content` maps content fields (`artist` or a keyword payload field) to the parts of the share
    that come from values that the seed and the song have in common. The rest of the share comes
    from the seed itself.
    """

    seed: int
    share: float
    content: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The recommended songs for a query, best first.

    - `strategy`: the source of the recommendation.
    - `mode`: the mode that was used; None for `Strategy.POPULAR`.
    - `seeds`: the resolved seeds of the query, in the same order.
    - `reasons`: a list for each song. The lists are empty for `Strategy.POPULAR`, and if the query
      does not ask for explanations.
    - `where`: the filter of the query, with the seeds excluded.
    """

    songs: list[Hit]
    strategy: Strategy
    mode: Mode | None
    seeds: list[ResolvedSeed]
    reasons: list[list[Reason]]
    where: Filter
