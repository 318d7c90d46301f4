"""Text encodings: detection, and look-up by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from catalog.errors import FileError, InputError
from ingest.sources.files import content
from ingest.sources.files.encodings import detect_encoding, find_encoding
from ingest.sources.options import ReadOptions
from tests.support.reading import read

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "pid,artist,title\n"


@pytest.mark.parametrize("name", ["idna", "punycode", "hex", "undefined", "rot13", "no-such"])
def test_codecs_that_do_not_decode_text_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"there is no encoding '{name}'"):
        find_encoding(name)


@pytest.mark.parametrize(
    "name", ["latin-1", "cp1251", "shift_jis", "gbk", "utf-7", "utf-8-sig", "utf-16", "koi8-r"]
)
def test_codecs_that_decode_text(name: str) -> None:
    encoding = find_encoding(name)
    text = "a,b\n".encode(encoding.codec)
    assert encoding.decoder().decode(text, final=True) == "a,b\n"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize(
    "title", ["Beyonc\u00e9", "100 \u20ac", "Don\u2019", "\u2026And Justice", "MÖTLEY CRÜE"]
)
def test_the_only_non_ascii_character_may_end_its_line(title: str, end: str) -> None:
    text = f"{HEADER}1,a,b\n1,x,{title}{end}".encode("cp1252")
    assert text.decode(detect_encoding(text).codec).endswith(title + end)


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("mac-roman", "Björk,Jóga"),
        ("mac-roman", "Beyoncé,Déjà Vu"),
        ("mac-roman", "Håkan Hellström,Känn ingen sorg"),
        ("cp850", "Männer,Grönemeyer"),
        ("cp1250", "Myslovitz,Długość dźwięku samotności"),
    ],
)
def test_text_that_does_not_look_like_windows_1252_is_refused(
    codec: str, names: str, tmp_path: Path
) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes((HEADER + f"1,{names}\n").encode(codec))
    with pytest.raises(FileError, match="does not look like Windows-1252: name its encoding"):
        read(path)
    _, rows, _ = read(path, options=ReadOptions(encoding=codec))
    assert f"{rows[0]['artist']},{rows[0]['title']}" == names


def test_lines_that_end_with_cr_may_be_macroman() -> None:
    text = f"{HEADER}1,a,Für Elise\n".encode("cp1252")
    assert detect_encoding(text).codec == "cp1252"
    with pytest.raises(FileError, match="name its encoding"):
        detect_encoding(text.replace(b"\n", b"\r"))


def test_text_after_the_sample_that_is_not_utf8_is_rejected_with_a_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SAMPLE_SIZE", 100)
    path = tmp_path / "songs.csv"
    path.write_bytes((HEADER + "1,a,b\n" * 50 + "1,a,café\n").encode("cp1252"))
    account, rows, unreadable = read(path)
    assert (len(rows), unreadable[0]["reason"]) == (50, "not valid UTF-8")
    assert "name its encoding with --encoding" in account.notes[0].remarks[0]


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("cp1251", "Кино,Группа крови"),
        ("koi8-r", "Земфира,Искала"),
        ("shift_jis", "椎名林檎,歌舞伎町の女王"),
        ("euc-jp", "椎名林檎,歌舞伎町の女王"),
        ("gbk", "周杰伦,青花瓷"),
    ],
)
def test_text_of_another_alphabet_is_refused(codec: str, names: str, tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes((HEADER + f"1,{names}\n" * 9).encode(codec))
    with pytest.raises(FileError, match="does not look like Windows-1252: name its encoding"):
        read(path)
    _, rows, _ = read(path, options=ReadOptions(encoding=codec))
    assert f"{rows[0]['artist']},{rows[0]['title']}" == names


def test_remark_about_text_that_was_read_as_windows_1252(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes(HEADER.encode() + b"1,a,b\n1,a,c\x9b\n")
    account, rows, _ = read(path)
    assert rows[1]["title"] == "c\u203a"
    assert account.notes[0].kind == "CSV, standard quoting, Windows-1252"
    (remark,) = account.notes[0].remarks
    assert "was read as Windows-1252: if names look wrong, give the encoding with" in remark
    named, _, _ = read(path, options=ReadOptions(encoding="windows-1252"))
    assert named.notes[0].remarks == ()
