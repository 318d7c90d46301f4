"""Settings of the service: sources, precedence, and messages about invalid settings."""

from __future__ import annotations

import json
import pickle
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from catalog.errors import NextsongError, SettingsError
from cli.main import main
from service import settings
from service.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cret-of-the-server"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NEXTSONG_{name.upper()}", raising=False)


def write_config(folder: Path, text: str) -> Path:
    path = folder / "nextsong.toml"
    path.write_text(text, encoding="utf-8")
    return path


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["serve", *[str(argument) for argument in arguments]])


def test_flags_override_the_environment_the_file_and_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, 'port = 1\nworkers = 2\ngrace = 3.5\nhost = "::1"\n')
    monkeypatch.setenv("NEXTSONG_PORT", "11")
    monkeypatch.setenv("NEXTSONG_WORKERS", "12")
    loaded = settings.load({"port": 21}, config)
    assert (loaded.port, loaded.workers, loaded.grace, loaded.host) == (21, 12, 3.5, "::1")
    assert loaded.max_concurrency == 64


def test_printed_settings_can_be_loaded_and_hide_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTSONG_QDRANT_API_KEY", SECRET)
    result = serve("--print-config", "--port", 7, "--log-format", "json", "--wait")
    assert result.exit_code == 0
    assert SECRET not in result.output
    printed = tomllib.loads(result.output)
    assert printed["qdrant_api_key"] == "**********"
    assert (printed["port"], printed["log_format"], printed["wait"]) == (7, "json", True)
    names = {line.removeprefix("# ").split()[0] for line in result.output.splitlines()}
    assert names == set(Settings.model_fields)
    again = settings.load({}, write_config(tmp_path, result.output))
    assert again.port == 7


def test_a_worker_process_gets_all_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Settings(port=7, qdrant_api_key=SecretStr(SECRET), drain=1.5)
    monkeypatch.setenv("NEXTSONG_PORT", "8")
    monkeypatch.setenv("NEXTSONG_TLS_CERT", "elsewhere.pem")
    assert Settings(**pickle.loads(pickle.dumps(sent.model_dump()))) == sent
    assert SECRET not in repr(sent)


def test_the_api_key_is_passed_to_the_qdrant_options(tmp_path: Path) -> None:
    assert Settings().qdrant() is None
    given: dict[str, Any] = {"qdrant_url": "http://q:6333", "qdrant_prefix": "mine"}
    plain = Settings(qdrant_api_key=SecretStr(SECRET), **given).qdrant()
    assert plain is not None
    assert (plain.api_key, plain.prefix, plain.urls) == (SECRET, "mine", ("http://q:6333",))
    file = tmp_path / "key"
    file.write_text("of-the-file\n")
    from_file = Settings(qdrant_api_key_file=file, **given).qdrant()
    assert from_file is not None
    assert from_file.api_key == "of-the-file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "there is no setting 'prot'"),
        ("port = 65536", "port: Input should be less than or equal to 65535"),
        ('port = "x"', "(--port, NEXTSONG_PORT or port in the file)"),
        ("workers = 0", "workers: Input should be greater than or equal to 1"),
        ("call_timeout = 0", "call_timeout: Input should be greater than 0"),
        ('log_level = "loud"', "log_level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ('tls_cert = "a.pem"', "tls_cert and tls_key must be given together"),
        ('tls_client_ca = "a.pem"', "tls_client_ca needs tls_cert and tls_key"),
        ("port = ", "is not TOML"),
        ("[service]\nport = 1", "there is no setting 'service'"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    result = serve("--config", write_config(tmp_path, text), "--print-config")
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_a_secret_is_not_in_the_error(tmp_path: Path) -> None:
    config = write_config(tmp_path, f'qdrant_api_key = "{SECRET}"\nport = -1\n')
    with pytest.raises(SettingsError) as caught:
        settings.load({}, config)
    assert SECRET not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml cannot be read: No such file"):
        settings.load({}, tmp_path / "gone.toml")


def test_every_setting_except_secrets_has_an_option() -> None:
    result = serve("--help")
    text = " ".join(result.output.split())
    for name, field in Settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        assert field.description
        assert (f" {flag} " in text) is (name != "qdrant_api_key")
        assert f"NEXTSONG_{name.upper()}" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tls_cert", "no.pem"),
        ("keys_file", "no.keys"),
        ("qdrant_url", "ftp://x"),
        ("qdrant_api_key_file", "no.key"),
    ],
)
def test_unusable_files_and_addresses_are_reported_in_one_line(
    tmp_path: Path, name: str, value: str
) -> None:
    given: dict[str, object] = {name: value if "url" in name else str(tmp_path / value)}
    if name == "tls_cert":
        given["tls_key"] = given[name]
    if name == "qdrant_api_key_file":
        given["qdrant_url"] = "http://127.0.0.1:1"
    config = write_config(tmp_path, "".join(f"{n} = {json.dumps(v)}\n" for n, v in given.items()))
    result = serve("--config", config, "--home", tmp_path / "home", "--port", 0)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert len([line for line in result.output.splitlines() if line.startswith("Error: ")]) == 1
    assert issubclass(SettingsError, NextsongError)


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        (f"http://me:{SECRET}@qdrant:6333", "http://**********@qdrant:6333"),
        (f"http://a:1,https://{SECRET}@b:2", "http://a:1,https://**********@b:2"),
        (f"me:{SECRET}@qdrant", "**********@qdrant"),
        ("http://qdrant:6333/a@b", "http://qdrant:6333/a@b"),
    ],
)
def test_passwords_in_addresses_are_not_printed(given: str, printed: str) -> None:
    result = serve("--print-config", "--qdrant-url", given, "--otlp-endpoint", given)
    assert result.exit_code == 0
    loaded = tomllib.loads(result.output)
    assert (loaded["qdrant_url"], loaded["otlp_endpoint"]) == (printed, printed)
    refused = serve("--qdrant-url", given.replace("http://", "redis://"), "--port", 0)
    assert SECRET not in refused.output


@pytest.mark.parametrize("home", ["\U0001f3b5/music", 'q"uo\\te', "new\nline\x7f\x01", "caf\u00e9"])
def test_any_folder_name_can_be_printed_and_loaded(tmp_path: Path, home: str) -> None:
    text = Settings(home=home).to_toml()
    assert str(settings.load({}, write_config(tmp_path, text)).home) == home


@pytest.mark.parametrize("number", ["inf", "nan", "1e9"])
@pytest.mark.parametrize("name", ["grace", "drain", "call_timeout", "look_every", "history_days"])
def test_numbers_are_finite_and_bounded(tmp_path: Path, name: str, number: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings.load({}, write_config(tmp_path, f"{name} = {number}\n"))
