"""The Python client, in process or over gRPC."""

from service.client.client import Client

__all__ = ["Client"]
