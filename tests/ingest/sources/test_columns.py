from pathlib import Path

import pytest

from catalog.errors import ColumnError
from ingest.sources.columns.roles import ColumnNames, find_columns

FILE = Path("songs.csv")


def find(names, given=()):
    return find_columns(ColumnNames(tuple(names)), dict(given), FILE)


def test_nowplaying_header():
    names = ["user_id", "artistname", "trackname", "playlistname"]
    assert find(names) == {
        "playlist_name": "playlistname",
        "owner": "user_id",
        "artist": "artistname",
        "title": "trackname",
    }


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Artist Name(s)", "artist"),
        (" ARTIST-NAME ", "artist"),
        ("Track Name", "title"),
        ("song", "title"),
        ("PID", "playlist_id"),
        ("sessionId", "playlist_id"),
        ("Playlist", "playlist_name"),
        ("userName", "owner"),
        ("played_at", "position"),
        ("Track URI", "track_id"),
        ("traid", "track_id"),
        ("musicbrainz-track-id", "track_id"),
    ],
)
def test_spelling_does_not_matter(name, role):
    others = {"artist": "artist", "title": "title", "playlist_id": "pid"}
    names = [name, *(other for key, other in others.items() if key != role)]
    assert find(names)[role] == name


def test_the_more_specific_name_is_preferred():
    names = ["index", "timestamp", "pos", "artist", "track", "title", "session", "playlist_id"]
    result = find(names)
    assert (result["position"], result["title"], result["playlist_id"]) == (
        "pos",
        "title",
        "playlist_id",
    )


def test_ambiguous_names_have_no_role():
    with pytest.raises(ColumnError, match=r"missing: a title .*with --column title=name$"):
        find(["name", "artist", "pid"])


def test_a_given_name_precedes_known_names():
    names = ["artist", "album artist", "title", "pid"]
    assert find(names, {"artist": "Album_Artist"})["artist"] == "album artist"


def test_the_exact_spelling_of_a_given_name_is_preferred():
    names = ["ARTIST", "artist", "title", "pid"]
    assert find(names, {"artist": "artist"})["artist"] == "artist"


def test_a_given_column_has_only_one_role():
    result = find(["user_id", "artist", "title"], {"playlist_id": "user_id"})
    assert result["playlist_id"] == "user_id"
    assert "owner" not in result


def test_empty_given_name_leaves_a_role_out():
    names = ["artist", "title", "pid", "timestamp"]
    assert "position" not in find(names, {"position": ""})
    assert "artist" not in find(names, {"artist": ""})
    with pytest.raises(ColumnError, match="missing: a title"):
        find(names, {"title": ""})


def test_given_name_that_the_file_lacks():
    with pytest.raises(ColumnError, match=r"songs\.csv: there is no column 'singer'.*'artist'"):
        find(["artist", "title", "pid"], {"artist": "singer"})


def test_given_role_that_is_unknown():
    with pytest.raises(ColumnError, match=r"singer.*playlist_id, playlist_name"):
        find(["artist", "title", "pid"], {"singer": "artist"})


def test_an_owner_alone_does_not_identify_playlists():
    with pytest.raises(ColumnError) as caught:
        find(["user", "artist", "title"])
    message = str(caught.value)
    assert "'user' (owner)" in message
    assert "session" in message
    assert "playlistname" in message
    assert message.endswith("--column playlist_id=user")
    assert "\n" not in message


def test_column_used_twice_in_the_header():
    with pytest.raises(ColumnError, match="2 columns are called 'artist'"):
        find(["artist", "artist", "title", "pid"])


def test_unused_columns_may_share_a_name():
    assert find(["x", "x", "artist", "title", "pid"])["title"] == "title"


def test_message_about_a_wide_file_is_one_short_line():
    names = [f"c{i}\n" + "x" * 500 for i in range(300)]
    with pytest.raises(ColumnError) as caught:
        find(names)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["order_id", "product"], {"playlist_id": "order_id", "title": "product"}),
        (
            ["userId", "movieId", "rating", "timestamp"],
            {
                "owner": "userId",
                "title": "movieId",
                "position": "timestamp",
                "track_id": "movieId",
            },
        ),
        (
            ["order_id", "product_id", "product_name", "add_to_cart_order", "reordered"],
            {
                "playlist_id": "order_id",
                "title": "product_name",
                "position": "add_to_cart_order",
                "track_id": "product_id",
            },
        ),
        (
            ["InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "CustomerID"],
            {
                "playlist_id": "InvoiceNo",
                "owner": "CustomerID",
                "title": "StockCode",
                "position": "InvoiceDate",
                "track_id": "StockCode",
            },
        ),
        (
            ["session_id", "item_id", "title"],
            {"playlist_id": "session_id", "title": "title", "track_id": "item_id"},
        ),
        (
            ["pid", "track_uri"],
            {"playlist_id": "pid", "title": "track_uri", "track_id": "track_uri"},
        ),
    ],
    ids=["orders", "ratings", "order lines", "invoices", "sessions", "tracks"],
)
def test_items_need_no_artist(names, columns):
    assert find(names) == columns


def test_names_of_items_do_not_change_the_ids_of_songs():
    names = ["artist", "title", "playlist", "item_id", "order_id", "product"]
    assert find(names) == {
        "playlist_name": "playlist",
        "artist": "artist",
        "title": "title",
    }


def test_options_of_a_message_name_columns_of_the_file():
    with pytest.raises(ColumnError) as caught:
        find(["customer", "what was bought", "item count", "Full Name"])
    assert str(caught.value).endswith(
        "name the columns, for example with --column 'title=Full Name' "
        "--column playlist_id=customer (and --column 'artist=what was bought', if there are "
        "artists)"
    )
