"""Statistics of playlists: playlist lengths, and the number of playlists per song and artist.

The library `powerlaw` fits a power law to the tail of a distribution, and compares the power law
with other distributions, by the method of Clauset, Shalizi and Newman, "Power-law distributions in
empirical data", 2009.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.stages import finished_stage
from ingest.stats.charts import extra_needed

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.console.progress import Reporter

    Counts = np.ndarray[tuple[int], np.dtype[np.int64]]

TOP = 20
"""Number of popular songs, and number of popular artists, to list."""

FITTED = 50_000
"""Maximum number of values to which a power law is fitted.

More values are sampled, because a fit to all values takes minutes and has the same result.
"""

LEAST_FITTED = 100
"""Minimum number of values for fitting a power law."""

_LAWS = {
    "lognormal": "log-normal",
    "truncated_power_law": "power law with cut-off",
    "stretched_exponential": "stretched exponential",
    "exponential": "exponential",
}
_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Rival:
    """Comparison of the power law with another distribution, such as the log-normal.

    - `ratio`: normalised log-likelihood ratio. Above 0, the power law fits better; below 0, the
      other distribution fits better.
    - `p`: probability of a ratio at least this far from 0 if both distributions fit equally well.
    """

    law: str
    ratio: float
    p: float

    @property
    def verdict(self) -> str:
        """A text for display that says which distribution fits significantly better, if any."""
        if self.p >= _SIGNIFICANCE:
            return "no significant difference"
        return "power law fits better" if self.ratio > 0 else f"{self.law} fits better"


@dataclass(frozen=True)
class Fit:
    """A power law fitted to the tail of a distribution, and compared with other distributions.

    - `exponent`: exponent of the power law, above 1.
    - `least`: smallest value of the tail.
    - `in_tail`: share of all values that are in the tail.
    - `sampled`: number of values to which the power law was fitted.
    - `rivals`: comparisons with the other distributions.
    - `places`: values in the tail at which `curves` are evaluated, ascending.
    - `curves`: for the power law and the best of the rivals, by name, the expected share of the
      tail that is at least as large as each value in `places`.
    """

    exponent: float
    least: int
    in_tail: float
    sampled: int
    rivals: list[Rival]
    places: list[float]
    curves: dict[str, list[float]]


@dataclass(frozen=True)
class Spread:
    """A distribution: the values, and a power law fit of the tail if there are enough values."""

    values: Counts
    fit: Fit | None = None

    def figures(self) -> dict[str, Any]:
        """Return the count, mean, quantiles and maximum of the values, and the share of ones."""
        values = self.values
        quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
        names = ("p5", "p25", "median", "p75", "p95")
        return {
            "count": len(values),
            "mean": float(values.mean()),
            **dict(zip(names, quantiles, strict=True)),
            "most": int(values.max()),
            "once": float((values == 1).mean()),
        }


@dataclass(frozen=True)
class Stats:
    """The statistics that `nextsong ingest stats` shows.

    `top_songs` and `top_artists` contain names and numbers of playlists, the largest number first.
    The distributions of artists are None if no song has an artist, and the distribution of owners
    is None if there are fewer than two owners.
    """

    playlists: int
    plays: int
    owners: int
    lengths: Spread
    artists_in_playlist: Spread | None
    playlists_of_song: Spread
    playlists_of_artist: Spread | None
    playlists_of_owner: Spread | None
    top_songs: list[tuple[str, int]]
    top_artists: list[tuple[str, int]]

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as a JSON object, without the values of the distributions."""
        result: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Spread):
                fit = value.fit and {
                    key: part
                    for key, part in asdict(value.fit).items()
                    if key not in {"places", "curves"}
                }
                result[name] = value.figures() | {"power_law": fit}
            else:
                result[name] = value
        return result


def measure(work: Path, reporter: Reporter) -> Stats:
    """Measure the playlists of the last ingest run in the work folder.

    Raises `MismatchError` if the folder has no playlists, and `InputError` if the extra `plots` is
    not installed.
    """
    folder = finished_stage(work, "prepare").folder
    with reporter.task("measure") as task:
        table = pq.read_table(folder / "playlists.parquet", columns=["owner", "songs"])
        lists = table["songs"].combine_chunks()
        songs, lengths = lists.flatten().to_numpy(), np.diff(lists.offsets.to_numpy())
        names = pq.read_table(folder / "songs.parquet", columns=["artist", "title", "artist_key"])
        of_song = np.bincount(songs, minlength=len(names)).astype(np.int64)
        artist, artists = _number_artists(names["artist_key"])
        playlist = np.repeat(np.arange(len(lengths)), lengths)
        named = artist[songs] >= 0
        pairs = np.unique(playlist[named] * artists + artist[songs[named]])
        of_artist = np.bincount(pairs % max(1, artists), minlength=artists)
        in_playlist = np.bincount(pairs // max(1, artists), minlength=len(lengths))
        task.advance(1, 3)
        top_songs, top_artists = _largest(of_song), _largest(of_artist)
        # The spelling of an artist is taken from the artist's most played song. `by_plays` ascends,
        # so the most played song is assigned last, and the last assignment counts.
        named_in_row = np.zeros(artists, np.int64)
        by_plays = np.argsort(of_song, kind="stable")
        by_plays = by_plays[artist[by_plays] >= 0]
        named_in_row[artist[by_plays]] = by_plays
        top_counts, of_artist = of_artist[top_artists], of_artist[of_artist > 0]
        owners = _owners(table["owner"])
        song_fit = _fit(of_song[of_song > 0])
        task.advance(2, 3)
        stats = Stats(
            playlists=len(lengths),
            plays=len(songs),
            owners=len(owners),
            lengths=Spread(lengths.astype(np.int64)),
            artists_in_playlist=Spread(in_playlist) if artists else None,
            playlists_of_song=Spread(of_song[of_song > 0], song_fit),
            playlists_of_artist=Spread(of_artist, _fit(of_artist)) if artists else None,
            playlists_of_owner=Spread(owners) if len(owners) > 1 else None,
            top_songs=_name(names, top_songs, of_song[top_songs], ("artist", "title")),
            top_artists=_name(names, named_in_row[top_artists], top_counts, ("artist",)),
        )
        task.result(f"{stats.playlists:,} playlists, {stats.plays:,} plays")
    return stats


def _number_artists(keys: pa.ChunkedArray) -> tuple[Counts, int]:
    """Return the artist number of each song, and the number of artists.

    The artist number is -1 if the song has no artist.
    """
    named = pc.if_else(pc.equal(keys, ""), pa.scalar(None, pa.string()), keys)
    coded = named.combine_chunks().dictionary_encode()
    numbers: Counts = pc.fill_null(coded.indices, -1).to_numpy().astype(np.int64)
    return numbers, len(coded.dictionary)


def _largest(counts: Counts) -> Counts:
    """Return the indexes of the `TOP` largest counts above 0, in descending order of the counts."""
    order = np.argsort(-counts, kind="stable")[:TOP]
    return order[counts[order] > 0]


def _name(
    names: pa.Table, rows: Counts, counts: Counts, columns: tuple[str, ...]
) -> list[tuple[str, int]]:
    taken = names.take(pa.array(rows))
    texts = zip(*(taken[column].to_pylist() for column in columns), strict=True)
    return [(" - ".join(filter(None, text)), int(n)) for text, n in zip(texts, counts, strict=True)]


def _owners(owner: pa.ChunkedArray) -> Counts:
    """Return the number of playlists per owner. Playlists without an owner are ignored."""
    named = owner.filter(pc.not_equal(owner, ""))
    counts: Counts = named.value_counts().field("counts").to_numpy()
    return counts


def _fit(values: Counts) -> Fit | None:
    if len(values) < LEAST_FITTED or values.max() < 3:
        return None
    sample = values
    if len(values) > FITTED:
        sample = np.random.default_rng(0).choice(values, FITTED, replace=False)
    with extra_needed("plots"):
        import powerlaw
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the optimiser warns of attempts that it discards later
        fit = powerlaw.Fit(sample, discrete=True, verbose=0)
        rivals = []
        for law, name in _LAWS.items():
            ratio, p = fit.distribution_compare("power_law", law, normalized_ratio=True)
            if np.isfinite(ratio) and np.isfinite(p):
                rivals.append(Rival(name, float(ratio), float(p)))
        least = round(float(fit.xmin))
        places = np.unique(np.geomspace(least, int(sample.max()), 60).astype(np.int64))
        best = min(rivals, key=lambda rival: rival.ratio, default=None)
        curves = _curves(fit, places, best)
    return Fit(
        exponent=float(fit.power_law.alpha),
        least=least,
        in_tail=float((values >= least).mean()),
        sampled=len(sample),
        rivals=rivals,
        places=places.tolist(),
        curves=curves,
    )


def _curves(fit: Any, places: Counts, best: Rival | None) -> dict[str, list[float]]:
    """Return `Fit.curves`. Curves that cannot be computed are not included."""
    laws = {"power_law": "power law"}
    laws |= {law: name for law, name in _LAWS.items() if best and name == best.law}
    curves = {}
    for law, name in laws.items():
        share = np.asarray(getattr(fit, law).ccdf(places.astype(float)), dtype=float)
        if np.isfinite(share).all() and share[0] > 0:
            curves[name] = (share / share[0]).tolist()
    return curves
