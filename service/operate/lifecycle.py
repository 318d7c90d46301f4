"""Run the service in this process, or in several processes that share a port."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import prometheus_client as prometheus

from service.operate import logs
from service.operate.logs import log
from service.operate.metrics import Metrics, serve_metrics
from service.operate.process import catch_stop_signals, serve
from service.operate.supervisor import supervise

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.operate.process import Ready
    from service.settings import Settings


def run(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called once the service answers calls.

    Raises `SettingsError`, `NoReleaseError`, `CorruptReleaseError`, `EngineError`, `BusyError`,
    `UnavailableError` or `SupervisionError`.
    """
    logs.configure(settings.log_level, settings.log_format)
    if settings.keys_file and not settings.tls_cert and not _is_loopback(settings.host):
        log.warning("keys are sent unencrypted without TLS: set tls_cert and tls_key")
    if settings.workers > 1:
        asyncio.run(supervise(settings, ready))
    else:
        asyncio.run(_serve_alone(settings, ready))


async def _serve_alone(settings: Settings, ready: Callable[[Ready], None]) -> None:
    registry = prometheus.CollectorRegistry()
    metrics = Metrics(registry)
    prometheus.ProcessCollector(registry=registry)
    prometheus.PlatformCollector(registry=registry)
    with serve_metrics(settings.metrics_host, settings.metrics_port, registry) as port:
        await serve(
            settings,
            metrics,
            lambda message: ready(replace(message, metrics_port=port)),
            catch_stop_signals(),
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
