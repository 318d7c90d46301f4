"""The health of the service, as the standard gRPC health protocol reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from nextsong.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    import grpc

SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"].full_name
ALIVE = "alive"
"""Service name whose health check returns SERVING while the process runs, for liveness probes."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Reports over gRPC whether calls can be answered."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._servicer = health.aio.HealthServicer()
        self._is_serving: bool | None = None
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Report that the process runs, under the name `ALIVE`."""
        await self._servicer.set(ALIVE, SERVING)

    async def set_serving(self, is_serving: bool) -> None:
        """Report whether calls can be answered."""
        if is_serving is not self._is_serving:
            self._is_serving = is_serving
            for service in ("", SERVICE):
                await self._servicer.set(service, SERVING if is_serving else NOT_SERVING)
