"""The options of `nextsong ingest run`: options for reading files, and release parameters."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from catalog.commands.options import Decimal
from ingest.parameters import (
    DEFAULT_SHARES,
    MAX_SHARE,
    REPLACED,
    Parameters,
    describe_replacement,
)
from ingest.sources.columns.roles import ALL_ROLES, SONG_ROLES, THIS_FILE
from ingest.sources.options import FORMATS, MIN_PLAY, QUOTINGS, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field

    from ingest.sources.values.payload import PayloadColumn

Command = TypeVar("Command", bound="Callable[..., Any]")


@dataclass(frozen=True)
class ParameterArguments:
    """The release parameters given on a command line.

    - `values`: values of all parameters by name, including default values.
    - `given`: names of the parameters that the command line sets.
    - `file`: a file with values for parameters that the command line does not set, or None.
    """

    values: dict[str, Any]
    given: frozenset[str]
    file: Path | None


def _parse_columns(
    _context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    columns = {}
    roles = SONG_ROLES if parameter.name == "catalog_columns" else ALL_ROLES
    for value in values:
        role, equals, name = value.partition("=")
        if not role or not equals:
            raise click.BadParameter(f"'{value}' is not of the form ROLE=NAME")
        if role not in roles:
            raise click.BadParameter(f"no role '{role}'; the roles are {', '.join(roles)}")
        columns[role] = name
    return columns


class Share(click.ParamType[float]):
    """The click type of an option whose value is a share, such as 0.05 or 5%."""

    name = "share"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the value of an option as a share from 0 to 1. Other values are usage errors."""
        try:
            text = str(value).strip()
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} must be from 0 to 1, such as 0.05 or 5%", param, ctx)
        return share


def _parse_delimiter(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    value = {"tab": "\t", "\\t": "\t"}.get(value.lower(), value)
    if len(value) > 1 or value in {'"', "\n", "\r"}:
        raise click.BadParameter(f"{value!r} must be one character, and no quote or line break")
    return value


def _check_encoding(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from catalog.errors import InputError
    from ingest.sources.files.encodings import find_encoding

    try:
        if value:
            find_encoding(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _parse_payload(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[PayloadColumn, ...]:
    from catalog.errors import InputError
    from ingest.sources.values.payload import parse_payload_columns

    try:
        return parse_payload_columns(values)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


def _parse_shares(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    shares = {}
    for value in values:
        name, equals, number = value.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not name or not equals or not 0 <= share <= MAX_SHARE:
            raise click.BadParameter(
                f"'{value}' is not of the form FIELD=SHARE, with a share from 0 to {MAX_SHARE:g}"
            )
        shares[name] = share
    return shares or dict(DEFAULT_SHARES)


def _refuse_replaced(
    _context: click.Context, parameter: click.Parameter, value: str | None
) -> None:
    if value is not None:
        raise click.BadParameter(f"it was replaced: {describe_replacement(str(parameter.name))}")


column_option = click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_parse_columns,
    metavar="ROLE=NAME",
    help=f"Column of the files that has a role: {', '.join(ALL_ROLES[:-1])} or {ALL_ROLES[-1]}. "
    "Columns with common names are recognised without this option. An empty NAME ignores the role; "
    f"{THIS_FILE} stands for the file itself, as a playlist or a listener.",
)

_READING = [
    click.option(
        "--format",
        "file_format",
        type=click.Choice(FORMATS),
        default="auto",
        show_default=True,
        help="Format of the files; auto: detected from their content.",
    ),
    click.option(
        "--delimiter",
        default="",
        callback=_parse_delimiter,
        metavar="CHARACTER",
        help="Character between the fields of a text file, or the word tab.  [default: detected]",
    ),
    click.option(
        "--encoding",
        default="",
        callback=_check_encoding,
        help="Encoding of text files, such as macroman or shift_jis.  [default: detected among "
        "UTF-8, UTF-16 and Windows-1252]",
    ),
    click.option(
        "--quoting",
        type=click.Choice(QUOTINGS),
        default="auto",
        show_default=True,
        help="How fields of text files are quoted. wrapped: every field is in quotes, and quotes "
        "inside a field are not escaped.",
    ),
    click.option(
        "--header/--no-header",
        default=True,
        show_default=True,
        help="Whether the first line has the names of the columns. Without names, the columns are "
        "called 1, 2, 3 and so on.",
    ),
    click.option(
        "--payload",
        multiple=True,
        callback=_parse_payload,
        metavar="[FIELD=]COLUMN[:KIND]",
        help="Additional column that is kept with each song and can be filtered on. KIND is "
        "keyword, integer, float, boolean or text.  [default: the type in the file, or keyword]",
    ),
    click.option(
        "--min-play",
        type=Decimal(0, 3_600),
        default=MIN_PLAY,
        show_default=True,
        metavar="SECONDS",
        help="Leave out shorter plays, if a file says how long plays were; 0: none.",
    ),
]


_CATALOG = [
    click.option(
        "--catalog",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File, folder or pattern that lists songs without playlists, in a format of FILE. "
        "These songs are recommended even if no playlist contains them. Columns of --payload may "
        "be in the playlist files, in the catalog files, or in both.",
    ),
    click.option(
        "--catalog-column",
        "catalog_columns",
        multiple=True,
        callback=_parse_columns,
        metavar="ROLE=NAME",
        help=f"Column of the catalog files that has a role: {', '.join(SONG_ROLES)}.",
    ),
]


def catalog_options(command: Command) -> Command:
    """Add the options for catalog files to a command."""
    return cast("Command", _add(_CATALOG, command))


def reading_options(command: Command) -> Command:
    """Add the options for reading files to a command, which receives their values as `reading`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        file_format: Any,
        delimiter: str,
        encoding: str,
        quoting: Any,
        header: bool,
        payload: tuple[PayloadColumn, ...],
        min_play: float,
        **kwargs: Any,
    ) -> Any:
        reading = ReadOptions(file_format, delimiter, encoding, quoting, header, payload, min_play)
        return command(*args, reading=reading, **kwargs)

    return cast("Command", _add(_READING, wrapped))


def parameter_options(command: Command) -> Command:
    """Add `--params` and one option per parameter to a command.

    The command receives their values as `parameters`, a `ParameterArguments`.
    """
    names = [parameter.name for parameter in fields(Parameters)]

    @functools.wraps(command)
    def wrapped(*args: Any, parameter_file: Path | None, **kwargs: Any) -> Any:
        source_of = click.get_current_context().get_parameter_source
        values = {name: kwargs.pop(name) for name in names}
        given = frozenset(name for name in names if source_of(name) == ParameterSource.COMMANDLINE)
        parameters = ParameterArguments(values, given, parameter_file)
        return command(*args, parameters=parameters, **kwargs)

    file_option = click.option(
        "--params",
        "parameter_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with parameters (JSON or TOML), such as `nextsong tune` writes. Options on the "
        "command line override its values.",
    )
    options = [_parameter_option(parameter) for parameter in fields(Parameters)]
    replaced = [
        click.option(
            f"--{name.replace('_', '-')}",
            name,
            hidden=True,
            help=f"Replaced by --{new.replace('_', '-')}.",
            expose_value=False,
            callback=_refuse_replaced,
        )
        for name, new in REPLACED.items()
    ]
    return cast("Command", _add([*options, file_option, *replaced], wrapped))


def _parameter_option(parameter: Field[Any]) -> Callable[[Any], Any]:
    name, default = parameter.name.replace("_", "-"), parameter.default
    text, choices = parameter.metadata["help"], parameter.metadata.get("choices")
    if "shares" in parameter.metadata:
        return click.option(
            "--content-share",
            parameter.name,
            multiple=True,
            callback=_parse_shares,
            metavar="FIELD=SHARE",
            help=text,
        )
    if parameter.metadata.get("is_flag"):
        return click.option(f"--{name}/--no-{name}", default=default, help=text)
    if isinstance(default, bool):
        return click.option(f"--{name}/--no-{name}", default=default, show_default=True, help=text)
    kind: click.ParamType[Any]
    if choices:
        kind = click.Choice(choices)
    else:
        low, high = parameter.metadata["range"]
        kind = Decimal(low, high) if isinstance(default, float) else click.IntRange(low, high)
    shown = default is not None
    return click.option(f"--{name}", type=kind, default=default, show_default=shown, help=text)


def _add(options: list[Callable[[Any], Any]], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command
