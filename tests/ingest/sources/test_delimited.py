import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import ColumnError, FileError
from ingest.sources.formats import delimited, dialects
from ingest.sources.formats.delimited import open_delimited

COLUMNS = {"playlist_id": "pid", "artist": "artist", "title": "title"}


def _read(path):
    """Kind; rows as (line, pid, artist, title); refusals as (line, reason)."""
    source = open_delimited(path)
    rows, refused = [], []
    for batch in source.batches(COLUMNS):
        values = [batch.fields[role].to_pylist() for role in COLUMNS]
        rows += zip(batch.line.tolist(), *values, strict=True)
        refused += [(refusal.line, refusal.reason) for refusal in batch.refused]
    return source.kind, rows, refused


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "songs.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return _read(path)

    return read


def test_wrapped_quotes_inside_are_plain(read):
    kind, rows, refused = read(
        '"pid", "artist", "title"\n'
        '"1","Matthew "Mdot" Finley","Rhythm - Original 12""\n'
        '""/","a, b","x"\n'
        '"2",""45"",""\n'
        '"3","","y"\n'
    )
    assert kind == "CSV, wrapped quotes"
    assert rows == [
        (2, "1", 'Matthew "Mdot" Finley', 'Rhythm - Original 12"'),
        (3, '"/', "a, b", "x"),
        (4, "2", '"45"', ""),
        (5, "3", "", "y"),
    ]
    assert refused == []


def test_wrapped_lines_that_do_not_fit(read):
    good = '"1","a "b" c","d"\n' * 500
    _, rows, refused = read(
        '"pid", "artist", "title"\n' + good + '"1","a","b","c"\n"\n1,2,3\n' + good
    )
    assert len(rows) == 1000
    assert refused == [
        (502, "expected 3 fields, found 4"),
        (503, "does not begin and end with a quote"),
        (504, "does not begin and end with a quote"),
    ]


def test_one_malformed_record_does_not_make_a_quoted_file_wrapped(read):
    kind, rows, refused = read(
        '"pid","artist","title"\n"1","a","say ""hi"""\n"1","a","""b"""\n"1","x "y" z","b"\n'
    )
    assert kind == "CSV, standard quoting"
    assert [row[3] for row in rows] == ['say "hi"', '"b"']
    assert refused == [(4, "malformed quotes: ',' expected after '\"'")]


def test_tabs_have_no_quoting(read):
    kind, rows, refused = read(
        'pid\tartist\ttitle\n1\t"Weird Al" Yankovic\tEat It\n1\t"Heroes"\t7" mix\n1\ta\t"b\n'
    )
    assert kind == "TSV, no quoting"
    assert [row[2:] for row in rows] == [
        ('"Weird Al" Yankovic', "Eat It"),
        ('"Heroes"', '7" mix'),
        ("a", '"b'),
    ]
    assert refused == []


@pytest.mark.parametrize(
    "content",
    [
        '"pid"\t"artist"\t"title"\n1\tb\t"a"\n',
        'pid\tartist\ttitle\n1\tb\t"a"\n2\tb\t"a"\n',
        'pid\tartist\ttitle\n1\t"say ""b"""\ta\n',
        'pid\tartist\ttitle\n1\t"b\tc"\ta\n',
    ],
    ids=["header", "whole column", "doubled", "delimiter inside"],
)
def test_tabs_with_evident_quoting(read, content):
    kind, rows, refused = read(content)
    assert kind == "TSV, standard quoting"
    assert rows[0][3] == "a"
    assert refused == []


def test_commas_without_quoting(read):
    kind, rows, refused = read('pid,artist,title\n1,"Weird Al" Yankovic,x\n1,b,"12" mix"\n')
    assert kind == "CSV, no quoting"
    assert [row[2] for row in rows] == ['"Weird Al" Yankovic', "b"]
    assert refused == []


def test_quoted_fields_hold_delimiters_and_line_ends(read):
    kind, rows, refused = read(
        'pid,artist,title\r\n1,"a, b","two\r\n\r\nlines"\r\n2,c,"""q"""\r\n\r\n3,7" mix,e'
    )
    assert kind == "CSV, standard quoting"
    assert rows == [
        (2, "1", "a, b", "two\r\n\r\nlines"),
        (5, "2", "c", '"q"'),
        (7, "3", '7" mix', "e"),
    ]
    assert refused == []


@pytest.mark.parametrize("after", [1, 50, 500])
def test_unclosed_quote_costs_its_own_line_only(read, after):
    head = 'pid,artist,title\n1,"x, y",z\n'
    _, rows, refused = read(head + '2,"a,b\n' + "3,c,d\n" * after + '4,"e, f",g\n' * 3)
    assert refused == [(3, refused[0][1])]
    assert "quote" in refused[0][1]
    assert len(rows) == 1 + after + 3
    assert rows[1] == (4, "3", "c", "d")


def test_record_that_swallows_another_and_has_too_many_fields(read):
    head = 'pid,artist,title\n1,"x, y",z\n' * 1
    _, rows, refused = read(head + '2,"a,b\n3,c",d,e\n4,f,g\n')
    assert refused == [
        (3, "a quote is opened here and the record, of 2 lines, has 4 fields instead of 3"),
        (4, "expected 3 fields, found 4"),
    ]
    assert [row[1] for row in rows] == ["1", "4"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(read, end, last):
    lines = ["", "pid\tartist\ttitle", "1\ta\tb", "", "2\tc\t", "3\td\te"]
    kind, rows, refused = read(end.join(lines) + (end if last else ""))
    assert kind == "TSV, no quoting" + (", CR line ends" if end == "\r" else "")
    assert rows == [(3, "1", "a", "b"), (5, "2", "c", ""), (6, "3", "d", "e")]
    assert refused == []


def test_lone_carriage_return_is_text_where_lines_end_otherwise(read):
    assert read("pid\tartist\ttitle\n1\ta\rb\tc\n")[1] == [(2, "1", "a\rb", "c")]
    assert read('pid,artist,title\r1,"a\rb",c\r2,d,e\r')[1] == [
        (2, "1", "a\rb", "c"),
        (4, "2", "d", "e"),
    ]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_is_seen_in_the_header(read, delimiter):
    header = delimiter.join(["pid", "artist", "title"])
    _, rows, _ = read(header + "\n" + delimiter.join(["1", "a.b", "c:d"]) + "\n")
    assert rows == [(2, "1", "a.b", "c:d")]


def test_byte_order_mark_is_dropped(read):
    kind, rows, _ = read(b"\xef\xbb\xbfpid,artist,title\n1,a,b\n")
    assert kind == "CSV, standard quoting, byte order mark"
    assert rows == [(2, "1", "a", "b")]


@pytest.mark.parametrize(
    "line", [b"1\tcaf\xe9\tx", b'"1"\t"caf\xe9"\t"x"', b'1\t"caf\xe9\t"\tx'], ids=str
)
def test_lines_that_are_not_utf8(read, line):
    quote = b'"' if line.startswith(b'"') else b""
    header = b"\t".join(quote + name + quote for name in (b"pid", b"artist", b"title"))
    good = b"\t".join(quote + name + quote for name in (b"1", "é".encode(), b"x"))
    _, rows, refused = read(b"\n".join([header, good, line, good, good]))
    assert [row[0] for row in rows] == [2, 4, 5]
    assert refused == [(3, "not valid UTF-8")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbf", "is empty"),
        (b"\n\r\n\n", "is empty"),
        (b"pid,artist,title\n\n", "a header but no rows"),
        (b"pid,artist,title", "a header but no rows"),
        (b"pid,\x03\0\0\0,\n", "binary"),
    ],
)
def test_files_that_are_no_playlists(read, content, message):
    with pytest.raises(FileError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_line_without_end(read, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 100)
    monkeypatch.setattr(delimited, "LONGEST_LINE", 1000)
    with pytest.raises(FileError, match="a line is longer"):
        read("pid,artist,title\n1,a,b\n1,a," + "x" * 2000)


TABLE = st.lists(
    st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"))] * 3), min_size=1
)
NASTY = st.lists(st.tuples(*[st.text('",\t\r\n a')] * 3), min_size=1)


@settings(deadline=None, max_examples=200)
@given(
    rows=TABLE | NASTY,
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    block=st.sampled_from([1, 7, 50, 1 << 20]),
)
def test_what_csv_writes_reads_back(tmp_path_factory, rows, quoting, block):
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting)
    writer.writerows([["pid", "artist", "title"], *rows])
    path = tmp_path_factory.mktemp("table") / "songs.csv"
    path.write_bytes(text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", block)
        _, found, refused = _read(path)
    assert [row[1:] for row in found] == rows
    assert refused == []


@settings(deadline=None, max_examples=300)
@given(
    body=st.binary()
    | st.lists(
        st.sampled_from([b'"', b'""', b",", b'","', b"\t", b"\n", b"\r", b"a", b"1,b,c\n", b"\xe9"])
    ).map(b"".join),
    header=st.sampled_from(
        [b"pid,artist,title\n", b'"pid", "artist", "title"\n', b"pid\tartist\ttitle\n", b""]
    ),
    block=st.sampled_from([1, 3, 20]),
)
def test_any_bytes_are_accounted_for(tmp_path_factory, body, header, block):
    path = tmp_path_factory.mktemp("bytes") / "songs.csv"
    path.write_bytes(header + body)
    try:
        if "pid" not in open_delimited(path).names:
            return
        _, rows, refused = whole = _read(path)
    except (FileError, ColumnError):
        return
    except (OSError, EOFError):
        assert body.startswith((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"))  # packed, and cut short
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", block)
        assert _read(path) == whole
    starts = sorted([row[0] for row in rows] + [line for line, _ in refused])
    assert len(set(starts)) == len(starts)
    lines = enumerate((header + body).split(b"\n"), start=1)
    filled = [i for i, line in lines if line.removesuffix(b"\r") and i > 1]
    if b'"' not in body:
        assert starts == filled
    else:
        assert set(starts) <= set(filled)


def test_shared_nowplaying_is_exact(shared_data):
    path = shared_data / "nowplaying_head.csv"
    source = open_delimited(path)
    roles = dict(zip("abcd", source.names, strict=True))
    found = []
    for batch in source.batches(roles):
        assert not batch.refused
        found += zip(*(batch.fields[role].to_pylist() for role in roles), strict=True)
    lines = path.read_bytes().decode().split("\n")[1:10_001]
    expected = [tuple(line[1:-1].split('","')) for line in lines]
    assert len(found) == 10_000
    assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]] == []


def test_shared_archive_has_no_unreadable_line(shared_data):
    source = open_delimited(shared_data / "spotify_archive.tsv")
    batches = list(source.batches({"artist": "artistname", "title": "trackname"}))
    assert sum(len(batch.line) for batch in batches) == 33_124
    assert not any(batch.refused for batch in batches)


PIECES = ['"', '""', ",", '","', "a", " ", "\n", "\r", "\x1f", 'x"y', '"a, b"', "é", '"",']


@settings(deadline=None, max_examples=400)
@given(
    parts=st.lists(st.sampled_from(PIECES), max_size=30),
    width=st.integers(1, 4),
    final=st.booleans(),
)
def test_whole_blocks_are_unquoted_as_csv_does_it_line_by_line(parts, width, final):
    lines = delimited.cut("".join(parts).encode(), b"\n")
    shape = dialects.Shape(",", width, tuple(range(width)))
    fast = dialects.split_quoted(lines, shape, final=final)
    with pytest.MonkeyPatch.context() as patch:
        nothing = pa.array([], pa.binary())
        patch.setattr(dialects, "unquote", lambda some, _: (np.zeros(len(some), bool), nothing))
        slow = dialects.split_quoted(lines, shape, final=final)
    assert fast.at.tolist() == slow.at.tolist()
    assert [field.to_pylist() for field in fast.fields] == [
        field.to_pylist() for field in slow.fields
    ]
    assert (fast.refused, fast.open) == (slow.refused, slow.open)


def test_quoted_lines_need_no_csv():
    lines = [b'1,"a, b","say ""hi"""', b'"","",c', b'2,"x","y, """', '3,"","é"'.encode()]
    strict, bare = dialects.unquote(pa.array(lines), dialects.Shape(",", 3))
    assert strict.all()
    assert [line.decode().split("\x1f") for line in bare.to_pylist()] == [
        ["1", "a, b", 'say "hi"'],
        ["", "", "c"],
        ["2", "x", 'y, "'],
        ["3", "", "é"],
    ]
