import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import ColumnError, FileError
from ingest.sources.files import content as contents
from ingest.sources.formats import csv_splitters
from ingest.sources.formats.csv import cut_lines
from tests.support.reading import open_text

COLUMNS = {"playlist_id": "pid", "artist": "artist", "title": "title"}


def _read(path):
    """Return the kind of a file, its rows (line, pid, artist, title) and faults (line, reason)."""
    file = open_text(path)
    rows, faults = [], []
    for batch in file.read_batches(COLUMNS):
        values = [batch.fields[role].to_pylist() for role in COLUMNS]
        for n, row in enumerate(zip(batch.lines.tolist(), *values, strict=True)):
            if n in batch.faults:
                faults.append((row[0], batch.faults[n]))
            else:
                rows.append(row)
    return file.kind, rows, faults


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "songs.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return _read(path)

    return read


def test_quotes_inside_wrapped_fields_are_plain_characters(read):
    kind, rows, faults = read(
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
    assert faults == []


def test_malformed_lines_of_wrapped_quotes(read):
    good = '"1","a "b" c","d"\n' * 500
    _, rows, faults = read(
        '"pid", "artist", "title"\n' + good + '"1","a","b","c"\n"\n1,2,3\n' + good
    )
    assert len(rows) == 1000
    assert faults == [
        (502, "expected 3 fields, found 4"),
        (503, "does not begin and end with a quote"),
        (504, "does not begin and end with a quote"),
    ]


def test_one_malformed_record_does_not_make_a_quoted_file_wrapped(read):
    kind, rows, faults = read(
        '"pid","artist","title"\n"1","a","say ""hi"""\n"1","a","""b"""\n"1","x "y" z","b"\n'
    )
    assert kind == "CSV, standard quoting"
    assert [row[3] for row in rows] == ['say "hi"', '"b"']
    assert faults == [(4, "malformed quotes: ',' expected after '\"'")]


def test_tab_separated_text_has_no_quoting(read):
    kind, rows, faults = read(
        'pid\tartist\ttitle\n1\t"Weird Al" Yankovic\tEat It\n1\t"Heroes"\t7" mix\n1\ta\t"b\n'
    )
    assert kind == "TSV, no quoting"
    assert [row[2:] for row in rows] == [
        ('"Weird Al" Yankovic', "Eat It"),
        ('"Heroes"', '7" mix'),
        ("a", '"b'),
    ]
    assert faults == []


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
def test_tab_separated_text_with_evident_quoting(read, content):
    kind, rows, faults = read(content)
    assert kind == "TSV, standard quoting"
    assert rows[0][3] == "a"
    assert faults == []


def test_comma_separated_text_without_quoting(read):
    kind, rows, faults = read('pid,artist,title\n1,"Weird Al" Yankovic,x\n1,b,"12" mix"\n')
    assert kind == "CSV, no quoting"
    assert [row[2] for row in rows] == ['"Weird Al" Yankovic', "b"]
    assert faults == []


def test_quoted_fields_may_contain_delimiters_and_line_ends(read):
    kind, rows, faults = read(
        'pid,artist,title\r\n1,"a, b","two\r\n\r\nlines"\r\n2,c,"""q"""\r\n\r\n3,7" mix,e'
    )
    assert kind == "CSV, standard quoting"
    assert rows == [
        (2, "1", "a, b", "two\r\n\r\nlines"),
        (5, "2", "c", '"q"'),
        (7, "3", '7" mix', "e"),
    ]
    assert faults == []


@pytest.mark.parametrize("after", [1, 50, 500])
def test_an_unclosed_quote_rejects_only_its_own_line(read, after):
    head = 'pid,artist,title\n1,"x, y",z\n'
    _, rows, faults = read(head + '2,"a,b\n' + "3,c,d\n" * after + '4,"e, f",g\n' * 3)
    assert faults == [(3, faults[0][1])]
    assert "quote" in faults[0][1]
    assert len(rows) == 1 + after + 3
    assert rows[1] == (4, "3", "c", "d")


def test_record_that_includes_another_and_has_too_many_fields(read):
    head = 'pid,artist,title\n1,"x, y",z\n' * 1
    _, rows, faults = read(head + '2,"a,b\n3,c",d,e\n4,f,g\n')
    assert faults == [
        (3, "a quote is opened here and the record, of 2 lines, has 4 fields instead of 3"),
        (4, "expected 3 fields, found 4"),
    ]
    assert [row[1] for row in rows] == ["1", "4"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(read, end, last):
    lines = ["", "pid\tartist\ttitle", "1\ta\tb", "", "2\tc\t", "3\td\te"]
    kind, rows, faults = read(end.join(lines) + (end if last else ""))
    assert kind == "TSV, no quoting" + (", CR line ends" if end == "\r" else "")
    assert rows == [(3, "1", "a", "b"), (5, "2", "c", ""), (6, "3", "d", "e")]
    assert faults == []


def test_lone_carriage_return_is_text_if_lines_end_otherwise(read):
    assert read("pid\tartist\ttitle\n1\ta\rb\tc\n")[1] == [(2, "1", "a\rb", "c")]
    assert read('pid,artist,title\r1,"a\rb",c\r2,d,e\r')[1] == [
        (2, "1", "a\rb", "c"),
        (4, "2", "d", "e"),
    ]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_is_detected_from_the_header(read, delimiter):
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
    _, rows, faults = read(b"\n".join([header, good, line, good, good]))
    assert [row[0] for row in rows] == [2, 4, 5]
    assert faults == [(3, "not valid UTF-8")]


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
def test_files_without_records_or_text(read, content, message):
    with pytest.raises(FileError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_line_without_end(read, monkeypatch):
    monkeypatch.setattr(contents, "BLOCK_SIZE", 100)
    monkeypatch.setattr(contents, "MAX_LINE_SIZE", 1000)
    with pytest.raises(FileError, match="a line is longer"):
        read("pid,artist,title\n1,a,b\n1,a," + "x" * 2000)


TABLE = st.lists(
    st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"))] * 3), min_size=1
)
NASTY = st.lists(st.tuples(*[st.text('",\t\r\n a')] * 3), min_size=1)


@settings(max_examples=200)
@given(
    rows=TABLE | NASTY,
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    block=st.sampled_from([1, 7, 50, 1 << 20]),
)
def test_files_that_the_csv_module_writes_are_read_exactly(tmp_path_factory, rows, quoting, block):
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting)
    writer.writerows([["pid", "artist", "title"], *rows])
    path = tmp_path_factory.mktemp("table") / "songs.csv"
    path.write_bytes(text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "BLOCK_SIZE", block)
        _, result, faults = _read(path)
    assert [row[1:] for row in result] == rows
    assert faults == []


@settings(max_examples=300)
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
def test_every_line_of_any_bytes_is_a_row_or_a_reject(tmp_path_factory, body, header, block):
    path = tmp_path_factory.mktemp("bytes") / "songs.csv"
    path.write_bytes(header + body)
    try:
        if "pid" not in open_text(path).names.outer:
            return
        _, rows, faults = whole = _read(path)
    except (FileError, ColumnError):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "BLOCK_SIZE", block)
        assert _read(path) == whole
    starts = sorted([row[0] for row in rows] + [line for line, _ in faults])
    assert len(set(starts)) == len(starts)
    lines = enumerate((header + body).split(b"\n"), start=1)
    filled = [i for i, line in lines if line.removesuffix(b"\r") and i > 1]
    if b'"' not in body:
        assert starts == filled
    else:
        assert set(starts) <= set(filled)


def test_shared_nowplaying_is_exact(shared_data):
    path = shared_data / "nowplaying_head.csv"
    file = open_text(path)
    roles = dict(zip("abcd", file.names.outer, strict=True))
    rows = []
    for batch in file.read_batches(roles):
        assert not batch.faults
        rows += zip(*(batch.fields[role].to_pylist() for role in roles), strict=True)
    lines = path.read_bytes().decode().split("\n")[1:10_001]
    expected = [tuple(line[1:-1].split('","')) for line in lines]
    assert len(rows) == 10_000
    assert [pair for pair in zip(rows, expected, strict=True) if pair[0] != pair[1]] == []


def test_shared_archive_has_no_unreadable_line(shared_data):
    file = open_text(shared_data / "spotify_archive.tsv")
    batches = list(file.read_batches({"artist": "artistname", "title": "trackname"}))
    assert sum(len(batch.lines) for batch in batches) == 33_124
    assert not any(batch.faults for batch in batches)


PIECES = ['"', '""', ",", '","', "a", " ", "\n", "\r\n", "\x1f", 'x"y', '"a, b"', "é", '"",']


@settings(max_examples=400)
@given(parts=st.lists(st.sampled_from(PIECES), max_size=30), width=st.integers(1, 4))
def test_valid_standard_quoting_is_read_as_by_the_csv_module(parts, width):
    text = "".join(parts)
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return
    records = [record for record in records if record]
    if any(len(record) != width for record in records):
        return
    shape = csv_splitters.RecordShape(",", width, tuple(range(width)))
    split = csv_splitters.split_standard(cut_lines(text.encode(), b"\n"), shape)
    assert not split.faults
    fields = [values.to_pylist() for values in split.fields]
    assert [list(row) for row in zip(*fields, strict=True)] == records
