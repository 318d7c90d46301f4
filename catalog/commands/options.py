"""What the commands of every room share: options, and errors turned into one line."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from catalog.server.options import API_KEY, CollectionLayout, qdrant_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog.console.progress import Reporter
    from catalog.server.options import QdrantOptions

Command = TypeVar("Command", bound="Callable[..., Any]")

COMPLETION_S = 2  # seconds that the completion of a shell waits for a Qdrant server


class Text(click.ParamType[str]):
    """Text that can be sent: an argument whose bytes were not text is a usage error."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or fail."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value.encode(errors='replace').decode()!r} is not UTF-8", param, ctx)
        return value


class Decimal(click.FloatRange):
    """A number within bounds, which "not a number" is not."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or fail."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar="NEXTSONG_HOME",
    default=Path(".nextsong"),
    show_default=True,
    show_envvar=True,
    help="Folder that keeps the releases.",
)
work_option = click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder for the results of each stage.  [default: HOME/work]",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="NEXTSONG_CONFIG",
    show_envvar=True,
    help="TOML file of the service's settings, named like the options of `nextsong serve`, which "
    "go over it, as does the environment.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
json_only_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    help="Print JSON, the only form: so that all commands that print data take the option.",
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Report no progress.")
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    help="How progress and errors look on standard error: for people, or as JSON lines.",
)


_QDRANT = [
    click.option(
        "--qdrant-url",
        envvar="NEXTSONG_QDRANT_URL",
        metavar="URL",
        show_envvar=True,
        help="Keep releases on this Qdrant server; several nodes of a cluster with commas between. "
        f"Its key comes from {API_KEY}.  [default: in HOME]",
    ),
    click.option(
        "--qdrant-api-key-file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="NEXTSONG_QDRANT_API_KEY_FILE",
        show_envvar=True,
        help="File that holds the key of the Qdrant server.",
    ),
    click.option(
        "--qdrant-ca",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="NEXTSONG_QDRANT_CA",
        show_envvar=True,
        help="File of certificates (PEM) to trust instead of the system's.",
    ),
    click.option(
        "--qdrant-grpc-port",
        type=click.IntRange(1, 65535),
        envvar="NEXTSONG_QDRANT_GRPC_PORT",
        show_envvar=True,
        help="Port of Qdrant's gRPC API.  [default: the one after the URL's]",
    ),
    click.option(
        "--qdrant-prefix",
        default="nextsong",
        show_default=True,
        envvar="NEXTSONG_QDRANT_PREFIX",
        show_envvar=True,
        help="How the names of the collections begin.",
    ),
]

QDRANT_PARAMETERS = (
    "qdrant_url",
    "qdrant_api_key_file",
    "qdrant_ca",
    "qdrant_grpc_port",
    "qdrant_prefix",
)

storage_option = click.option(
    "--storage",
    envvar="NEXTSONG_STORAGE",
    show_envvar=True,
    type=click.Choice(["memory", "disk", "quantized"]),
    default="memory",
    show_default=True,
    help="Qdrant server: vectors in memory, on disk, or on disk with a compressed copy in memory.",
)

_PUBLISHING = [
    click.option(
        "--keep",
        envvar="NEXTSONG_KEEP",
        show_envvar=True,
        default=2,
        show_default=True,
        type=click.IntRange(0),
        help="How many old releases to keep beside the current one.",
    ),
    click.option(
        "--shards",
        envvar="NEXTSONG_SHARDS",
        show_envvar=True,
        type=click.IntRange(1, 256),
        help="Qdrant server: into how many shards a release is split.  [default: one a node]",
    ),
    click.option(
        "--replicas",
        envvar="NEXTSONG_REPLICAS",
        show_envvar=True,
        type=click.IntRange(1, 16),
        help="Qdrant server: on how many nodes each shard is kept.  [default: the server's]",
    ),
    click.option(
        "--write-consistency",
        envvar="NEXTSONG_WRITE_CONSISTENCY",
        show_envvar=True,
        type=click.IntRange(1, 16),
        help="Qdrant server: how many replicas must confirm a write.  [default: the server's]",
    ),
    storage_option,
]


def qdrant_server(command: Command) -> Command:
    """Add the options that name a Qdrant server; the command gets `qdrant`, None without one."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from catalog.errors import InputError

        given = {name: kwargs.pop(name) for name in QDRANT_PARAMETERS}
        try:
            qdrant = _server_of(given)
        except InputError as error:
            raise click.UsageError(str(error)) from error
        return command(*args, qdrant=qdrant, **kwargs)

    return cast("Command", _with(_QDRANT, wrapped))


def _server_of(given: Mapping[str, Any]) -> QdrantOptions | None:
    if not given.get("qdrant_url"):
        return None
    import stamina

    # By default stamina prints each retry on standard output, where results go.
    stamina.instrumentation.set_on_retry_hooks(())
    return qdrant_options(
        given["qdrant_url"],
        ca=given["qdrant_ca"],
        key_file=given["qdrant_api_key_file"],
        prefix=given["qdrant_prefix"],
        grpc_port=given["qdrant_grpc_port"],
    )


def publishing(command: Command) -> Command:
    """Add the options of publishing; the command gets `layout` and `keep`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        shards: int | None,
        replicas: int | None,
        write_consistency: int | None,
        storage: Any,
        **kwargs: Any,
    ) -> Any:
        layout = CollectionLayout(shards, replicas, write_consistency, storage)
        return command(*args, layout=layout, **kwargs)

    return cast("Command", _with(_PUBLISHING, wrapped))


def _with(options: list[Callable[[Any], Any]], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def reporter_for(*, quiet: bool, log_format: str = "console") -> Reporter:
    """The reporter that the user asked for."""
    from catalog.console import progress

    if quiet:
        return progress.SilentReporter()
    return progress.JsonReporter() if log_format == "json" else progress.ConsoleReporter()


def print_result(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result of a command: `text` for people, or JSON."""
    from catalog.console import terminal

    if as_json:
        terminal.print_json(result)
    else:
        terminal.echo(text)


def one_line_errors(command: Command) -> Command:
    """Turn what nextsong raises on purpose into one line on standard error and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from catalog.errors import NextsongError

        try:
            return command(*args, **kwargs)
        except NextsongError as error:
            message = " ".join(str(error).split())
            if kwargs.get("log_format") == "json":
                from catalog.console.progress import log

                log("error", error=type(error).__name__, text=message)
                raise click.exceptions.Exit(1) from error
            raise click.ClickException(message) from error

    return wrapped  # type: ignore[return-value]


def complete_release(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the ids of the releases that begin so, for the completion of a shell."""
    from catalog.errors import NextsongError
    from catalog.open_store import open_store

    try:
        qdrant = _server_of(context.params)
        if qdrant:
            qdrant = dataclasses.replace(qdrant, timeout_s=COMPLETION_S)
        home = open_store(context.params["home"], qdrant)
        try:
            releases = home.releases()
        finally:
            home.close()
    except NextsongError:
        return []
    return [release for release in reversed(releases) if release.startswith(incomplete)]


release_argument = click.argument("release", required=False, shell_complete=complete_release)
