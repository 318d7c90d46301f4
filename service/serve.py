"""`nextsong serve`, whose options are the fields of `service.settings.Settings`."""

from __future__ import annotations

import functools
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import click

from catalog.commands.options import Decimal, config_option, one_line_errors
from catalog.console.terminal import echo

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from service.operate.process import Ready
    from service.settings import Settings

_TYPES: dict[Any, click.ParamType[Any]] = {
    str: click.STRING,
    Path: click.Path(path_type=Path),
}

# For each constraint of pydantic: the argument of click's number types, and whether the bound is
# exclusive.
_BOUNDS = {"ge": ("min", False), "gt": ("min", True), "le": ("max", False), "lt": ("max", True)}


class _ServeCommand(click.Command):
    """A command with an option for each setting except secrets.

    Secrets have no options, because command lines are visible in process lists.

    The options are created on first use, so that other commands need not import the settings.
    """

    @functools.cached_property
    def _setting_options(self) -> list[click.Parameter]:
        from service.settings import PREFIX, Settings

        options: list[click.Parameter] = []
        for name, field in Settings.model_fields.items():
            kind = _get_option_type(field)
            if kind is None:
                continue
            flag = f"--{name.replace('_', '-')}"
            note = f"env: {PREFIX}{name.upper()}"
            if field.default is not None and field.default is not False:
                note += f"; default: {field.default}"
            if kind is bool:
                flag, kind = f"{flag}/--no-{flag[2:]}", None
            text = f"{field.description}  [{note}]"
            options.append(click.Option([flag], type=kind, default=None, help=text))
        return options

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options of the settings, and the other options of the command."""
        return [*self._setting_options, *super().get_params(ctx)]


def _get_option_type(field: FieldInfo) -> Any:
    """Return the option type for a setting, or None if the setting is a secret."""
    kinds = [field.annotation]
    if get_origin(field.annotation) in {Union, UnionType}:
        kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    kind: Any = kinds[0]
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    constraints = field.metadata
    if hasattr(kind, "__metadata__"):  # pydantic leaves the constraints of an optional number here
        constraints = [inner for each in kind.__metadata__ for inner in each.metadata]
        kind = get_args(kind)[0]
    if kind in {int, float}:
        return _get_number_type(kind, constraints)
    return bool if kind is bool else _TYPES.get(kind)


def _get_number_type(kind: type[int] | type[float], constraints: list[Any]) -> click.ParamType[Any]:
    """Return the option type for a number with constraints of pydantic, such as `Ge(ge=1)`."""
    bounds: dict[str, Any] = {}
    for constraint in constraints:
        for name, (end, is_open) in _BOUNDS.items():
            if hasattr(constraint, name):
                bounds |= {end: getattr(constraint, name), f"{end}_open": is_open}
    return click.IntRange(**bounds) if kind is int else Decimal(**bounds)


@click.command(cls=_ServeCommand, short_help="Answer gRPC calls from the current release.")
@config_option
@click.option("--print-config", is_flag=True, help="Print all settings as TOML and exit.")
@one_line_errors
def serve(config: Path | None, print_config: bool, **flags: Any) -> None:
    """Answer gRPC calls from the current release until stopped.

    SIGTERM or Ctrl-C stops the service after the --drain and --grace periods; another Ctrl-C stops
    it at once.
    """
    from service.operate import lifecycle

    settings = _load({name: value for name, value in flags.items() if value is not None}, config)
    if print_config:
        echo(settings.to_toml(), nl=False)
        return
    lifecycle.run(settings, _print_ready)


def _load(flags: dict[str, Any], config: Path | None) -> Settings:
    """Return the settings.

    Raises `click.UsageError` if a flag is invalid, and `SettingsError` if another source has an
    invalid value.
    """
    from catalog.errors import SettingsError
    from service import settings

    try:
        return settings.load(flags, config)
    except SettingsError as error:
        try:
            settings.load({}, config)
        except SettingsError:
            raise error from None
        raise click.UsageError(str(error)) from error


def _print_ready(ready: Ready) -> None:
    if ready.metrics_port is not None:
        echo(f"metrics on port {ready.metrics_port}")
    if ready.http_port is not None:
        echo(f"HTTP on port {ready.http_port}")
    if ready.release is None:
        echo(f"waiting for a release on {ready.address}")
    else:
        echo(f"serving release {ready.release} ({ready.songs:,} songs) on {ready.address}")
