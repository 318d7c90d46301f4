"""What `nextsong doctor` says of the service's settings: whether it could start with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.commands.doctor import Finding
from catalog.errors import NextsongError
from service import settings as sources
from service.rpc.keys import Keys
from service.rpc.tls import credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.settings import Settings


def examine_settings(config: Path | None) -> Iterator[Finding]:
    """Look at what the environment and the TOML file `config` say, and at the files they name."""
    where = f"the environment and {config}" if config else "the environment"
    try:
        found = sources.load({}, config)
        found.qdrant()
    except NextsongError as error:
        yield Finding(
            "failure", f"the service cannot start: {error}", f"mend the setting in {where}"
        )
        return
    problems = list(_of_files(found))
    yield from problems
    if not problems:
        listens = f"{found.host}:{found.port}, {found.workers} processes"
        yield Finding("ok", f"the service's settings in {where} can be used ({listens})")


def _of_files(found: Settings) -> Iterator[Finding]:
    try:
        credentials(found)
    except NextsongError as error:
        yield Finding("failure", f"the service cannot start: {error}", "mend the certificate files")
    try:
        if found.keys_file:
            Keys(found.keys_file)
    except NextsongError as error:
        yield Finding("failure", f"the service cannot start: {error}", "mend the file of keys")
    if found.keys_file and not found.tls_cert:
        yield Finding(
            "warning", "callers' keys travel in clear without TLS", "set tls_cert and tls_key"
        )
