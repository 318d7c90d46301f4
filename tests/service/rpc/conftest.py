"""Fixtures of the RPC layer: a file of API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rpc_calls import KEY, OTHER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """A file with the keys `KEY`, which has no name, and `OTHER`, named shop."""
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{KEY}\nshop {OTHER}\n")
    return path
