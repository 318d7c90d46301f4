"""The names of all metrics in reports and options, and the figures of a system by these names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.metrics import continuation, diversity, popularity, ranking
from evaluation.metrics.relevance import match_labels

if TYPE_CHECKING:
    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers

KS = (1, 5, 10, 20, 50, 100)  # values of k, in songs, for metrics such as hr@k
COVERAGE_KS = (10, 100)  # values of k, in songs, for coverage
K = 10  # value of k, in songs, for all other metrics

EXPLANATIONS = {
    "hr": "hit rate: the share of queries with a label among the first k",
    "mrr": "mean reciprocal rank of the first label among the first k",
    "ndcg": "normalised discounted cumulative gain",
    "precision": "the share of labels among the first k",
    "recall": "the share of labels among the first k; equal to the hit rate if there is one label",
    "coverage": "the share of the catalog that was recommended for at least one query",
    "answered": "the share of queries with a recommended song",
    "novelty": "mean self-information of a recommended song, in bits",
    "fresh": "the share of recommended songs that are not in the query",
    "popularity_bias": "popularity rank of the label minus the mean popularity rank of recommended "
    "songs, divided by the size of the catalog",
    "diversity": "1 - mean cosine similarity of two recommended songs of a query",
    "artist_repetition": "the share of songs whose artist occurs earlier in the ranking",
    "r_precision": "the share of labels among the first R songs if a query has R labels",
    "r_precision_artists": "r_precision plus a quarter of a label for each artist of a label",
    "clicks": "number of further pages of ten songs until the first label; 51 if there is none",
}
"""Explanations of the metrics, by metric name without `@k`."""

_LOWER_IS_BETTER = frozenset(["clicks", "artist_repetition"])


def explain(metric: str) -> str:
    """Return the explanation of a metric for reports. `metric` is a name such as `hr@10`."""
    name, _, k = metric.partition("@")
    return EXPLANATIONS[name].replace("first k", f"first {k}")


def is_lower_better(metric: str) -> bool:
    """Return whether lower figures of this metric are better."""
    return _strip_k(metric) in _LOWER_IS_BETTER


def _strip_k(metric: str) -> str:
    return metric.partition("@")[0]


def names(*, halves: bool) -> list[str]:
    """Return the names of all metrics.

    `halves` adds the metrics for several labels per query, which is the case if the last half of
    each playlist is held out.
    """
    rank_metrics = ("hr", "mrr", "ndcg", "precision", "recall")
    song_metrics = ("novelty", "fresh", "popularity_bias", "artist_repetition", "diversity")
    half_metrics = ["r_precision", "r_precision_artists", f"ndcg@{continuation.DEPTH}", "clicks"]
    return [
        *(f"{name}@{k}" for k in KS for name in rank_metrics),
        "answered",
        *(f"{name}@{K}" for name in song_metrics),
        *(half_metrics if halves else []),
        *(f"coverage@{k}" for k in COVERAGE_KS),
    ]


def measure_per_query(
    rankings: SongNumbers, cases: HeldOutCases, dataset: Dataset
) -> dict[str, Figures]:
    """Return the figures of all queries, shape (n,), by metric.

    `rankings` has shape (n, depth). A figure is NaN if the metric is undefined for the query.
    Metrics whose k is larger than `depth` are omitted, as are metrics of artists if no song has an
    artist.
    """
    songs = dataset.songs
    matches = match_labels(rankings, cases.labels)
    label_counts = cases.labels.lengths
    figures: dict[str, Figures] = {}
    for k in (k for k in KS if k <= rankings.shape[1]):
        figures |= {
            f"hr@{k}": ranking.hits(matches, k),
            f"mrr@{k}": ranking.reciprocal_ranks(matches, k),
            f"ndcg@{k}": ranking.ndcg(matches, label_counts, k),
            f"precision@{k}": ranking.precision(matches, k),
            f"recall@{k}": ranking.recall(matches, label_counts, k),
        }
    catalog_size = len(songs.by_popularity)
    figures |= {
        "answered": popularity.answer_share(rankings),
        f"novelty@{K}": popularity.novelty(rankings, K, songs.playlists, len(dataset.train)),
        f"fresh@{K}": popularity.freshness(rankings, K, cases.seeds, len(songs)),
        f"popularity_bias@{K}": popularity.popularity_bias(
            rankings, K, cases.label, songs.popularity_rank, catalog_size
        ),
    }
    if songs.has_artists:
        repetition = diversity.artist_repetition(rankings, K, songs.artist)
        figures[f"artist_repetition@{K}"] = repetition
    if dataset.vectors is not None:
        figures[f"diversity@{K}"] = diversity.intra_list_diversity(rankings, K, dataset.vectors)
    if (label_counts > 1).any():
        figures |= {
            "r_precision": continuation.r_precision(matches, cases.labels),
            f"ndcg@{continuation.DEPTH}": ranking.ndcg(matches, label_counts, continuation.DEPTH),
            "clicks": continuation.clicks(matches),
        }
        if songs.has_artists:
            figures["r_precision_artists"] = continuation.r_precision_with_artists(
                rankings, matches, cases.labels, songs.artist
            )
    return figures


def measure_overall(rankings: SongNumbers, dataset: Dataset) -> dict[str, float]:
    """Return the metrics that have no value for a single query: coverage, by metric name."""
    catalog_size = len(dataset.songs.by_popularity)
    return {
        f"coverage@{k}": popularity.coverage(rankings, k, catalog_size)
        for k in COVERAGE_KS
        if k <= rankings.shape[1]
    }
