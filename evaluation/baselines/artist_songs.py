"""A baseline for new songs: the most popular songs of the artists of the query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from evaluation.baselines.top import batch_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import SongNumbers
    from ingest.learn.arrays import EncodedKeys


class ArtistSongs:
    """Recommends songs of the artists of the seeds, ranked by their number of training playlists.

    Ties are broken at random.

    - `artists`: the (song, artist) pairs of all songs.
    - `playlists`, shape (songs,): the number of training playlists that contain each song.
    - `in_catalog`, shape (songs,): whether each song can be recommended.
    """

    key, name = "artist-songs", "popularity within artist"

    def __init__(
        self,
        artists: EncodedKeys,
        playlists: np.ndarray[tuple[int], np.dtype[np.int64]],
        in_catalog: np.ndarray[tuple[int], np.dtype[np.bool_]],
        seed: int,
    ) -> None:
        shape = (len(playlists), int(artists.codes.max(initial=-1)) + 1)
        ones = np.ones(len(artists.codes), np.float32)
        self._artists_of = csr_array((ones, (artists.rows, artists.codes)), shape=shape)
        self._in_catalog = in_catalog
        order = np.lexsort((np.random.default_rng(seed).random(len(playlists)), -playlists))
        self._rank = np.empty(len(playlists), np.int64)
        self._rank[order] = np.arange(len(playlists))

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the songs of the seeds' artists for each case, in batches of shape (n, limit)."""
        songs_of = self._artists_of.T.tocsr()
        for seeds in batch_seeds(cases, limit):
            of_query = seeds.to_matrix(len(self._rank)) @ self._artists_of
            related = of_query @ songs_of
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            for row in range(len(seeds)):
                songs = related.indices[related.indptr[row] : related.indptr[row + 1]]
                songs = songs[self._in_catalog[songs] & ~np.isin(songs, seeds[row])]
                songs = songs[np.argsort(self._rank[songs])][:limit]
                rankings[row, : len(songs)] = songs
            yield rankings
