"""The names by which columns are recognised, in folded spelling (see `fold`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def fold(name: str) -> str:
    """Return a name without case, white space, `_` and `-`, which do not matter."""
    return "".join(c for c in name.casefold() if c not in "_-" and not c.isspace())


def _split_names(names: Mapping[str, str]) -> dict[str, list[str]]:
    return {role: text.split() for role, text in names.items()}


# In order of preference, and in folded spelling. Names that mean different things in
# different files ("name", "id", "date") are left out: users can give them with --column.
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

# Names of items in general, such as products and films. They are used only if the names above do
# not include the required columns, because the ids of known songs must not change.
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

# Additional names in a file whose records are playlists, each with a list of its songs.
IN_LISTS = _split_names(
    {
        "playlist_id": "id",
        "playlist_name": "name title",
        "artist": "creator",
        "title": "name",
        "track_id": "id uri",
    }
)

# Names of columns in which songs in a list name their own playlist. "Mix" is left out, because it
# may describe the song.
IN_ROWS = _split_names(
    {
        "playlist_id": "playlistid pid sessionid session playlisturi playlistpid",
        "playlist_name": "playlistname playlist playlisttitle",
        "owner": "owner ownerid userid user username",
    }
)

SONG_LISTS = ("tracks", "songs", "items", "plays", "listens", "entries")
"""Usual names of lists of songs."""

TIMES = {
    *("timestamp", "ts", "playedat", "listenedat"),
    *("unixtimestamp", "datetime", "playtime", "endtime"),
    *("eventtime", "orderdate", "purchasedate", "invoicedate"),
}
"""Names of position columns with times of listening, by which an owner's plays form sessions."""

ADDED = "addedat"
"""Name of a position column with times of adding to the playlist that the file is."""

PODCASTS = {"podcastname", "episodename"}
"""Columns of a history of podcasts."""
