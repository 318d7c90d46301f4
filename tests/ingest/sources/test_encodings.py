"""ReadOptions the encoding of a text is told, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from catalog.errors import FileError, InputError
from ingest.sources.encodings import detect, named
from ingest.sources.options import ReadOptions
from tests.support.reading import read

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "pid,artist,title\n"


@pytest.mark.parametrize("name", ["idna", "punycode", "hex", "undefined", "rot13", "no-such"])
def test_codecs_that_are_none_of_text_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"there is no encoding '{name}'"):
        named(name)


@pytest.mark.parametrize(
    "name", ["latin-1", "cp1251", "shift_jis", "gbk", "utf-7", "utf-8-sig", "utf-16", "koi8-r"]
)
def test_codecs_of_text_are_taken(name: str) -> None:
    encoding = named(name)
    content = "a,b\n".encode(encoding.codec)
    assert encoding.decoder().decode(content, final=True) == "a,b\n"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize(
    "title", ["Beyonc\u00e9", "100 \u20ac", "Don\u2019", "\u2026And Justice", "MÖTLEY CRÜE"]
)
def test_the_only_character_beyond_ascii_may_be_the_last_of_its_line(title: str, end: str) -> None:
    content = f"{HEADER}1,a,b\n1,x,{title}{end}".encode("cp1252")
    assert content.decode(detect(content).codec).endswith(title + end)


def test_macroman_must_win_clearly_unless_lines_end_with_cr() -> None:
    content = "1,a,Björk\r1,b,c\r".encode("mac-roman")
    assert detect(content).codec == "mac-roman"
    assert detect(content.replace(b"\r", b"\n")).codec == "cp1252"
    words = "Beyoncé,Glück,Señorita,Motörhead,Café,Für Elise\n"
    assert detect(words.encode("mac-roman")).codec == "mac-roman"
    assert detect(words.encode("cp1252")).codec == "iso8859-1"


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
def test_text_of_another_alphabet_is_not_guessed_at(codec: str, names: str, tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes((HEADER + f"1,{names}\n" * 9).encode(codec))
    with pytest.raises(FileError, match="another alphabet than the Latin: name its encoding"):
        read(path)
    _, rows, _ = read(path, options=ReadOptions(encoding=codec))
    assert f"{rows[0]['artist']},{rows[0]['title']}" == names


@pytest.mark.parametrize("codec", ["cp1250", "cp850"])
def test_letters_in_odd_places_are_said(codec: str, tmp_path: Path) -> None:
    text = {"cp1250": "Długość dźwięku samotności", "cp850": "Männer, Glück, Grönemeyer"}[codec]
    path = tmp_path / "songs.csv"
    path.write_bytes((HEADER + f'1,a,"{text}"\n' * 9).encode(codec))
    account, _, _ = read(path)
    assert "its letters stand where letters seldom do" in account.notes[0].remarks[0]
    path.write_bytes((HEADER + '1,a,"Männer, Glück, Grönemeyer"\n' * 9).encode("cp1252"))
    assert read(path)[0].notes[0].remarks == ()
