"""All metrics of a system at once, by the names that reports, gates and run logs use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.metrics import continuation, diversity, popularity, ranking
from evaluation.metrics.relevance import relevant

if TYPE_CHECKING:
    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers

KS = (1, 5, 10, 20, 50, 100)
"""How many songs are looked at, for metrics of their places."""

K = 10
"""How many songs are looked at, for metrics of what they are."""

EXPLAINED = {
    "hr": "hit rate: the share of queries with a label among the first k",
    "mrr": "mean reciprocal rank of the first label among the first k",
    "ndcg": "normalised discounted cumulative gain",
    "precision": "the share of labels among the first k",
    "recall": "the share of labels found; with one label a query it is the hit rate",
    "coverage": "the share of the catalog that any query was recommended",
    "answered": "the share of queries that got a song at all",
    "novelty": "mean self-information of a recommended song, in bits",
    "fresh": "the share of recommended songs that are not in the query",
    "popularity_bias": "how many places more popular than labels, as a share of the catalog",
    "diversity": "1 - mean cosine similarity of two songs of an answer",
    "artist_repetition": "the share of songs whose artist came before in the answer",
    "r_precision": "the share of labels among as many songs as there are labels",
    "r_precision_artists": "the same, with a quarter of a label for each right artist",
    "clicks": "pages of ten songs turned before the first label; 51 where it never comes",
}
"""What each metric is, by its name without `@k`."""

UNBOUNDED = frozenset(["novelty", "clicks", "popularity_bias"])
LOWER_IS_BETTER = frozenset(["clicks", "artist_repetition"])


def names(*, halves: bool) -> list[str]:
    """The metrics of an evaluation, with several labels a query (`halves`) or with one."""
    of_places = [f"{one}@{k}" for k in KS for one in ("hr", "mrr", "ndcg", "precision", "recall")]
    of_songs = ("novelty", "fresh", "popularity_bias", "artist_repetition", "diversity")
    of_halves = ["r_precision", "r_precision_artists", f"ndcg@{continuation.DEPTH}", "clicks"]
    return [
        *of_places,
        "answered",
        *(f"{one}@{K}" for one in of_songs),
        *(of_halves if halves else []),
        *(f"coverage@{k}" for k in (10, 100)),
    ]


def per_query(rankings: Numbers, queries: Queries, data: Data) -> dict[str, Figures]:
    """A figure for each metric and query: name -> shape (n,); NaN where it says nothing.

    `rankings` has shape (n, depth); a metric at more than `depth` is left out.
    """
    songs = data.songs
    matches = relevant(rankings, queries.labels)
    count = queries.labels.lengths
    figures: dict[str, Figures] = {}
    for k in (k for k in KS if k <= rankings.shape[1]):
        figures |= {
            f"hr@{k}": ranking.hits(matches, k),
            f"mrr@{k}": ranking.reciprocal_ranks(matches, k),
            f"ndcg@{k}": ranking.ndcg(matches, count, k),
            f"precision@{k}": ranking.precision(matches, k),
            f"recall@{k}": ranking.recall(matches, count, k),
        }
    catalog = len(songs.by_popularity)
    figures |= {
        "answered": popularity.answered(rankings),
        f"novelty@{K}": popularity.novelty(rankings, K, songs.playlists, len(data.train)),
        f"fresh@{K}": popularity.fresh(rankings, K, queries.seeds, len(songs)),
        f"popularity_bias@{K}": popularity.popularity_bias(
            rankings, K, queries.label, songs.place, catalog
        ),
        f"artist_repetition@{K}": diversity.artist_repetition(rankings, K, songs.artist),
    }
    if data.vectors is not None:
        figures[f"diversity@{K}"] = diversity.intra_list_diversity(rankings, K, data.vectors)
    if (count > 1).any():
        figures |= {
            "r_precision": continuation.r_precision(matches, queries.labels),
            "r_precision_artists": continuation.r_precision_with_artists(
                rankings, matches, queries.labels, songs.artist
            ),
            f"ndcg@{continuation.DEPTH}": ranking.ndcg(matches, count, continuation.DEPTH),
            "clicks": continuation.clicks(matches),
        }
    return figures


def whole(rankings: Numbers, data: Data) -> dict[str, float]:
    """The metrics of all rankings together, that have no figure a query."""
    catalog = len(data.songs.by_popularity)
    return {
        f"coverage@{k}": popularity.coverage(rankings, k, catalog)
        for k in (10, 100)
        if k <= rankings.shape[1]
    }
