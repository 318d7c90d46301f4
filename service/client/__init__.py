"""The Python client of the service.

`Client` is imported on first use, because commands import other modules of this package and
`nextsong --help` must not load gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from service.client.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
