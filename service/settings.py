"""The settings of the service.

The order of precedence is: flags, environment variables, TOML file, defaults. For example, the
setting `max_concurrency` is the flag `--max-concurrency`, the variable `NEXTSONG_MAX_CONCURRENCY`
and the key `max_concurrency` in the file.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, SettingsConfigDict

from catalog.console.terminal import escape_controls
from catalog.errors import SettingsError
from catalog.server.options import qdrant_options, redact_password

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import PydanticBaseSettingsSource

    from catalog.server.options import QdrantOptions

PREFIX = "NEXTSONG_"
Port = Annotated[int, Field(ge=0, le=65535)]


def _setting(default: Any, text: str, **bounds: Any) -> Any:
    return Field(default, description=text, **bounds)


class Settings(BaseSettings):
    """The settings of `nextsong serve`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    home: Path = _setting(Path(".nextsong"), "Folder of the release store.")
    qdrant_url: str | None = _setting(
        None,
        "URL of a Qdrant server that keeps the releases; for a cluster, the URLs of its nodes, "
        "separated by commas. NEXTSONG_QDRANT_API_KEY holds its API key.",
    )
    qdrant_api_key: SecretStr | None = _setting(None, "API key of the Qdrant server.")
    qdrant_api_key_file: Path | None = _setting(
        None, "File that holds the API key of the Qdrant server."
    )
    qdrant_ca: Path | None = _setting(
        None, "File of certificates (PEM) to trust for the Qdrant server, instead of the system's."
    )
    qdrant_grpc_port: Annotated[int, Field(ge=1, le=65535)] | None = _setting(
        None, "Port of Qdrant's gRPC API, if it is not the port of the URL plus one."
    )
    qdrant_prefix: str = _setting("nextsong", "Prefix of the names of the collections.")
    host: str = _setting("127.0.0.1", "Address to listen on.", min_length=1)
    port: Port = _setting(50051, "Port to listen on; 0 selects a free port.")
    http_port: Port | None = _setting(
        None,
        "Port for the same methods as JSON over HTTP (Connect protocol), with a page about the API "
        "at /docs/; 0 selects a free port. Needs the extra http.",
    )
    http_cors_origins: str | None = _setting(
        None,
        "Origins of web pages that may call over HTTP, such as https://example.org, separated by "
        "commas; * for all.",
    )
    workers: int = _setting(1, "Number of serving processes, all on one port.", ge=1, le=256)
    wait: bool = _setting(
        False, "Start even if there is no release, and answer UNAVAILABLE until one can be opened."
    )
    max_concurrency: int = _setting(
        64,
        "Maximum number of calls in progress in a process; further calls are refused at once. A "
        "large call counts as several: as one for each 1,000 of its seeds plus its candidates (its "
        "limit, or 5 times its limit with diversity, max_per_artist or min_artist_gap).",
        ge=1,
        le=100_000,
    )
    max_request_bytes: int = _setting(
        4 << 20, "Size of the largest request that is accepted.", ge=1 << 10, le=1 << 30
    )
    call_timeout: float = _setting(
        10.0, "Seconds that a call may take, unless its own deadline is earlier.", gt=0, le=3600
    )
    max_connection_age: float = _setting(
        300.0,
        "Seconds after which a client must reconnect, perhaps to another process; 0 for never.",
        ge=0,
        le=86400,
    )
    drain: float = _setting(
        3.0,
        "Seconds to go on answering after a stop signal, while health checks get NOT_SERVING.",
        ge=0,
        le=3600,
    )
    grace: float = _setting(
        5.0, "Seconds for calls under way to finish after the drain.", ge=0, le=3600
    )
    history: bool = _setting(
        False,
        "Keep users' listening history on the Qdrant server: enables RecordPlays and user_id.",
    )
    history_plays: int = _setting(
        100, "Number of most recent plays kept for each user.", ge=1, le=1000
    )
    history_days: float = _setting(90.0, "Days for which a play is kept.", gt=0, le=36500)
    history_replicas: Annotated[int, Field(ge=1, le=16)] | None = _setting(
        None, "Nodes of a cluster on which each play is kept; unset: the server's default."
    )
    look_every: float = _setting(
        1.0, "Seconds between two checks for a new release.", gt=0, le=3600
    )
    tls_cert: Path | None = _setting(None, "Certificate chain (PEM) of the service.")
    tls_key: Path | None = _setting(None, "Private key (PEM) of the certificate.")
    tls_client_ca: Path | None = _setting(
        None,
        "Require certificates of callers, signed by an authority in this PEM file (mutual TLS).",
    )
    keys_file: Path | None = _setting(
        None, "File of the keys that callers must send, one per line, reloaded when it changes."
    )
    metrics_host: str = _setting("127.0.0.1", "Address of the metrics endpoint.", min_length=1)
    metrics_port: Port | None = _setting(None, "Port of the Prometheus metrics endpoint.")
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Lowest level of log lines that are written; each call has one line at info."
    )
    log_format: Literal["console", "json"] = _setting("console", "Format of log lines.")
    otlp_endpoint: str | None = _setting(
        None, "Send OpenTelemetry traces to this collector (OTLP over gRPC)."
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be given together")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.http_cors_origins and self.http_port is None:
            raise ValueError("http_cors_origins needs http_port")
        if self.history and not self.qdrant_url:
            raise ValueError("history needs qdrant_url: an embedded store cannot record plays")
        return self

    def qdrant(self) -> QdrantOptions | None:
        """Return the options of the Qdrant server, or None for an embedded store."""
        if not self.qdrant_url:
            return None
        options = qdrant_options(
            self.qdrant_url,
            ca=self.qdrant_ca,
            key_file=self.qdrant_api_key_file,
            prefix=self.qdrant_prefix,
            grpc_port=self.qdrant_grpc_port,
        )
        if self.qdrant_api_key and not self.qdrant_api_key_file:
            return replace(options, api_key=self.qdrant_api_key.get_secret_value())
        return options

    def to_toml(self) -> str:
        """Return the settings as TOML, with secrets hidden and unset settings as comments."""
        values = self.model_dump(mode="json")
        for name in ("qdrant_url", "otlp_endpoint"):
            if values[name]:
                values[name] = redact_password(values[name])
        return "".join(
            f"# {name} is not set\n" if value is None else f"{name} = {_toml(value)}\n"
            for name, value in values.items()
        )


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Return the settings from `flags`, the environment and the TOML file `config`.

    Raises `SettingsError` if a setting is unknown or invalid, or the file cannot be read.
    """
    file_values = _read_toml(config) if config else {}

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, InitSettingsSource(settings_cls, file_values))

    try:
        return Sourced(**flags)
    except ValidationError as error:
        raise SettingsError(_describe(error)) from error


def _toml(value: Any) -> str:
    # A JSON string is a TOML string, except for surrogate pairs and some control characters.
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return escape_controls(text)


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{config} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{config} is not TOML: {error}") from error


def _describe(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no setting '{name}': see `nextsong serve --help`"
    sources = f" (--{name.replace('_', '-')}, {PREFIX}{name.upper()} or {name} in the file)"
    return f"{name}: {message}{sources}" if name else message
