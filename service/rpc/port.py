"""Check that a port is free before gRPC binds it, or reserve a port for several processes."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from catalog.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 1_024  # connections that may wait for the process to accept them


def format_host(host: str) -> str:
    """Return a host in the form used in addresses, with brackets around an IPv6 host."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def build_busy_error(host: str, port: int) -> BusyError:
    """Return the error for a port that cannot be bound."""
    return BusyError(
        f"cannot listen on {format_host(host)}:{port}: the port is in use, or the address is not "
        f"one of this machine; choose another with --port or --host"
    )


def require_free_port(host: str, port: int) -> None:
    """Raise `BusyError` if none of the host's addresses can be bound.

    gRPC would fail as well, but would first write its own messages to standard error.
    """
    try:
        addresses = _resolve(host, port)
    except OSError as error:
        raise build_busy_error(host, port) from error
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                _allow_time_wait(probe)
                probe.bind(address)
        except OSError as error:
            failure = error
        else:
            return
    raise build_busy_error(host, port) from failure


def listen_on_port(host: str, port: int, *, is_shared: bool) -> socket.socket:
    """Return a socket that listens on the host's first address. Raises `BusyError`.

    If `is_shared`, other processes can listen on the same port with SO_REUSEPORT.
    """
    try:
        family, kind, protocol, _, address = _resolve(host, port)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            _allow_time_wait(listener)
            if is_shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise build_busy_error(host, port) from error
    return listener


@contextmanager
def reserve_port(host: str, port: int) -> Iterator[int]:
    """Hold a port on which processes can listen with SO_REUSEPORT, and yield its number.

    The socket that holds the port does not listen, so it gets no connections. Raises `BusyError`.
    """
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = _resolve(host, port)[0]
            with socket.socket(family, kind, protocol) as probe:
                # Bind without SO_REUSEPORT first, which fails if other servers share the port.
                _allow_time_wait(probe)
                probe.bind(address)
                address = (address[0], probe.getsockname()[1], *address[2:])
            reserved = stack.enter_context(socket.socket(family, kind, protocol))
            _allow_time_wait(reserved)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind(address)
        except OSError as error:
            raise build_busy_error(host, port) from error
        yield int(address[1])


def _resolve(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )


def _allow_time_wait(listener: socket.socket) -> None:
    """Let a socket bind a port whose last connections are still in TIME_WAIT."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
