"""Known names of columns for each role, in folded spelling (see `fold`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def fold(name: str) -> str:
    """Return the folded spelling of a name: in lower case, without white space, `_` and `-`."""
    return "".join(c for c in name.casefold() if c not in "_-" and not c.isspace())


def _split_names(names: Mapping[str, str]) -> dict[str, list[str]]:
    return {role: text.split() for role, text in names.items()}


# Known names for each role, in order of preference. Ambiguous names such as "name", "id" and "date"
# are not included. Users can assign such columns with --column.
ALIASES = _split_names(
    {
        "playlist_id": (
            "playlistid pid sessionid session playlisturi playlistpid listeningsession "
            "listid mixid mix"
        ),
        "playlist_name": "playlistname playlist playlisttitle listname sessionname mixname",
        "owner": "owner ownerid ownername userid user username userhash listener listenerid",
        "artist": (
            "artist artistname artists artistnames artistname(s) trackartist trackartists "
            "songartist performer masteralbumartistname mastermetadataalbumartistname "
            "artname"
        ),
        "title": (
            "title track trackname tracktitle song songname songtitle "
            "mastermetadatatrackname traname"
        ),
        "position": (
            "position pos trackposition positioninplaylist trackindex timestamp ts playedat "
            "listenedat addedat unixtimestamp datetime playtime endtime index"
        ),
        "track_id": (
            "trackid trackuri spotifytrackuri spotifytrackid spotifyid spotifyuri songid "
            "songuri uri isrc musicbrainztrackid traid"
        ),
        "played": "msplayed playedms secondsplayed playedseconds",
        "skipped": "skipped isskipped",
    }
)

# Names for other kinds of items, such as products and films. They are used only if required columns
# are not found by the names above. Otherwise, in a file of songs that also has a column such as
# itemid, that column would identify the songs.
ITEM_ALIASES = _split_names(
    {
        "playlist_id": (
            "orderid basketid basket cartid cart transactionid invoiceid invoiceno receiptid "
            "visitid"
        ),
        "owner": "customerid customer visitorid reviewerid",
        "title": "product productname item itemname movietitle movie film",
        "position": "addtocartorder eventtime orderdate purchasedate invoicedate",
        "track_id": "itemid productid movieid articleid stockcode sku asin",
    }
)

# Additional names in files whose records are playlists with lists of songs.
IN_LISTS = _split_names(
    {
        "playlist_id": "id",
        "playlist_name": "name title",
        "artist": "creator",
        "title": "name",
        "track_id": "id uri",
    }
)

# Names of columns that identify the playlist or listener of each song in a list. "Mix" is not
# included, because it may describe the song.
IN_ROWS = _split_names(
    {
        "playlist_id": "playlistid pid sessionid session playlisturi playlistpid",
        "playlist_name": "playlistname playlist playlisttitle",
        "owner": "owner ownerid userid user username",
    }
)

SONG_LISTS = ("tracks", "songs", "items", "plays", "listens", "entries")
"""Known names of lists of songs."""

TIMES = {
    *("timestamp", "ts", "playedat", "listenedat"),
    *("unixtimestamp", "datetime", "playtime", "endtime"),
    *("eventtime", "orderdate", "purchasedate", "invoicedate"),
}
"""Names of columns with times of listening, by which a listener's plays are cut into sessions."""

ADDED = "addedat"
"""Name of the column with the times at which songs were added, in files that are one playlist."""

PODCASTS = {"podcastname", "episodename"}
"""Columns by which a history of podcasts is recognised."""
