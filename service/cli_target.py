"""The options that name a running service, and how to be let in: address, TLS and certificates."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.client import Client

Command = TypeVar("Command", bound="Callable[..., Any]")

KEY = "NEXTSONG_KEY"

_FILE: click.ParamType[Any] = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Target:
    """A running service."""

    address: str
    tls: bool
    ca: Path | None
    cert: Path | None
    cert_key: Path | None

    def client(self) -> Client:
        """A client of it, with the key from the environment. Raises `SettingsError`."""
        from service.client import Client

        return Client(
            self.address,
            key=os.environ.get(KEY),
            tls=self.tls,
            ca=self.ca,
            cert=self.cert,
            key_of_cert=self.cert_key,
        )


_OPTIONS = [
    click.option(
        "--address",
        envvar="NEXTSONG_ADDRESS",
        metavar="HOST:PORT",
        show_envvar=True,
        help=f"Ask a running service, with the key in {KEY}.  [default: open the current release "
        "in HOME]",
    ),
    click.option(
        "--tls",
        is_flag=True,
        envvar="NEXTSONG_TLS",
        show_envvar=True,
        help="Speak TLS with the service, and trust the system's certificates.",
    ),
    click.option(
        "--ca",
        type=_FILE,
        envvar="NEXTSONG_CA",
        show_envvar=True,
        help="Speak TLS, and trust these certificates (PEM) alone.",
    ),
    click.option(
        "--cert",
        type=_FILE,
        envvar="NEXTSONG_CERT",
        show_envvar=True,
        help="Show this certificate chain (PEM) to the service: mutual TLS.",
    ),
    click.option(
        "--cert-key",
        type=_FILE,
        envvar="NEXTSONG_CERT_KEY",
        show_envvar=True,
        help="Private key (PEM) of that certificate.",
    ),
]


def running_service(command: Command) -> Command:
    """Add the options that name a service; the command gets `target`, None without an address."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        address: str | None,
        tls: bool,
        ca: Path | None,
        cert: Path | None,
        cert_key: Path | None,
        **kwargs: Any,
    ) -> Any:
        if (cert is None) != (cert_key is None):
            raise click.UsageError("--cert and --cert-key are given together, or neither")
        target = Target(address, tls, ca, cert, cert_key) if address else None
        return command(*args, target=target, **kwargs)

    options: Any = wrapped
    for option in reversed(_OPTIONS):
        options = option(options)
    return cast("Command", options)
