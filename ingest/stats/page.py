"""The HTML page of `nextsong ingest stats`: statistics as numbers, charts and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from catalog.files import make_folder
from ingest.stats.charts import COLOURS, SOFT, drawing, integers, logarithmic, save
from ingest.stats.html import Fact, Page, Section, Table, write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.stats.charts import Picture
    from ingest.stats.measures import Spread, Stats

_LEAD = (
    "Playlists as used for training: names are trimmed, each song of a playlist counts once, short "
    "playlists and rejected rows are left out."
)
_MAX_NAME = 38  # maximum number of characters of a name
_MAX_BARS = 40  # histograms of larger values have logarithmic bins


def write(stats: Stats, folder: Path) -> Path:
    """Write `index.html` and its charts (PNG and SVG) to `folder`; return the path of the page.

    Raises `InputError` if the extra `plots` is not installed, and `StorageError`.
    """
    make_folder(folder)
    path = folder / "index.html"
    write_page(_page(stats, folder), path)
    return path


def _page(stats: Stats, folder: Path) -> Page:
    songs, artists = stats.playlists_of_song, stats.playlists_of_artist
    facts = [
        Fact(f"{stats.plays:,}", "plays"),
        Fact(f"{stats.playlists:,}", "playlists"),
        Fact(f"{len(songs.values):,}", "songs"),
        *([Fact(f"{len(artists.values):,}", "artists")] if artists else []),
        Fact(f"{np.median(stats.lengths.values):.0f}", "songs in the median playlist"),
        Fact(f"{songs.figures()['once']:.0%}", "of songs are in a single playlist"),
    ]
    if stats.owners:
        facts.insert(2, Fact(f"{stats.owners:,}", "owners"))
    return Page(
        title="Statistics of the playlists",
        lead=[_LEAD],
        facts=facts,
        sections=[
            _make_lengths(stats, folder),
            _make_distribution(stats, folder),
            _make_top(stats, folder),
            _make_laws(stats),
        ],
        foot="Made by nextsong ingest stats.",
    )


def _make_lengths(stats: Stats, folder: Path) -> Section:
    pictures = [
        _draw_histogram(
            stats.lengths,
            folder,
            ("lengths", "Songs in a playlist", "songs", "playlists"),
            "Lengths of playlists",
        )
    ]
    rows = [
        ("songs in a playlist", stats.lengths),
        ("playlists of a song", stats.playlists_of_song),
    ]
    if stats.artists_in_playlist and stats.playlists_of_artist:
        pictures.append(
            _draw_histogram(
                stats.artists_in_playlist,
                folder,
                ("artists-in-playlist", "Artists in a playlist", "different artists", "playlists"),
                "Number of different artists in a playlist",
            )
        )
        rows.insert(1, ("artists in a playlist", stats.artists_in_playlist))
        rows.append(("playlists of an artist", stats.playlists_of_artist))
    if stats.playlists_of_owner:
        pictures.append(
            _draw_histogram(
                stats.playlists_of_owner,
                folder,
                ("playlists-of-owner", "Playlists of an owner", "playlists", "owners"),
                "Number of playlists of an owner",
            )
        )
        rows.append(("playlists of an owner", stats.playlists_of_owner))
    table = Table(
        ["", "mean", "5%", "25%", "median", "75%", "95%", "most"],
        [[name, *_format_row(spread)] for name, spread in rows],
        caption="A column such as 25% is a quantile: 25% of the values are at or below it.",
    )
    return Section("Playlists", pictures=pictures, tables=[table])


def _format_row(spread: Spread) -> list[str]:
    figures = spread.figures()
    quantiles = [f"{figures[name]:,.0f}" for name in ("p5", "p25", "median", "p75", "p95", "most")]
    return [f"{figures['mean']:,.1f}", *quantiles]


def _make_distribution(stats: Stats, folder: Path) -> Section:
    pictures = [
        *(
            _draw_tail(spread, folder, name, colour)
            for name, spread, colour in _distributions(stats)
        ),
        _draw_concentration(stats, folder),
        _draw_ranks(stats, folder),
    ]
    text = (
        f"The most popular 1% of songs have {_share_of_top(stats.playlists_of_song, 0.01):.0%} of "
        "the plays"
    )
    if stats.playlists_of_artist:
        text += (
            ", and the most popular 1% of artists have "
            f"{_share_of_top(stats.playlists_of_artist, 0.01):.0%} of all occurrences of an artist "
            "in a playlist"
        )
    once = stats.playlists_of_song.figures()["once"]
    text += (
        f". {once:.0%} of songs are in a single playlist: all that is known of such a song is its "
        "neighbours in that playlist."
    )
    return Section("Distribution of songs and artists", [text], pictures)


def _distributions(stats: Stats) -> list[tuple[str, Spread, str]]:
    """Return the name, distribution and colour of the curves for songs and for artists."""
    distributions = [("songs", stats.playlists_of_song, COLOURS[0])]
    if stats.playlists_of_artist:
        distributions.append(("artists", stats.playlists_of_artist, COLOURS[1]))
    return distributions


def _share_of_top(spread: Spread, share: float) -> float:
    values = np.sort(spread.values)[::-1]
    return float(values[: max(1, round(share * len(values)))].sum() / values.sum())


def _make_top(stats: Stats, folder: Path) -> Section:
    pictures = [
        _draw_bars(stats.top_songs, folder, "top-songs", "Songs in most playlists", COLOURS[0])
    ]
    if stats.top_artists:
        picture = _draw_bars(
            stats.top_artists, folder, "top-artists", "Artists in most playlists", COLOURS[1]
        )
        pictures.insert(0, picture)
    return Section("The most popular", pictures=pictures)


def _make_laws(stats: Stats) -> Section:
    rows, text = [], []
    for name, spread, _ in _distributions(stats):
        fit = spread.fit
        if fit is None:
            text.append(f"Too few {name} for a fit.")
            continue
        sampled = (
            f", fitted to a random sample of {fit.sampled:,}"
            if fit.sampled < len(spread.values)
            else ""
        )
        text.append(
            f"Among {name} in {fit.least:,} playlists or more ({fit.in_tail:.1%} of them), the "
            f"share that is in x playlists falls like x to the power of -{fit.exponent:.2f}"
            f"{sampled}."
        )
        rows += [
            [
                f"{name}: {rival.law}",
                f"{rival.ratio:+.1f}",
                "< 0.001" if rival.p < 0.001 else f"{rival.p:.3f}",
                rival.verdict,
            ]
            for rival in fit.rivals
        ]
    table = Table(
        ["the power law against", "log-likelihood ratio", "p", "verdict"],
        rows,
        caption="Ratios are normalised: above 0 the power law fits better, below 0 the other law.",
    )
    return Section("Is it a power law?", text, tables=[table] if rows else [])


def _draw_histogram(
    spread: Spread, folder: Path, names: tuple[str, str, str, str], caption: str
) -> Picture:
    name, title, across, up = names
    values = spread.values
    most, median = int(values.max()), float(np.median(values))
    with drawing() as (figure, axes):
        if most <= _MAX_BARS:
            heights = np.bincount(values, minlength=most + 1)
            axes.bar(np.arange(most + 1), heights, width=0.85, color=COLOURS[0], alpha=0.85)
            integers(axes.xaxis)
            axes.set_xlim(0.4, most + 0.6)
            caption += "."
        else:
            edges = np.unique(np.geomspace(1, most + 1, 40).astype(np.int64)) - 0.5
            # Because the edges of the bins are whole numbers, the bins have different widths on the
            # logarithmic axis. Therefore, the counts are divided by the widths.
            heights = np.histogram(values, edges)[0] / np.diff(np.log2(edges))
            axes.stairs(heights, edges, fill=True, color=COLOURS[0], alpha=0.85)
            logarithmic(axes.xaxis, 1, most)
            axes.set_xlim(0.5, edges[-1])
            up += " per doubling"
            caption += ". On the logarithmic axis, equal areas mean equal numbers."
        integers(axes.yaxis)
        axes.axvline(median, color=COLOURS[1], linewidth=1.4)
        axes.set(title=title, xlabel=across, ylabel=up)
        axes.set_ylim(0, 1.15 * max(1.0, float(heights.max())))
        axes.annotate(
            f"median {median:,.0f}",
            (median, 1),
            (4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color=COLOURS[1],
        )
        axes.grid(visible=False, axis="x")
        return save(figure, folder, name, caption)


def _draw_tail(spread: Spread, folder: Path, name: str, colour: str) -> Picture:
    values = np.sort(spread.values)
    at, first = np.unique(values, return_index=True)
    share = 1 - first / len(values)
    with drawing() as (figure, axes):
        axes.plot(at, 100 * share, ".", markersize=4, color=colour, label=name)
        fit = spread.fit
        if fit:
            level = float((values >= fit.least).mean())
            for (law, curve), style in zip(fit.curves.items(), ("-", "--"), strict=False):
                shown = np.asarray(curve) * level
                inside = shown > 0.3 / len(values)
                axes.plot(
                    np.asarray(fit.places)[inside],
                    100 * shown[inside],
                    style,
                    color=COLOURS[2] if style == "-" else COLOURS[4],
                    label=law,
                )
        logarithmic(axes.xaxis, 1, int(values[-1]))
        logarithmic(axes.yaxis, 100 * float(share[-1]), 100, "%")
        axes.set(title=f"Playlists of {name}", xlabel="playlists, or more")
        axes.set_ylabel(f"share of {name}")
        axes.legend()
        caption = f"Share of {name} that are in at least this many playlists"
        caption += ", and the laws fitted to the tail." if fit else "."
        return save(figure, folder, f"playlists-of-{name}", caption)


def _draw_concentration(stats: Stats, folder: Path) -> Picture:
    with drawing() as (figure, axes):
        for name, spread, colour in _distributions(stats):
            values = np.sort(spread.values)[::-1]
            held = np.cumsum(values) / values.sum()
            places = np.unique(np.geomspace(1, len(values), 200).astype(np.int64))
            axes.plot(100 * places / len(values), held[places - 1], color=colour, label=name)
        longest = max(len(spread.values) for _, spread, _ in _distributions(stats))
        logarithmic(axes.xaxis, 100 / longest, 100, "%")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.6g}%")
        axes.set(title="Share of the most popular", ylabel="share of their plays")
        axes.set_xlabel("share of songs or artists, most popular first")
        axes.set_ylim(0, 1.02)
        axes.legend()
        return save(
            figure,
            folder,
            "concentration",
            "Share of all plays that the most popular songs and artists have.",
        )


def _draw_ranks(stats: Stats, folder: Path) -> Picture:
    with drawing() as (figure, axes):
        for name, spread, colour in _distributions(stats):
            values = np.sort(spread.values)[::-1]
            places = np.unique(np.geomspace(1, len(values), 200).astype(np.int64))
            axes.plot(places, values[places - 1], color=colour, label=name)
        spreads = [spread for _, spread, _ in _distributions(stats)]
        logarithmic(axes.xaxis, 1, max(len(spread.values) for spread in spreads))
        logarithmic(axes.yaxis, 1, max(int(spread.values.max()) for spread in spreads))
        axes.set(title="Popularity by rank", xlabel="rank", ylabel="playlists")
        axes.legend()
        return save(figure, folder, "ranks", "Number of playlists by rank of popularity.")


def _draw_bars(
    top: Sequence[tuple[str, int]], folder: Path, name: str, title: str, colour: str
) -> Picture:
    shown = list(reversed(top))
    with drawing(height=5.2) as (figure, axes):
        places = np.arange(len(shown))
        counts = [count for _, count in shown]
        axes.barh(places, counts, color=colour, alpha=0.85, height=0.72)
        axes.set_yticks(places, [_shorten(text) for text, _ in shown])
        axes.tick_params(axis="y", length=0, labelsize=8.5)
        for place, count in zip(places, counts, strict=True):
            axes.annotate(
                f"{count:,}",
                (count, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=SOFT,
            )
        axes.set_xlim(0, 1.16 * max(counts, default=1))
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_title(title)
        axes.xaxis.set_visible(False)
        axes.grid(visible=False)
        for side in ("bottom", "left"):
            axes.spines[side].set_visible(False)
        return save(figure, folder, name, "The bar and its number: playlists.")


def _shorten(text: str) -> str:
    shortened = text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"
    return shortened.replace("$", r"\$")  # matplotlib reads text between dollar signs as a formula
