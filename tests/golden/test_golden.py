"""Snapshot tests of the public surface, so that no change goes unnoticed.

Each test describes one part of the surface as lines of text, and compares the lines with a snapshot
in `tests/golden`. After an intended change, write the snapshots again, and check the diff:

    NEXTSONG_REWRITE_GOLDEN=1 python -m pytest tests/golden/test_golden.py

A new command with `--json` needs an entry in `DOCUMENTS`.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import duckdb
import pyarrow.parquet as pq
import pytest
import qdrant_edge
from click.testing import CliRunner
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import MessageToDict
from pydantic import TypeAdapter

from catalog.console.progress import SilentReporter
from catalog.manifest import Manifest
from cli.main import main
from nextsong.v1 import recommender_pb2 as pb
from service.settings import PREFIX, Settings
from tests.support.qdrant_servers import memory_store
from tests.support.snapshots import check, document, json_lines, shape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from tests.support.road import Road

DOCUMENTS = {
    "recommend": ["{song}", "Nobody - Nothing", "--explain", "--json"],
    "similar": ["{song}", "--json"],
    "search": ["{word}", "--json"],
    "evaluate": ["--sample=20", "--new-songs", "--json", "--quiet"],
    "evaluate compare": ["{run}", "{run}:dense", "--json"],
    "runs list": ["--json"],
    "runs show": ["{first}"],
    "releases list": ["--json"],
    "releases show": [],
    "releases verify": ["--json", "--quiet"],
    "doctor": ["--json"],
    "bench spelling": ["--sample=20", "--json", "--quiet"],
    "ingest report": ["--json"],
    "ingest stats": ["--json", "--quiet"],
}
"""Commands that print JSON, with arguments. A command comes after those whose output it uses."""

NOT_RUN = {"releases copy", "releases prune", "releases remove", "releases rollback", "runs export"}
NOT_RUN |= {"ingest run", "tune", "bench ingest", "bench serve"}
"""Commands with --json that are slow, need a server, or change data that other commands read."""

INGEST = ["--dimensions=16", "--epochs=4", "--min-count=2", "--workers=1", "--log-format=json"]
PAYLOAD = ["--payload=album", "--payload=at=position:integer", "--payload=late=position:float"]
CATALOG = "artist,title\nSomebody,Brand New\n"
BROKEN_ROWS = '9999,"x","u",1,,"no artist","a"\n9999,"x","u",2,"too","short"\n'
DATED = re.compile(r"\d{8}T\d+-[0-9a-f]+")  # the id of a release or of a run
UNSEEN = {"name", "param_type", "param_type_name", "opts", "secondary_opts", "help", "prompt"}
UNSEEN |= {"flag_value", "readable", "case_sensitive"}


@dataclass(frozen=True)
class Surface:
    """A release that `ingest run` made from the playlists of `road`, and observations of the run.

    - `song`: the artist and title of a song in the release.
    - `log`: the standard error output of the run.
    - `draft`: columns of the draft.
    - `collections`: a description of the collections on a Qdrant server with the same release.
    """

    home: Path
    song: str
    log: str
    draft: list[str]
    collections: list[str]

    def run(self, *arguments: str) -> Result:
        return nextsong(*arguments, NEXTSONG_HOME=str(self.home))


def nextsong(*arguments: str, **environment: str) -> Result:
    """Run `nextsong`. Variables in `environment` replace all variables that start with `PREFIX`."""
    unset: dict[str, str | None] = {name: None for name in os.environ if name.startswith(PREFIX)}
    result = CliRunner().invoke(main, arguments, env=unset | environment)
    assert result.exit_code == 0, f"nextsong {' '.join(arguments)}: {result.output}"
    return result


@pytest.fixture(scope="session")
def surface(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Surface:
    """An ingest run with payload fields and rejects. It also publishes to an emulated server."""
    folder = tmp_path_factory.mktemp("golden")
    file, home = folder / "playlists.csv", folder / "home"
    file.write_text(road.file.read_text(encoding="utf-8") + BROKEN_ROWS, encoding="utf-8")
    catalog = folder / "songs.csv"
    catalog.write_text(CATALOG, encoding="utf-8")
    with file.open(encoding="utf-8") as lines:
        first = next(csv.DictReader(lines))
    drafts: list[str] = []
    collections: list[str] = []
    store = type(road.home)
    publish = store.publish

    def watched(home: Any, draft: Any, *more: Any, **options: Any) -> Any:
        drafts.extend(columns(draft.songs_path))
        server: Any = memory_store()
        server.publish(draft, SilentReporter())
        collections.extend(collection_lines(server.nodes.client))
        return publish(home, draft, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "publish", watched)
        run = ["ingest", "run", str(file), f"--catalog={catalog}", *INGEST, *PAYLOAD]
        done = nextsong(*run, NEXTSONG_HOME=str(home))
    song = f"{first['artist']} - {first['title']}"
    return Surface(home, song, done.stderr, drafts, collections)


def plain(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def commands(command: click.Command, parent: click.Context | None, name: str) -> Iterator[Any]:
    """Yield the click contexts of a command and of all its subcommands."""
    context = click.Context(command, parent, name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from commands(found, context, child)


def option_line(option: click.Parameter) -> str:
    """Return a line for an option or argument, with all properties on which users rely."""
    about = option.to_info_dict()
    given = " / ".join(" ".join(names) for names in (option.opts, option.secondary_opts) if names)
    facts = about.pop("type") | about | {"nargs": None if option.nargs == 1 else option.nargs}
    facts_shown = [
        f"{name}={plain(value)}"
        for name, value in facts.items()
        if name not in UNSEEN and plain(value) not in {"null", "false", '""'}
    ]
    name = given if isinstance(option, click.Option) else option.human_readable_name
    return f"  {name}: {', '.join([option.type.name, *facts_shown])}"


def test_commands_and_options() -> None:
    lines = []
    for context in commands(main, None, "nextsong"):
        hidden = " (hidden)" if context.command.hidden else ""
        lines.append(f"{context.command_path}{hidden}")
        options = [option_line(option) for option in context.command.get_params(context)]
        lines += sorted(options, key=lambda line: line if line.startswith("  -") else "")
    check("commands", lines)


def configuration(*options: str, **environment: str) -> str:
    return nextsong("serve", *options, "--print-config", **environment).stdout


def settings_of(toml: str) -> dict[str, Any]:
    """Return the settings in the output of `serve --print-config`. Unset settings are None."""
    return tomllib.loads(toml) | dict.fromkeys(re.findall(r"(?m)^# (\w+) is not set$", toml))


def kinds_of_settings() -> dict[str, dict[str, Any]]:
    """Return the JSON type of each setting, with bounds. The type null is omitted."""
    texts = {"title", "description", "default"}
    return {
        key: {name: value for name, value in kind.items() if name not in texts}
        for key, field in Settings.model_json_schema()["properties"].items()
        for kind in field.get("anyOf", [field])
        if kind.get("type") != "null"
    }


def sample_of(kind: dict[str, Any]) -> str:
    """Return a sample value of a JSON type, as text. It must differ from the default value."""
    if "enum" in kind:
        return str(kind["enum"][-1])
    values = {"integer": kind.get("minimum", 0) + 1, "number": 1.5, "boolean": "true"}
    return str(values.get(kind["type"], "sample"))


def test_settings_of_the_service(tmp_path: Path) -> None:
    kinds = kinds_of_settings()
    variables = {key: f"{PREFIX}{key.upper()}" for key in kinds}
    samples = {variables[key]: sample_of(kind) for key, kind in kinds.items()}
    defaults, changed = settings_of(configuration()), settings_of(configuration(**samples))
    assert [key for key in kinds if changed[key] == defaults[key]] == []
    file = tmp_path / "settings.toml"
    file.write_text(configuration(**samples), encoding="utf-8")
    assert settings_of(configuration(f"--config={file}")) == changed
    lines = [
        f"{key}: env={variables[key]}, default={plain(defaults[key])}, {plain(kinds[key])}"
        for key in sorted(kinds)
    ]
    check("settings", lines)


@pytest.fixture(scope="session")
def printed(surface: Surface) -> list[str]:
    """The shapes of the JSON output of `ingest run` and of each command in `DOCUMENTS`."""
    logged = [line for line in json_lines(surface.log) if line["event"] != "progress"]
    lines = ["nextsong ingest run --log-format=json", *(f"  {line}" for line in shape([logged]))]
    words = {"song": surface.song, "word": surface.song.split()[0]}
    for name, arguments in DOCUMENTS.items():
        given = [argument.format(**words) for argument in arguments]
        found = document(surface.run(*name.split(), *given).stdout)
        if name == "evaluate":
            words["run"] = found[0]["run"]
        if name == "runs list":
            words["first"] = found[0]["id"]  # the id of the ingest run
        lines.append(" ".join(["nextsong", name, *arguments]))
        lines += [f"  {line}" for line in shape([found])]
    return lines


def test_json_documents(printed: list[str]) -> None:
    check("json_documents", printed)


def test_every_command_that_prints_json_is_in_the_table() -> None:
    printing = {
        context.command_path.partition(" ")[2]
        for context in commands(main, None, "nextsong")
        for option in context.command.get_params(context)
        if "--json" in option.opts and option.is_flag
    }
    assert printing - NOT_RUN <= set(DOCUMENTS), (
        "add these commands and their arguments to DOCUMENTS"
    )


@contextmanager
def service(home: Path, log: Path) -> Iterator[tuple[str, str]]:
    """Run `nextsong serve` in a child process. Yield its address and the URL of its metrics."""
    module = main.callback.__module__ if main.callback else ""
    command = [sys.executable, "-m", module, "serve", f"--home={home}", "--port=0", "--drain=0"]
    command += ["--metrics-port=0", "--log-format=json"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            port, address = (process.stdout.readline().split()[-1] for _ in range(2))
            yield address, f"http://127.0.0.1:{port}/metrics"
        finally:
            process.terminate()


def test_metrics_and_log_of_the_service(surface: Surface, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with service(surface.home, log) as (address, metrics):
        for call in (
            ["recommend", surface.song, "--filter=album=no album of this name"],
            ["recommend", "Nobody - Nothing"],
            ["similar", surface.song],
        ):
            surface.run(*call, f"--address={address}")
        with urllib.request.urlopen(metrics, timeout=10) as answer:
            text = answer.read().decode()
    series = re.sub(r'(?<!\ble)="[^"]*"', "", re.sub(r"(?m) \S+$", "", text))
    lines = re.findall(r"(?m)^nextsong_.*$", series)
    types = re.findall(r"(?m)^# TYPE (nextsong_.*)$", text)
    logged = [f"  {line}" for line in shape([json_lines(log.read_text(encoding="utf-8"))])]
    check("metrics", ["types", *sorted(types), "series", *sorted({*lines}), "log", *logged])


def schema_lines(schema: Any, definitions: Any, path: str = "") -> Iterator[str]:
    """Yield each key path that a JSON schema allows, with its types.

    The lines have the same format as those of the function `shape`.
    """
    kinds = [definitions.get(one.get("$ref"), one) for one in schema.get("anyOf", [schema])]
    names = ["|".join(one.get("enum", [one.get("type", "any")])) for one in kinds]
    yield f"{path or '.'}: {' | '.join(sorted(names))}"
    for one in kinds:
        for name, member in one.get("properties", {}).items():
            mark = "" if name in one.get("required", ()) else "?"
            yield from schema_lines(member, definitions, f"{path}.{name}{mark}")
        for key, mark in (("additionalProperties", ".*"), ("items", "[]")):
            if isinstance(one.get(key), dict):
                yield from schema_lines(one[key], definitions, f"{path}{mark}")


def test_manifest() -> None:
    schema = TypeAdapter(Manifest).json_schema(ref_template="{model}")
    check("manifest", schema_lines(schema, schema["$defs"]))


def index_line(name: str, index: Any) -> str:
    """Return a line for a payload index in Qdrant Edge, with all parameters that are set."""
    settings = {at: getattr(index.params, at) for at in dir(index.params) if at[0] != "_"}
    chosen = [f"{at}={value}" for at, value in settings.items() if value is not None]
    return f"  {name}: {', '.join([str(index.data_type), *chosen])}"


def collection_lines(client: Any) -> Iterator[str]:
    """Yield lines about the collections on a Qdrant server: vectors and payload indexes."""
    for one in sorted(client.get_collections().collections, key=lambda one: one.name):
        about = client.get_collection(one.name)
        vectors = [*(about.config.params.vectors or ())]
        sparse = [*(about.config.params.sparse_vectors or ())]
        yield f"  {DATED.sub('*', one.name)}: vectors {vectors}, sparse vectors {sparse}"
        for name, index in sorted(about.payload_schema.items()):
            yield f"    {name}: {index.data_type.value}"


def test_points(surface: Surface) -> None:
    (folder,) = (surface.home / "releases").iterdir()
    shard = qdrant_edge.EdgeShard.load(str(folder / "shard"))
    try:
        indexes = shard.info().payload_schema
        records, _ = shard.scroll(qdrant_edge.ScrollRequest(limit=500, with_payload=True))
        payloads = [record.payload for record in records]
    finally:
        shard.close()
    lines = ["payload", *(f"  {line}" for line in shape(payloads)), "indexes of Qdrant Edge"]
    lines += [index_line(name, index) for name, index in sorted(indexes.items())]
    check("points", [*lines, "collections of a Qdrant server", *surface.collections])


def columns(path: Path) -> list[str]:
    return [f"  {field.name}: {field.type}" for field in pq.read_schema(path)]


def fields_of(path: Path) -> Iterator[str]:
    """Yield a line for each column or key of a data file. Other programs may read these files."""
    if path.suffix == ".parquet":
        yield from columns(path)
    elif path.suffix == ".jsonl":
        lines = shape([json_lines(path.read_text(encoding="utf-8"))])
        yield from (f"  {line}" for line in lines)
    elif path.suffix == ".duckdb":
        with duckdb.connect(path, read_only=True) as database:
            for name, kind, *_ in database.execute("DESCRIBE runs").fetchall():
                yield f"  {name}: {kind}"


@pytest.mark.usefixtures("printed")  # this fixture runs commands that also write files
def test_files(surface: Surface) -> None:
    lines = []
    for path in sorted(surface.home.rglob("*")):
        parts = path.relative_to(surface.home).parts
        if path.is_file() and "shard" not in parts and not path.name.startswith("."):
            lines += [DATED.sub("*", "/".join(parts)), *fields_of(path)]
    check("files", [*lines, "a release before it is published", *surface.draft])


def api_lines(name: str, value: Any, indent: str = "") -> Iterator[str]:
    """Yield one line for each message, field, enum and RPC in a protobuf descriptor."""
    inner = {key: of for key, of in value.items() if isinstance(of, list)}
    yield f"{indent}{name} {plain({key: of for key, of in value.items() if key not in inner})}"
    for key, members in inner.items():
        for member in members:
            yield from (
                api_lines(key, member, f"{indent}  ")
                if isinstance(member, dict)
                else [f"{indent}  {key} {member}"]
            )


def test_api() -> None:
    file = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    check("api", api_lines("file", MessageToDict(file)))
