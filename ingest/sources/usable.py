"""Which strings cannot be names or values: too long, or with a NUL in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

LONGEST_VALUE = 10_000  # bytes: what is longer is no name


def unusable(values: pa.Array) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Flags of such strings, with the reason; nothing where there is none of a kind."""
    _, _, data = values.buffers()
    lengths = pc.binary_length(values)
    if (pc.max(lengths).as_py() or 0) > LONGEST_VALUE:
        long = pc.fill_null(pc.greater(lengths, LONGEST_VALUE), False)
        yield np.asarray(long), f"is longer than {LONGEST_VALUE:,} bytes"
    if data is not None and (np.frombuffer(data, np.uint8) == 0).any():
        holds = pc.fill_null(pc.match_substring(values, pattern="\0"), False)
        yield np.asarray(holds), "holds a NUL character"
