"""The options of commands that call a running service: address, TLS and certificates."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.client.client import Client

Command = TypeVar("Command", bound="Callable[..., Any]")

KEY = "NEXTSONG_KEY"

MAX_PORT = 65_535
_HOST_AND_PORT = re.compile(r"(?:[^\s:/\[\]]+|\[[0-9a-fA-F:.]+(?:%\w+)?\]):(?P<port>[0-9]{1,9})")
_GRPC_TARGETS = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "xds:")

_FILE: click.ParamType[Any] = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a running service, and the TLS settings to connect with."""

    address: str
    tls: bool
    ca: Path | None
    cert: Path | None
    cert_key: Path | None

    def connect(self) -> Client:
        """Return a client that uses the API key in the environment. Raises `SettingsError`."""
        # Keep gRPC from writing log lines before our messages. gRPC reads the variable on import.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from service.client.client import Client

        return Client(
            self.address,
            key=os.environ.get(KEY),
            tls=self.tls,
            ca=self.ca,
            cert=self.cert,
            key_of_cert=self.cert_key,
        )


def require_address(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """Return the address, which must be HOST:PORT or in gRPC's notation. Raises `BadParameter`."""
    if not value or value.startswith(_GRPC_TARGETS):
        return value
    match = _HOST_AND_PORT.fullmatch(value)
    if match is None:
        raise click.BadParameter(
            f"{value!r} is not of the form HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051"
        )
    if not 1 <= int(match["port"]) <= MAX_PORT:
        raise click.BadParameter(f"the port of {value!r} must be from 1 to {MAX_PORT:,}")
    return value


_OPTIONS = [
    click.option(
        "--address",
        callback=require_address,
        envvar="NEXTSONG_ADDRESS",
        metavar="HOST:PORT",
        show_envvar=True,
        help=f"Call a running service, with the key in {KEY}.  [default: open the current "
        "release in HOME]",
    ),
    click.option(
        "--tls",
        is_flag=True,
        envvar="NEXTSONG_TLS",
        show_envvar=True,
        help="Use TLS, and trust the certificates that the system trusts.",
    ),
    click.option(
        "--ca",
        type=_FILE,
        envvar="NEXTSONG_CA",
        show_envvar=True,
        help="Use TLS, and trust only the certificates in this PEM file.",
    ),
    click.option(
        "--cert",
        type=_FILE,
        envvar="NEXTSONG_CERT",
        show_envvar=True,
        help="PEM file of a certificate chain for mutual TLS.",
    ),
    click.option(
        "--cert-key",
        type=_FILE,
        envvar="NEXTSONG_CERT_KEY",
        show_envvar=True,
        help="PEM file of the private key of --cert.",
    ),
]


def service_options(command: Command) -> Command:
    """Add the service options. The command receives `target`, which is None without --address."""

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
            raise click.UsageError("--cert and --cert-key must be given together")
        target = Target(address, tls, ca, cert, cert_key) if address else None
        return command(*args, target=target, **kwargs)

    options: Any = wrapped
    for option in reversed(_OPTIONS):
        options = option(options)
    return cast("Command", options)
