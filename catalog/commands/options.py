"""Options that several commands share, and functions that print results and errors."""

from __future__ import annotations

import dataclasses
import functools
import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from catalog.server.options import API_KEY, CollectionLayout, qdrant_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog.console.progress import Reporter
    from catalog.server.options import QdrantOptions

Command = TypeVar("Command", bound="Callable[..., Any]")

COMPLETION_TIMEOUT_S = 2
"""Maximum seconds that shell completion waits for a Qdrant server."""


class Text(click.ParamType[str]):
    """The click type of a text, which must be valid UTF-8 because gRPC cannot send other text."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text. Raises `click.BadParameter` if it is not valid UTF-8."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value.encode(errors='replace').decode()!r} is not UTF-8", param, ctx)
        return value


class Decimal(click.FloatRange):
    """The click type of a finite number within bounds."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number. Raises `click.BadParameter` if it is not finite or out of bounds."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


_FILE = click.Path(path_type=Path, dir_okay=False)


def _option_with_variable(flag: str, **attributes: Any) -> Callable[[Command], Command]:
    """Return an option that an environment variable can also set: `--keep` by `NEXTSONG_KEEP`."""
    variable = f"NEXTSONG_{flag.removeprefix('--').replace('-', '_').upper()}"
    return click.option(flag, envvar=variable, show_envvar=True, **attributes)


home_option = _option_with_variable(
    "--home",
    type=click.Path(path_type=Path),
    default=Path(".nextsong"),
    show_default=True,
    help="Folder that keeps the releases.",
)
work_option = click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder for the results of each stage of the ingest.  [default: HOME/work]",
)
config_option = _option_with_variable(
    "--config",
    type=_FILE,
    help="TOML file with settings of the service, named like the options of `nextsong serve`. "
    "Options and environment variables take precedence over it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
json_only_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    help="Print JSON. This command has no other output; the option exists for uniformity.",
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Report no progress.")
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    help="Format of progress and errors on standard error: text or JSON lines.",
)


_QDRANT_OPTIONS = [
    _option_with_variable(
        "--qdrant-url",
        metavar="URL",
        help="Qdrant server that keeps the releases, or the nodes of a cluster, separated by "
        f"commas. The API key is read from {API_KEY}.  [default: keep releases in HOME]",
    ),
    _option_with_variable(
        "--qdrant-api-key-file",
        type=_FILE,
        help="File that contains the API key of the Qdrant server.",
    ),
    _option_with_variable(
        "--qdrant-ca",
        type=_FILE,
        help="File of certificates (PEM) to trust instead of the system's certificates.",
    ),
    _option_with_variable(
        "--qdrant-grpc-port",
        type=click.IntRange(1, 65535),
        help="Port of Qdrant's gRPC API.  [default: the port of the URL plus 1]",
    ),
    _option_with_variable(
        "--qdrant-prefix",
        default="nextsong",
        show_default=True,
        help="Prefix of the names of all collections.",
    ),
]

QDRANT_PARAMETERS = (
    "qdrant_url",
    "qdrant_api_key_file",
    "qdrant_ca",
    "qdrant_grpc_port",
    "qdrant_prefix",
)

storage_option = _option_with_variable(
    "--storage",
    type=click.Choice(["memory", "disk", "quantized"]),
    default="memory",
    show_default=True,
    help="On a Qdrant server: where vectors are stored. `quantized` means on disk, with a "
    "compressed copy in memory.",
)

_PUBLISHING_OPTIONS = [
    _option_with_variable(
        "--keep",
        default=2,
        show_default=True,
        type=click.IntRange(0),
        help="Number of old releases to keep in addition to the current one.",
    ),
    _option_with_variable(
        "--shards",
        type=click.IntRange(1, 256),
        help="On a Qdrant server: number of shards of a release.  [default: one per node]",
    ),
    _option_with_variable(
        "--replicas",
        type=click.IntRange(1, 16),
        help="On a Qdrant server: number of copies of each shard, each on another node.  [default: "
        "set by the server]",
    ),
    _option_with_variable(
        "--write-consistency",
        type=click.IntRange(1, 16),
        help="On a Qdrant server: number of replicas that must confirm a write.  [default: set by "
        "the server]",
    ),
    storage_option,
]


def qdrant_server(command: Command) -> Command:
    """Add the options of the Qdrant server to a command.

    The command receives the argument `qdrant`, which is None if no URL is given.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from catalog.errors import InputError

        values = {name: kwargs.pop(name) for name in QDRANT_PARAMETERS}
        try:
            qdrant = _read_qdrant_options(values)
        except InputError as error:
            raise click.UsageError(str(error)) from error
        return command(*args, qdrant=qdrant, **kwargs)

    return cast("Command", _add_options(_QDRANT_OPTIONS, wrapped))


def _read_qdrant_options(values: Mapping[str, Any]) -> QdrantOptions | None:
    if not values.get("qdrant_url"):
        return None
    import stamina

    # By default stamina prints each retry on standard output, where results go.
    stamina.instrumentation.set_on_retry_hooks(())
    return qdrant_options(
        values["qdrant_url"],
        ca=values["qdrant_ca"],
        key_file=values["qdrant_api_key_file"],
        prefix=values["qdrant_prefix"],
        grpc_port=values["qdrant_grpc_port"],
    )


def publishing_options(command: Command) -> Command:
    """Add the options for publishing to a command.

    The command receives `layout`, a `CollectionLayout`, and `keep`, the number of old releases to
    keep.
    """

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

    return cast("Command", _add_options(_PUBLISHING_OPTIONS, wrapped))


def _add_options(options: list[Callable[[Any], Any]], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def reporter_for(*, quiet: bool, log_format: str = "console") -> Reporter:
    """Return the reporter that `--quiet` and `--log-format` select."""
    from catalog.console import progress

    if quiet:
        return progress.SilentReporter()
    return progress.JsonReporter() if log_format == "json" else progress.ConsoleReporter()


def print_result(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print `result` as JSON if `as_json` is set, else print `text`."""
    from catalog.console import terminal

    if as_json:
        terminal.print_json(result)
    else:
        terminal.echo(text)


def one_line_errors(command: Command) -> Command:
    """Make a command report a `NextsongError` as one line on standard error, with exit code 1."""

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

    return cast("Command", wrapped)


def complete_release(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the release ids that start with `incomplete`, for shell completion.

    Returns an empty list if the release store cannot be read.
    """
    from catalog.errors import NextsongError
    from catalog.open_store import open_store

    try:
        qdrant = _read_qdrant_options(context.params)
        if qdrant:
            qdrant = dataclasses.replace(qdrant, timeout_s=COMPLETION_TIMEOUT_S)
        with closing(open_store(context.params["home"], qdrant)) as store:
            releases = store.releases()
    except NextsongError:
        return []
    return [release for release in reversed(releases) if release.startswith(incomplete)]


release_argument = click.argument("release", required=False, shell_complete=complete_release)
