"""Check, for `nextsong doctor`, that the service can start with its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.commands.doctor import Finding
from catalog.errors import NextsongError
from service import settings as service_settings
from service.rpc.interceptors.keys import Keys
from service.rpc.tls import load_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.settings import Settings


def examine_settings(config: Path | None) -> Iterator[Finding]:
    """Yield findings about the settings in the environment and in the TOML file `config`.

    The certificate and key files that the settings name are checked, too.
    """
    where = f"the environment and {config}" if config else "the environment"
    try:
        settings = service_settings.load({}, config)
        settings.qdrant()
    except NextsongError as error:
        yield Finding(
            "failure", f"the service cannot start: {error}", f"correct the setting in {where}"
        )
        return
    problems = list(_check_files(settings))
    yield from problems
    if not problems:
        processes = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
        listener = f"{settings.host}:{settings.port}, {processes}"
        yield Finding("ok", f"the service's settings in {where} can be used ({listener})")


def _check_files(settings: Settings) -> Iterator[Finding]:
    try:
        load_credentials(settings)
    except NextsongError as error:
        yield Finding(
            "failure", f"the service cannot start: {error}", "correct the certificate files"
        )
    try:
        if settings.keys_file:
            Keys(settings.keys_file)
    except NextsongError as error:
        yield Finding("failure", f"the service cannot start: {error}", "correct the file of keys")
    if settings.keys_file and not settings.tls_cert:
        yield Finding(
            "warning", "callers' keys are sent unencrypted without TLS", "set tls_cert and tls_key"
        )
