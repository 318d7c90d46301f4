"""Digest of all songs of a release. It depends neither on the store nor on the order of songs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.schema import build_payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MODULUS = 1 << 128


def compute_digest(row: Mapping[str, Any]) -> int:
    """Return a 128-bit digest of a song's payload, without nulls, and dense and sparse vectors.

    `row` is a row as described in `catalog.draft.Draft`.
    """
    text = json.dumps(build_payload(row), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    digest.update(b"\0" + np.asarray(row["vector"] or [], "<f4").tobytes() + b"\0")
    seeds = np.asarray(row["seeds"] or [], "<u4")
    order = np.argsort(seeds, kind="stable")
    weights = np.asarray(row["strengths"] or [], "<f4")
    digest.update(seeds[order].tobytes() + b"\0" + weights[order].tobytes())
    return int.from_bytes(digest.digest())


class Digest:
    """The sum, modulo 2^128, of the digests of all songs added so far.

    `songs` is the number of these songs.
    """

    def __init__(self) -> None:
        self.songs = 0
        self._sum = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add songs, given as rows as described in `catalog.draft.Draft`."""
        for row in rows:
            self.songs += 1
            self._sum = (self._sum + compute_digest(row)) % _MODULUS

    def hex(self) -> str:
        """Return the sum as 32 hexadecimal digits."""
        return f"{self._sum:032x}"
