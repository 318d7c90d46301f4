"""`nextsong serve`: its options are the fields of `service.settings.Settings`."""

from __future__ import annotations

import functools
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import click

from catalog.cli import config_option, one_line_errors

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from service.running import Ready

_TYPES: dict[Any, click.ParamType[Any]] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.Path(path_type=Path),
}


class _Settings(click.Command):
    """A command with an option for each setting that is no secret, made when they are needed.

    A secret would show in lists of processes.
    """

    @functools.cached_property
    def _of_settings(self) -> list[click.Parameter]:
        from service.settings import PREFIX, Settings

        options: list[click.Parameter] = []
        for name, field in Settings.model_fields.items():
            kind = _kind(field)
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
        """All options."""
        return [*self._of_settings, *super().get_params(ctx)]


def _kind(field: FieldInfo) -> Any:
    kinds = [field.annotation]
    if get_origin(field.annotation) in {Union, UnionType}:
        kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    kind = kinds[0]
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    if hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0]
    return bool if kind is bool else _TYPES.get(kind)


@click.command(cls=_Settings, short_help="Answer gRPC calls from the current release.")
@config_option
@click.option("--print-config", is_flag=True, help="Print all settings as TOML, and end.")
@one_line_errors
def serve(config: Path | None, print_config: bool, **flags: Any) -> None:
    """Answer gRPC calls from the current release until stopped.

    SIGTERM or Ctrl-C drains, as --drain and --grace say; Ctrl-C again ends at once.
    """
    from service import running, settings

    given = {name: value for name, value in flags.items() if value is not None}
    chosen = settings.load(given, config)
    if print_config:
        click.echo(chosen.to_toml(), nl=False)
        return
    running.run(chosen, _say_ready)


def _say_ready(ready: Ready) -> None:
    if ready.metrics_port is not None:
        click.echo(f"metrics on port {ready.metrics_port}")
    if ready.release is None:
        click.echo(f"waiting for a release, on {ready.address}")
    else:
        click.echo(f"serving release {ready.release} ({ready.songs:,} songs) on {ready.address}")
