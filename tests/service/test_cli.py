"""The commands `recommend`, `similar` and `search`, on a store and on a running service."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from catalog.console.progress import SilentReporter
from catalog.content import ARTIST
from catalog.draft import build_draft, write_songs
from catalog.embedded.store import EmbeddedStore
from catalog.errors import RequestError
from cli.main import main
from nextsong.v1 import recommender_pb2 as pb
from service.api.conditions import build_conditions, parse_condition
from service.client import questions
from tests.support.extra_fields import PAYLOAD, POINTS
from tests.support.fakes import points_of, publish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.rpc_servers import Loop


FIELDS = [
    pb.PayloadField(name="year", kind=pb.FIELD_KIND_INTEGER),
    pb.PayloadField(name="genre", kind=pb.FIELD_KIND_KEYWORD),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = EmbeddedStore(tmp_path_factory.mktemp("commands"))
    publish(store, POINTS, payload=PAYLOAD)
    return store.path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def recommend(folder: Path, *options: object) -> Any:
    result = call("recommend", "ABBA - Waterloo", *options, "--home", folder, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def titles(response: Any) -> set[str]:
    return {scored["song"]["title"] for scored in response["songs"]}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["year>=1990"], {"Jóga", "Red"}),
        (["year>=1990", "year<=1999"], {"Jóga"}),
        ([" genre = Rock | Art Pop "], {"Jóga", "Red"}),
        (["genre!=Pop", "year<=2100"], {"Jóga", "Red"}),
        (["year=1976|2001"], {"Fernando", "Red"}),
        (["live=true"], {"Fernando"}),
        (["album~great"], {"Fernando", "Red"}),
    ],
)
def test_conditions_on_the_command_line(
    folder: Path, conditions: list[str], expected: set[str]
) -> None:
    options = [part for text in conditions for part in ("--filter", text)]
    assert titles(recommend(folder, *options)) == expected
    near = call("similar", "ABBA - Waterloo", *options, "--home", folder, "--json")
    assert titles(json.loads(near.output)) == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("year", "is not of the form FIELD>=N"),
        ("=rock", "is not of the form"),
        ("genre=", "is not of the form"),
        ("year>=x", "x is not a number"),
        ("year=19.5", "19.5 is not a whole number"),
        (f"year={2**63}", "is not a whole number"),
        ("mood=x", "which has: album (text), genre (keyword)"),
        (
            "genre>=1",
            ">= cannot be used with 'genre', a field of the kind keyword; write genre=...",
        ),
    ],
)
def test_a_bad_condition_is_a_usage_error_of_one_line(
    folder: Path, condition: str, message: str
) -> None:
    result = call("recommend", "ABBA - Waterloo", "--filter", condition, "--home", folder)
    assert result.exit_code == 2
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert message in line
    assert "--filter" in line


def test_the_longest_operator_is_used() -> None:
    (condition,) = build_conditions([parse_condition("genre != a=b")], FIELDS)
    assert [value.text for value in condition.none_of] == ["a=b"]
    (condition,) = build_conditions([parse_condition("year<=-1e3")], FIELDS)
    assert condition.maximum == -1000


def test_an_empty_value_of_an_integer_field_is_refused() -> None:
    with pytest.raises(RequestError, match="is not a whole number"):
        build_conditions([parse_condition("year=1|")], FIELDS)


def test_max_per_artist_diversity_explain_and_unlike(folder: Path) -> None:
    plain = recommend(folder)
    assert "Fernando" in titles(plain)
    bounded = recommend(folder, "--max-per-artist", 1, "--diversity", 0.5, "--explain")
    artists = [scored["song"]["artist"] for scored in bounded["songs"]]
    assert len(artists) == len(set(artists))
    assert all(scored["reasons"] for scored in bounded["songs"])
    shown = call("recommend", "ABBA - Waterloo", "--explain", "--home", folder)
    assert "Fernando: because of ABBA - Waterloo (100%)" in shown.output
    pushed = recommend(folder, "--unlike", "Björk - Jóga")
    assert "Jóga" not in titles(pushed)


def test_reasons_name_the_artist_if_most_of_a_share_comes_from_it(tmp_path: Path) -> None:
    rows = [
        ("ABBA", "Waterloo", 9, (1, 0)),
        ("ABBA", "SOS", 8, (0, 1)),
        ("Björk", "Jóga", 7, (1, 1)),
    ]
    strengths = {0: {2: 1.0}}  # Waterloo predicts Jóga
    publish(EmbeddedStore(tmp_path), points_of(*rows), strengths=strengths, shares={ARTIST: 0.5})
    options = ("--explain", "--mode", "cooccurrence", "--home", tmp_path)
    shown = call("recommend", "ABBA - Waterloo", *options).output
    assert "Jóga: because of ABBA - Waterloo (100%)" in shown
    assert "SOS: because of the artist of ABBA - Waterloo (100%)" in shown
    shown = call("recommend", "ABBA - Unheard", *options).output
    assert "from other songs of its artists" in shown
    assert "not in the catalog; its artist is" in shown
    assert "Waterloo: because of the artist of ABBA - Unheard (100%)" in shown
    shown = call("recommend", "Nobody - Nothing", *options).output
    assert "neither a song of the playlist nor another of its artists was found" in " ".join(
        shown.split()
    )
    document = json.loads(call("recommend", "ABBA - Waterloo", *options, "--json").output)
    (sos,) = (scored for scored in document["songs"] if scored["song"]["title"] == "SOS")
    assert sos["reasons"] == [{"seed": 0, "share": 1.0, "content": {"artist": 1.0}}]


def test_artist_gaps_and_versions(tmp_path: Path) -> None:
    rows = [
        ("ABBA", "Waterloo", 50, (1, 0)),
        ("ABBA", "Waterloo - Live", 40, (0.9, 0.1)),
        ("ABBA", "Fernando", 30, (0.8, 0.2)),
        ("ABBA", "Chiquitita", 20, (0.7, 0.3)),
        ("Björk", "Jóga", 10, (0.6, 0.4)),
    ]
    publish(EmbeddedStore(tmp_path), points_of(*rows))
    assert titles(recommend(tmp_path)) == {"Fernando", "Chiquitita", "Jóga"}
    assert "Waterloo - Live" in titles(recommend(tmp_path, "--allow-versions"))
    spaced = recommend(tmp_path, "--min-artist-gap", 1)
    names = [scored["song"]["title"] for scored in spaced["songs"]]
    assert names == ["Fernando", "Jóga", "Chiquitita"]
    near = call("similar", "ABBA - Waterloo", "--home", tmp_path)
    assert "Waterloo - Live" not in near.output
    near = call("similar", "ABBA - Waterloo", "--allow-versions", "--home", tmp_path)
    assert "Waterloo - Live" in near.output


def test_items_without_an_artist(tmp_path: Path) -> None:
    rows = [("", title, 9 - rank, (1, rank)) for rank, title in enumerate(["Milk", "Bread", "Tea"])]
    publish(EmbeddedStore(tmp_path), points_of(*rows))
    home = ("--home", tmp_path)
    shown = call("recommend", "milk", "Bread", "Rice - cooked", "--explain", *home)
    assert shown.exit_code == 0, shown.output
    lines = [line.rstrip() for line in shown.output.splitlines()]
    assert "Tea: because of Bread" in shown.output
    assert "artist" not in next(line for line in lines if "playlists" in line and "title" in line)
    assert not any(line.startswith("- ") or " - " in line for line in lines if "Rice" not in line)
    printed = json.loads(call("recommend", "Milk", "--json", *home).output)
    assert {scored["song"]["artist"] for scored in printed["songs"]} == {""}
    assert titles(printed) == {"Bread", "Tea"}
    near = call("similar", "Milk", *home)
    assert "Near Milk" in near.output
    found = call("search", "te", *home)
    assert "Tea" in found.output
    refused = call("recommend", "Rice", *home)
    assert refused.exit_code == 2
    assert "'Rice' is neither" in refused.output


def test_a_table_shows_artists_if_some_songs_have_one(tmp_path: Path) -> None:
    publish(
        EmbeddedStore(tmp_path), points_of(("", "Milk", 2, (1, 0)), ("ABBA", "Honey", 1, (1, 1)))
    )
    shown = call("recommend", "Milk", "--home", tmp_path)
    assert "artist" in shown.output
    assert "ABBA" in shown.output


def test_an_empty_response_has_a_reason(folder: Path) -> None:
    result = call("recommend", "ABBA - Waterloo", "--filter", "year>=3000", "--home", folder)
    assert result.exit_code == 0
    assert "no song passes the filter" in result.output


def test_a_misspelt_song_is_corrected_without_doubt(folder: Path) -> None:
    result = call("recommend", "Aba - Watterloo", "--home", folder)
    assert result.exit_code == 0, result.output
    assert result.stderr == "Note: 'Aba - Watterloo' is taken as 'ABBA - Waterloo'\n"
    assert "ABBA - Waterloo" in result.stdout
    document = json.loads(call("similar", "Bjrok - Joga", "--home", folder, "--json").stdout)
    assert document["song"]["title"] == "Jóga"


def test_a_doubtful_name_is_refused_without_a_terminal(folder: Path) -> None:
    result = call("similar", "Abbba", "--home", folder)
    assert result.exit_code == 2
    assert "did you mean 'ABBA - Waterloo', 'ABBA - Fernando'? Look" in result.stderr


@pytest.mark.parametrize(
    ("answer", "code", "shown"),
    [
        ("2\n", 0, "After ABBA - Fernando"),
        ("\n", 0, "After ABBA - Waterloo"),
        ("7\n1\n", 0, "After ABBA - Waterloo"),
        ("0\n", 2, ""),
        ("", 1, ""),
    ],
)
def test_a_user_at_a_terminal_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, shown: str
) -> None:
    monkeypatch.setattr(questions, "is_interactive", lambda: True)
    result = CliRunner().invoke(main, ["recommend", "Abbba", "--home", str(folder)], input=answer)
    assert result.exit_code == code, result.output
    assert "The catalog does not have 'Abbba'. Did you mean:" in result.stderr
    assert "  1  ABBA - Waterloo\n  2  ABBA - Fernando\n  0  none of them" in result.stderr
    assert shown in " ".join(result.stdout.split())


def test_nobody_is_asked_if_the_output_is_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "is_interactive", lambda: True)
    result = call("recommend", "Abba - Fernado X", "--home", folder, "--json")
    assert result.exit_code == 0, result.output
    (seed,) = json.loads(result.stdout)["seeds"]
    assert seed["resolution"] == "RESOLUTION_ARTIST"
    assert seed["suggestions"][0]["song"]["title"] == "Fernando"


def test_a_search_lists_similar_names_if_no_song_has_the_words(folder: Path) -> None:
    result = call("search", "fernado", "--home", folder)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:3] == ["No", "song", "has,"]
    assert lines[1] == ["Did", "you", "mean"]
    assert ["1", "ABBA", "Fernando", "40"] in [line[:4] for line in lines]
    exact = call("search", "fern", "--home", folder).stdout
    assert "similarity" not in exact
    assert "Found" in exact
    fuzzy = json.loads(call("search", "fern", "--fuzzy", "--home", folder, "--json").stdout)
    assert fuzzy["similarities"][0] == pytest.approx(0.8)
    nothing = call("search", "xylophone", "--home", folder).stdout
    assert "Did you mean" not in nothing


def test_a_release_that_cannot_find_misspelt_names_is_named(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "new")
    publish(store, POINTS, payload=PAYLOAD)
    opened = store.open()
    songs = tmp_path / "songs.parquet"
    write_songs(opened.batches(), opened.manifest, songs, SilentReporter())
    opened.close()
    old = EmbeddedStore(tmp_path / "old")
    manifest = replace(opened.manifest, format=3)
    assert old.publish(build_draft(manifest, songs), SilentReporter()).format == 3
    result = call("search", "fernado", "--home", old.path)
    assert "Note: this release does not find misspelt names" in result.stderr
    assert "Did you mean" not in result.stdout


def test_a_service_is_called_with_the_key_from_the_environment(
    folder: Path, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length\n")
    with loop.serve(EmbeddedStore(folder), keys_file=keys) as server:
        options = ("ABBA - Waterloo", "--filter", "year>=1990", "--address", server.address)
        refused = call("recommend", *options)
        assert refused.exit_code == 1
        assert "a key is required" in refused.output
        monkeypatch.setenv("NEXTSONG_KEY", "a-key-of-some-length")
        answered = call("recommend", *options)
        assert answered.exit_code == 0
        assert "Red" in answered.output


def test_a_service_is_called_with_certificates_and_a_key(
    loop: Loop, folder: Path, pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length\n")
    monkeypatch.setenv("NEXTSONG_KEY", "a-key-of-some-length")
    settings: dict[str, Any] = {
        "tls_cert": pem / "server.pem",
        "tls_key": pem / "server.key",
        "tls_client_ca": pem / "ca.pem",
        "keys_file": keys,
    }
    certificate_options = ("--cert", pem / "caller.pem", "--cert-key", pem / "caller.key")
    with loop.serve(EmbeddedStore(folder), **settings) as server:
        command = ("search", "abba", "--address", server.address, "--ca", pem / "ca.pem")
        assert call(*command, *certificate_options).exit_code == 0
        monkeypatch.setenv("NEXTSONG_CERT", str(pem / "caller.pem"))
        monkeypatch.setenv("NEXTSONG_CERT_KEY", str(pem / "caller.key"))
        assert call(*command).exit_code == 0
        monkeypatch.delenv("NEXTSONG_CERT_KEY")
        alone = call(*command)
        assert alone.exit_code == 2
        assert "--cert and --cert-key must be given together" in alone.output


def test_the_certificates_of_the_system_are_trusted(
    loop: Loop, folder: Path, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem / "ca.pem"))
    settings: dict[str, Any] = {"tls_cert": pem / "server.pem", "tls_key": pem / "server.key"}
    with loop.serve(EmbeddedStore(folder), **settings) as server:
        result = call("search", "abba", "--address", server.address, "--tls")
        assert result.exit_code == 0, result.output
