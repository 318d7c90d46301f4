"""Weights of the seeds of a query by recency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Recency:
    """A function from the age of a seed to its weight. The age is the number of later seeds.

    - `power`: the weight is (age + 1)^-power. If `power` is 0, all seeds have the same weight; if
      it is infinite, only the most recent of the seeds given to `weights` has a weight above 0.
    - `decay`: if set, the weight is decay^age instead, as in releases of format 2. Ages are then
      counted from the most recent of the seeds given to `weights`, because otherwise all weights
      could be rounded to 0.
    """

    power: float = 0.0
    decay: float | None = None

    @classmethod
    def of_sparse(cls, parameters: Mapping[str, Any]) -> Recency:
        """Return the recency for searches by co-occurrence, from the parameters in a manifest."""
        if "recency" in parameters:
            return cls(float(parameters["recency"]))
        return cls(decay=float(parameters.get("cooccurrence_decay", parameters["query_decay"])))

    @classmethod
    def of_dense(cls, parameters: Mapping[str, Any]) -> Recency:
        """Return the recency for searches by dense vector, from the parameters in a manifest."""
        if "dense_recency" in parameters:
            return cls(float(parameters["dense_recency"]))
        return cls(decay=float(parameters["query_decay"]))

    def weights(self, ages: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weights of n seeds, shape (n,), for their ages (0 or more), shape (n,)."""
        youngest = ages.min(initial=np.iinfo(np.int64).max)
        if self.decay is not None:
            weights = np.power(self.decay, ages - youngest, dtype=np.float64)
        elif math.isinf(self.power):
            weights = ages == youngest
        else:
            weights = np.power(ages + 1.0, -self.power)
        return np.asarray(weights, dtype=np.float64)
