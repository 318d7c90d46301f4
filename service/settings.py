"""The configuration of the service: flags, over the environment, over a TOML file, over defaults.

A setting `max_concurrency` is the flag `--max-concurrency`, the variable
`NEXTSONG_MAX_CONCURRENCY` and the key `max_concurrency` of the file.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, TomlConfigSettingsSource

from catalog.errors import SettingsError
from catalog.server.options import qdrant_options, redact_password
from catalog.terminal import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import PydanticBaseSettingsSource

    from catalog.server.options import QdrantOptions

PREFIX = "NEXTSONG_"
Port = Annotated[int, Field(ge=0, le=65535)]


def _set(default: Any, text: str, **bounds: Any) -> Any:
    return Field(default, description=text, **bounds)


class Settings(BaseSettings):
    """All that `nextsong serve` can be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    home: Path = _set(Path(".nextsong"), "Folder that keeps the releases.")
    qdrant_url: str | None = _set(
        None,
        "Take releases from this Qdrant server; nodes of a cluster with commas between. Its key "
        "comes from NEXTSONG_QDRANT_API_KEY.",
    )
    qdrant_api_key: SecretStr | None = _set(None, "The key of the Qdrant server.")
    qdrant_api_key_file: Path | None = _set(None, "File that holds the key of the Qdrant server.")
    qdrant_ca: Path | None = _set(
        None, "File of certificates (PEM) to trust in the Qdrant server, not the system's."
    )
    qdrant_grpc_port: Annotated[int, Field(ge=1, le=65535)] | None = _set(
        None, "Port of Qdrant's gRPC API, where it is not the one after the URL's."
    )
    qdrant_prefix: str = _set("nextsong", "How the names of the collections begin.")
    host: str = _set("127.0.0.1", "Address to listen on.", min_length=1)
    port: Port = _set(50051, "Port to listen on; 0 takes a free one.")
    workers: int = _set(1, "Processes that answer, all on one port.", ge=1, le=256)
    wait: bool = _set(
        False, "Start without a release, and answer UNAVAILABLE until one can be opened."
    )
    max_concurrency: int = _set(
        64,
        "Calls under way in a process; further ones are turned away at once. A call counts once "
        "for each 1,000 of its seeds and songs (5 times its limit with diversity or "
        "max_per_artist).",
        ge=1,
        le=100_000,
    )
    max_request_bytes: int = _set(
        4 << 20, "Larger requests are turned away.", ge=1 << 10, le=1 << 30
    )
    call_timeout: float = _set(
        10.0, "Seconds that a call may take, if its caller does not allow less.", gt=0, le=3600
    )
    max_connection_age: float = _set(
        300.0,
        "Seconds after which a caller is told to connect anew, which may lead to another process; "
        "0: never.",
        ge=0,
        le=86400,
    )
    drain: float = _set(
        3.0, "Seconds to go on answering at the end, already NOT_SERVING.", ge=0, le=3600
    )
    grace: float = _set(
        5.0, "Seconds that calls under way have to finish at the end.", ge=0, le=3600
    )
    history: bool = _set(
        False, "Keep what users have heard, on the Qdrant server: RecordPlays, and user_id."
    )
    history_plays: int = _set(100, "Songs of a user that are kept, the last.", ge=1, le=1000)
    history_days: float = _set(90.0, "Days that a play is kept.", gt=0, le=36500)
    history_replicas: Annotated[int, Field(ge=1, le=16)] | None = _set(
        None, "On how many nodes of a cluster each play is kept; as the server says, if unset."
    )
    look_every: float = _set(1.0, "Seconds between two looks for a new release.", gt=0, le=3600)
    tls_cert: Path | None = _set(None, "Certificate chain (PEM) to show to callers.")
    tls_key: Path | None = _set(None, "Private key (PEM) of the certificate.")
    tls_client_ca: Path | None = _set(
        None, "Certificates (PEM) one of which must have signed the caller's: mutual TLS."
    )
    keys_file: Path | None = _set(
        None, "File of the keys that callers must bring, a line each, read again on change."
    )
    metrics_host: str = _set("127.0.0.1", "Address of the metrics endpoint.", min_length=1)
    metrics_port: Port | None = _set(None, "Port of the Prometheus metrics endpoint.")
    log_level: Literal["debug", "info", "warning", "error"] = _set(
        "info", "The least urgent kind of log lines; each call has one at info."
    )
    log_format: Literal["console", "json"] = _set("console", "How log lines look.")
    otlp_endpoint: str | None = _set(
        None, "Send OpenTelemetry traces to this collector (OTLP over gRPC)."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key are given together, or neither")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.history and not self.qdrant_url:
            raise ValueError(
                "history needs qdrant_url: the embedded home cannot change while it serves"
            )
        return self

    def qdrant(self) -> QdrantOptions | None:
        """How to reach the Qdrant server, or None for the home in a folder."""
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
        """As a TOML file; secrets hidden, and what is not set as a comment."""
        values = self.model_dump(mode="json")
        for name in ("qdrant_url", "otlp_endpoint"):
            if values[name]:
                values[name] = redact_password(values[name])
        return "".join(
            f"# {name} is not set\n" if value is None else f"{name} = {_toml(value)}\n"
            for name, value in values.items()
        )

    def to_json(self) -> str:
        """For a process of our own, secrets and all."""
        values = self.model_dump(mode="json")
        if self.qdrant_api_key:
            values["qdrant_api_key"] = self.qdrant_api_key.get_secret_value()
        return json.dumps(values)


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """The settings from all their sources. Raises `SettingsError`."""
    if config is not None:
        _require_toml(config)

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
            toml = [TomlConfigSettingsSource(settings_cls, config)] if config else []
            return (init_settings, env_settings, *toml)

    try:
        return Sourced(**flags)
    except ValidationError as error:
        raise SettingsError(_problem(error)) from error


def from_json(text: str) -> Settings:
    """The settings that `Settings.to_json` wrote, and nothing of the environment."""
    return Settings(**json.loads(text))


def _toml(value: Any) -> str:
    # A string of JSON is one of TOML, but for pairs of surrogates and the control characters that
    # JSON lets pass.
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return escape_controls(text)


def _require_toml(config: Path) -> None:
    try:
        tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{config} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{config} is not TOML: {error}") from error


def _problem(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no setting '{name}': see `nextsong serve --help`"
    where = f" (--{name.replace('_', '-')}, {PREFIX}{name.upper()} or {name} in the file)"
    return f"{name}: {message}{where}" if name else message
