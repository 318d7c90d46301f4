"""Invented names of genres, artists, songs, albums and playlists, for synthetic data.

A name is made from a template and one or two words from fixed lists. Names are numbered, and the
number determines the words, so names need not be checked for duplicates. After all combinations of
words have been used, a numeral is appended. Two names of the same kind differ even after
`catalog.song.normalise`, because the normalised words in each list also differ.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int32] | NDArray[np.int64]


class _Template(NamedTuple):
    """A template for names: `before`, first word, `between`, second word, `after`.

    If `single` is set, names have neither the first word nor `between`. `share` is the relative
    frequency of the template.
    """

    share: float
    before: str = ""
    between: str = " "
    after: str = ""
    single: bool = False


def _combine(starts: str, ends: str) -> list[str]:
    return [start + end for start in starts.split() for end in ends.split()]


_ADJECTIVES = """
Amber Ashen Backward Barefoot Borrowed Brittle Broken Burnished Candlelit Careless Cobalt Copper
Crooked Distant Drowsy Dusty Early Electric Endless Faded Faithful Feathered Final Flickering
Floating Foreign Forgotten Fragile Frozen Gentle Gilded Golden Hollow Honest Humble Idle
Imaginary Indigo Inland Invisible Ivory Kindred Lantern Lemon Little Lonesome Lucky Lunar
Magnetic Marbled Meandering Midsummer Modest Naïve Nameless Northern Oblique Ochre Orbital Paper
Parallel Patient Peculiar Pewter Plaid Quiet Rainy Reckless Restless Rosé Rusty Saffron Salted
Scarlet Second Secret Silent Silver Sleepless Slow Southern Spare Speckled Stolen Sunlit
Tangerine Tender Thirteenth Threadbare Timid Tin Tranquil Ultramarine Uncertain Unfinished
Velvet Violet Wandering Weightless Western Wicker Wild Windswept Winter Wooden Yellow Über
Émigré
""".split()  # noqa: SIM905 -- shorter than a list with one word per line

_NOUNS = """
Afternoon Almanac Anchor Apricot Archive Arrow Attic Avenue Balcony Balloon Barometer Beacon
Bicycle Blueprint Bonfire Bouquet Bridge Café Calendar Candle Canyon Carousel Cathedral Chimney
Cinema Cinnamon Clock Cloud Comet Compass Corridor Crossing Current Daybreak Declaración
Departure Desert Diary Dynamo Echo Elevator Ember Engine Envelope Equinox Escalator Evening
Façade Fairground Feather Fence Ferry Festival Fiction Firefly Fjörd Footbridge Fountain
Frontier Garden Gasoline Geometry Ghost Glacier Glasshouse Gravity Handshake Harbour Harvest
Hemisphere Holiday Horizon Hourglass Island Jukebox Junction Kite Ladder Lagoon Lamppost Letter
Lighthouse Lullaby Machine Mañana Map Marina Meadow Meridian Metronome Mirage Mirror Monsoon
Motel Museum Narrator November Ocean Orchard Orbit Overcoat Parachute Parade Passenger Pavilion
Pendulum Peninsula Petal Piano Planet Platform Postcard Promise Puzzle Radio Railway Reservoir
Rêverie Ribbon River Rooftop Satellite Season Shadow Shoreline Signal Skyline Snowfall Souvenir
Staircase Station Stranger Sunday Suitcase Telegram Telescope Theatre Thunder Tide Timetable
Tomorrow Tramline Tunnel Umbrella Valley Veranda Viaduct Volcano Voyage Waltz Waterfall
Wednesday Weekend Whistle Window Wire Yesterday Zeppelin
""".split()  # noqa: SIM905 -- shorter than a list with one word per line

_PLURALS = """
Abacuses Almanacs Anemometers Awnings Barometers Bellhops Bobbins Bookends Brambles Buttonholes
Cartographers Chandeliers Cloakrooms Coathangers Colanders Corduroys Cufflinks Custards
Deckchairs Dinghies Doorbells Dormice Earmuffs Egrets Envelopes Escalators Fenceposts Ferrymen
Firkins Floodlights Galoshes Gazebos Gondoliers Gramophones Haberdashers Handrails Haystacks
Hedgerows Hinges Inkwells Isobars Jamjars Kettles Kilns Lampshades Lathes Lepidopterists
Lighthousemen Marmalades Milliners Mittens Napkins Nutmegs Oarsmen Odometers Orreries
Paperweights Parsnips Pendulums Periscopes Piñatas Pinwheels Postboxes Quinces Raincoats
Rhubarbs Rowboats Sandbars Saucers Semaphores Sextants Shoehorns Sousaphones Spindles
Stationmasters Sundials Teacosies Teaspoons Thimbles Timetables Toboggans Trellises Tricycles
Trolleys Turnstiles Umbrellas Viaducts Wardrobes Weathervanes Wheelbarrows Windmills Zeppelins
""".split()  # noqa: SIM905 -- shorter than a list with one word per line

_FIRST_NAMES = _combine(
    """
    Al Be Bri Ca Da De El Fe Fi Gre Ha I Jo Ka Li Ma Mi Ne No O Pe Qui Ra Ro Sa Se Ta Ti U Va Ve
    Wi Yo Zé
    """,
    """
    bren dra fira jan kko la lian mo nna nor rek ris sko sså tta va vin zel
    """,
)
_LAST_NAMES = _combine(
    """
    Ald Arb Bel Bjø Bran Cas Cor Dov Drum Ell Fal Fen Gal Grim Hal Hest Ing Jarr Kest Kol Lam
    Lind Lor Marr Mel Nor O'Br Oss Pell Quar Rav Ros Sel Sten Tam Thorn Ul Vand Ves Wex Yar Zim
    """,
    """
    abel acre ander ardo atter berg brook dale enko essa field gard hurst illo ington ka lund
    mere mond nova orin quist rell shaw son stad tova ueño wick worth
    """,
)
_MONONYMS = _combine(
    """
    A Bri Cy Dae Dro E Fau Glo Hy I Jin Ko Ky Lu Mae My Ny O Pha Qua Rhy Sa Sho Sy Thi Tu U Vey
    Vo Wy Xa Zu
    """,
    """
    bex cade dune fynn gló kari lume mira nyx onda pell quill rune sola tarn vane wren xis yara
    zeph
    """,
)

_TITLES = (
    _Template(24),
    _Template(22, single=True),
    _Template(12, "The "),
    _Template(4, "My "),
    _Template(4, "No More "),
    _Template(3, "Song for a "),
    _Template(3, "Every "),
    _Template(3, "Waiting for the "),
    _Template(3, "", " ", " Blues"),
    _Template(2.5, "Don't Forget the "),
    _Template(2.5, "Oh, "),
    _Template(2, "", " ", " at Midnight"),
    _Template(2, "Ain't No "),
    _Template(2, "", " ", " (Live)"),
    _Template(1.5, "", " ", " - Remastered"),
    _Template(1.5, "She's a "),
    _Template(1, "", ", ", ", Goodbye"),
    _Template(0.3, 'The "', '" '),
    _Template(0.3, "", " ", ' - Extended 12"'),
    _Template(0.1, '"', " ", '"'),
)
_ALBUMS = (
    _Template(5),
    _Template(2, "The "),
    _Template(2, single=True),
    _Template(1, "Songs from the "),
    _Template(0.5, "", " ", " (Deluxe)"),
    _Template(0.1, 'Music for "', " ", '"'),
)
_BANDS = (
    (_Template(24), _ADJECTIVES, _PLURALS),
    (_Template(20, "The "), _ADJECTIVES, _PLURALS),
    (_Template(30), _FIRST_NAMES, _LAST_NAMES),
    (_Template(12, "", ""), _MONONYMS, [""]),
    (_Template(8, "", " & the "), _FIRST_NAMES, _PLURALS),
    (_Template(3, "", ", ", " & Sons"), _LAST_NAMES, _LAST_NAMES),
    (_Template(0.5, '"', '" '), _MONONYMS, _LAST_NAMES),
)
_GENRES = """
dustwave;glimmercore;harbour folk;tin disco;moss pop;night tramline;salt soul;paper punk;slowglass;
velvet static;orchard house;low tide dub;brass fog;neon polka;attic techno;copper country;
lantern jazz;gravel rap;rain samba;cellar metal;kite ambient;sugar noise;meridian blues;frost garage
""".replace("\n", "").split(";")
_MOODS = """
late night {};rainy day {};{} for the road;best of {};sunday morning {};{} to work to;new {};old {};
{} & coffee;just {};all {}, all day;deep {};summer {};winter {};{} party;{} mix;mum's {};dad's {};
my {};the "real" {};quiet {};loud {};{} 4 running;after hours {};{} for two;road trip, {};{} gems;
forgotten {};{} - favourites;slow {};más {};{} till dawn;kitchen {};{} on repeat;lost in {};pure {}
""".replace("\n", "").split(";")


def make_genre_names(count: int) -> pa.StringArray:
    """Return names for `count` genres, shape (count,)."""
    number = np.arange(count)
    return _append_numerals(_take(_GENRES, number % len(_GENRES)), number // len(_GENRES), " ")


def make_user_ids(count: int) -> pa.StringArray:
    """Return ids for `count` users, shape (count,)."""
    number = pc.utf8_lpad(pa.array(np.arange(count)).cast(pa.string()), 6, "0")
    return pc.binary_join_element_wise("listener-", number, "")


def make_artist_names(count: int, rng: np.random.Generator) -> pa.StringArray:
    """Return `count` different names of artists, in random order, shape (count,)."""
    shares = np.array([template.share for template, _, _ in _BANDS])
    kind = rng.choice(len(_BANDS), size=count, p=shares / shares.sum())
    names, artists = [], []
    for k, (template, first, second) in enumerate(_BANDS):
        artists.append(np.flatnonzero(kind == k))
        pairs = len(first) * len(second)
        number = np.arange(len(artists[-1]))
        pair = (rng.integers(pairs) + number * _find_coprime_stride(pairs)) % pairs
        words = _take(first, pair % len(first)), _take(second, pair // len(first))
        name = _fill_templates([template], np.zeros_like(pair), *words)
        names.append(_append_numerals(name, number // pairs, " "))
    return pa.concat_arrays(names).take(pa.array(np.argsort(np.concatenate(artists))))


def make_song_titles(
    artist: Ints, ordinal: Ints, artists: pa.StringArray, rng: np.random.Generator
) -> pa.StringArray:
    """Return a title for each of n songs. All titles of an artist are different.

    - `artist`, shape (n,): number of the artist of each song.
    - `ordinal`, shape (n,): number of each song among the songs of its artist, from 0.
    - `artists`: names of all artists. About 2% of the titles name another artist as a guest.
    """
    title = _make_titles(artist, ordinal, _TITLES, rng)
    guest = artists.take(pa.array(rng.integers(len(artists), size=len(artist))))
    featuring = pc.binary_join_element_wise(title, " (feat. ", guest, ")", "")
    return pc.if_else(pa.array(rng.random(len(artist)) < 0.02), featuring, title)


def make_album_titles(artist: Ints, ordinal: Ints, rng: np.random.Generator) -> pa.StringArray:
    """Return a title for each of n albums. All titles of an artist are different.

    - `artist`, shape (n,): number of the artist of each album.
    - `ordinal`, shape (n,): number of each album among the albums of its artist, from 0.
    """
    return _make_titles(artist, ordinal, _ALBUMS, rng)


def make_playlist_names(
    genre: Ints, owner: Ints, ordinal: Ints, genres: pa.StringArray
) -> pa.StringArray:
    """Return a name for each of n playlists. All names of an owner are different.

    - `genre`, shape (n,): genre of each playlist, as an index into `genres`.
    - `owner`, shape (n,): number of the owner of each playlist.
    - `ordinal`, shape (n,): number of each playlist among the playlists of its owner, from 0.
    """
    mood = (owner.astype(np.int64) * 7 + ordinal) % len(_MOODS)
    before, after = zip(*(mood.split("{}") for mood in _MOODS), strict=True)
    name = pc.binary_join_element_wise(
        _take(before, mood), genres.take(pa.array(genre)), _take(after, mood), ""
    )
    return _append_numerals(name, ordinal // len(_MOODS), " ")


def _make_titles(
    artist: Ints, ordinal: Ints, templates: Sequence[_Template], rng: np.random.Generator
) -> pa.StringArray:
    pairs = len(_ADJECTIVES) * len(_NOUNS)
    start = rng.integers(pairs, size=int(artist.max()) + 1)
    pair = (start[artist] + ordinal.astype(np.int64) * _find_coprime_stride(pairs)) % pairs
    shares = np.array([template.share for template in templates])
    kind = rng.choice(len(templates), size=len(artist), p=shares / shares.sum())
    # The first titles of an artist have different nouns, so the noun alone can be the title. Later
    # titles must have two words, because a noun alone could repeat an earlier title.
    singles = np.array([template.single for template in templates])
    kind[singles[kind] & (ordinal >= len(_NOUNS))] = 0
    first, second = pair // len(_NOUNS), pair % len(_NOUNS)
    title = _fill_templates(templates, kind, _take(_ADJECTIVES, first), _take(_NOUNS, second))
    return _append_numerals(title, ordinal // pairs, ", Pt. ")


def _fill_templates(
    templates: Sequence[_Template], kind: Ints, first: pa.StringArray, second: pa.StringArray
) -> pa.StringArray:
    single = np.array([template.single for template in templates])[kind]
    return pc.binary_join_element_wise(
        _take([template.before for template in templates], kind),
        pc.if_else(pa.array(single), "", first),
        _take(["" if template.single else template.between for template in templates], kind),
        second,
        _take([template.after for template in templates], kind),
        "",
    )


def _append_numerals(names: pa.StringArray, repetition: Ints, mark: str) -> pa.StringArray:
    """Append `mark` and a numeral, 2 or more, to names whose words have been used before.

    `repetition`, shape (names,), is the number of earlier uses of the words of each name.
    """
    if not repetition.any():
        return names
    numeral = pc.binary_join_element_wise(mark, pa.array(repetition + 1).cast(pa.string()), "")
    return pc.binary_join_element_wise(names, pc.if_else(pa.array(repetition > 0), numeral, ""), "")


def _take(words: Sequence[str], index: Ints) -> Any:
    return pa.array(words, pa.string()).take(pa.array(index))


def _find_coprime_stride(count: int) -> int:
    """Return a step whose multiples modulo `count` include every number below `count`.

    The step is about 0.618 times `count` (the golden ratio), so that successive multiples are far
    apart.
    """
    step = max(1, round(count * 0.618))
    while math.gcd(step, count) > 1:
        step += 1
    return step
