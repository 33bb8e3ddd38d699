"""Units of measurement, their spellings, and currencies."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

__all__ = ["CASED", "CURRENCIES", "RATED_OF", "UNITS", "spellings_of"]

# Dimension -> unit: size in the first unit of the dimension, and its spellings. Sizes are exact by definition.
# Capitals do not matter in these spellings, but for those that stand in `_EXACT` in another case.
_DIMENSIONS: dict[str, str] = {
    "length": """
        1 m|metre|meter|米; 0.001 mm|millimetre|millimeter|毫米; 0.01 cm|centimetre|centimeter|厘米|公分; 0.1 dm
        1000 km|kilometre|kilometer|公里|千米; 0.0254 "|in|inch|inches|″|”|''|英寸|寸; 0.3048 '|ft|foot|feet|′|’|英尺
        0.9144 yd|yard; 1609.344 mi|mile|英里; 0.000001 µm|μm""",
    "mass": """
        1 g|gr|gm|gram|gramme|克; 0.001 mg|milligram|毫克; 1000 kg|kgs|kilo|kilogram|公斤|千克; 500 斤
        1000000 t|tonne|吨|噸; 453.59237 lb|pound; 28.349523125 oz|ounce; 6350.29318 stone""",
    "volume": """
        1 l|lt|ltr|litre|liter|升; 0.001 ml|millilitre|milliliter|cc|ccm|cm³|毫升; 0.01 cl; 0.1 dl; 1000 m³|cbm
        3.785411784 gal|gallon; 0.946352946 qt|quart; 0.473176473 pt|pint
        0.0295735295625 fl oz|floz|fluid ounce""",
    "area": """
        1 m²|sqm|sq m|qm|㎡|平方米|平米|square metre|square meter; 0.0001 cm²
        1000000 km²|sq km; 10000 ha|hectare|公顷
        0.09290304 ft²|sqft|sq ft|square foot|square feet
        4046.8564224 acre; 2589988.110336 sq mi|square mile""",
    "duration": """
        1 s|sec|second|秒|sekunde|sekunden|seconde|segundo|secondo|secondi|seconden
        0.001 ms|millisecond; 60 m|min|mins|minute|分钟|分|minuten|minuto|minuti|minuut
        3600 h|hr|hour|小时|时|std|stunde|stunden|heure|hora|ora|ore|uur|uren
        86400 d|day|天|日|tag|tage|tagen|jour|día|dia|giorno|giorni
        604800 w|wk|week|周|woche|wochen|semaine|semana|settimana|settimane|weken
        2629746 mo|mos|month|个月|monat|monate|monaten|mois|mes|mese|mesi|meses|maand|maanden
        31556952 y|yr|year|年|jahr|jahre|jahren|année|año|anno|anni|ano|jaar|jaren|an""",
    "speed": "1 m/s; 5/18 km/h|kmh|kph|km / h; 0.44704 mph",
    "power": """
        1 w|watt; 0.001 milliwatt; 1000 kw|kilowatt; 1000000 megawatt; 1000000000 gw|gigawatt
        745.69987158227022 hp|bhp; 735.49875 ps""",
    "energy": """
        1 j|joule; 0.001 millijoule; 1000 kj|kilojoule; 1000000 megajoule; 1000000000 gj|gigajoule
        4.184 cal|calorie; 4184 kcal; 3600 wh; 3600000 kwh; 3600000000000 gwh""",
    "voltage": "1 v|volt; 0.001 millivolt; 1000 kv|kilovolt; 1000000 megavolt",
    "current": "1 amp|ampere; 0.001 milliampere; 1000 ka",
    "pressure": "100 hpa; 1000 kpa; 100000 bar; 100 mbar; 6894.757293168361 psi",
    "resistance": "1 Ω|ω|ohm; 1000 kΩ|kω",
    # Bytes, with bits as parts of them. Small letters are bytes to most people, but not beside bits.
    "data": """
        1 byte; 1/8 bit; 125 kbit; 125000 mbit; 125000000 gbit; 1024 kib; 1048576 mib; 1073741824 gib""",
    "bytes": """
        1 b|byte; 1000 kb; 1000000 mb; 1000000000 gb; 1000000000000 tb; 1024 kib; 1048576 mib; 1073741824 gib""",
    "frequency": "1 hz; 1000 khz; 1000000 mhz; 1000000000 ghz",
    "percent": "1 %|percent|per cent|pct; 1/10 ‰",
    "count": """
        1000 k|thousand|tsd|千; 1000000 m|mn|mio|mln|million; 1000000000 b|bn|mrd|bln|billion; 100000 lakh|lac
        10000000 crore|cr; 10000 万|萬; 100000000 亿|億""",
}
# Spellings whose capitals matter. Read with other capitals they would be another unit, most often a thousand million
# times as large. A spelling in other capitals than these, or than small ones in the table above, is unknown.
_EXACT_UNITS: dict[str, str] = {
    "power": "1 W; 0.001 mW; 1000000 MW",
    "energy": "0.001 mJ; 1000000 MJ; 3.6 mWh; 3600000000 MWh; 4184 Cal",
    "voltage": "0.001 mV; 1000000 MV",
    "current": "1 A; 0.001 mA",
    "pressure": "1 Pa; 0.001 mPa; 1000000 MPa; 1000000000 GPa",
    "resistance": "0.001 mΩ; 1000000 MΩ",
    "data": """
        1 B; 1000 KB|kB|Ko|ko; 1000000 MB|Mo; 1000000000 GB|Go; 1000000000000 TB|To
        125 Kb; 125000 Mb; 125000000 Gb; 125000000000 Tb""",
    "bytes": "1 B; 1000 KB|kB|Ko|ko; 1000000 MB|Mo; 1000000000 GB|Go; 1000000000000 TB|To",
    "frequency": "0.001 mHz; 1000000 MHz|MHZ|Mhz",
    "duration": "2629746 Mo|MO",
    "mass": "0.001 MG",
    "volume": "0.001 mL",
    "count": "1000000 M|MM; 1000000000 B|G; 1000000000000 T",
    "length": "0.001 MM",
}
_UNKNOWN = "S Mm Mg ML Ml Mw mw mj mwh mpa DM CAL a pa PA"  # too likely to be something else


def _table(dimensions: dict[str, str]) -> dict[str, dict[str, Fraction]]:
    table: dict[str, dict[str, Fraction]] = {}
    for dimension, lines in dimensions.items():
        for unit in lines.replace("\n", ";").split(";"):
            size, _, spellings = unit.strip().partition(" ")
            for spelling in filter(None, map(str.strip, spellings.split("|"))):
                table.setdefault(spelling, {})[dimension] = Fraction(size)
    return table


UNITS = _table(_DIMENSIONS)
"""Spelling -> dimension -> size: ``m`` is a metre, a minute or a million, as the other cells of its column say."""
UNITS["w"] = {"power": Fraction(1)} | UNITS["w"]  # a watt, but a week beside days
_EXACT = _table(_EXACT_UNITS) | {spelling: {} for spelling in _UNKNOWN.split()}
CASED = frozenset(map(str.lower, _EXACT))
"""Spellings, in small letters, whose capitals matter."""
_SMALL = frozenset(("G", "M", "ML", "S", "T", "W"))  # where a column has capitals only, these may be the small ones

RATED_OF = {"5": "five", "10": "ten", "20": "twenty", "100": "a hundred"}
"""Ends of scales of ratings, such as 4.5/5 and 4.5 out of 5, in words: a part of the unit, alike in all cells."""

_ALIASES = """
    EUR € eur euro euros|GBP £ gbp|INR ₹ rs rs. inr rupees|USD us$ usd u$s|RUB ₽ руб руб. р.|KRW ₩ 원 won
    CNY 元 人民币 人民幣 rmb 块|JPY 円 日元 日圆 yen|UAH ₴ грн грн.|TRY ₺|VND ₫ đ|NGN ₦|PHP ₱|ILS ₪|THB ฿ บาท|BRL r$
    AUD a$ au$|CAD c$ ca$|HKD hk$ 港元|TWD nt$|SGD s$|NZD nz$|MXN mx$|PLN zł|CZK kč|CHF fr. sfr sfr.|IDR Rp Rp.
    KES KSh KSh.|AED Dh Dhs|RON lei|BGN лв лв.|CRC ₡|PEN S/ S/.|UYU $u|$ $ dollar dollars|¥ ¥|kr kr kr.|BTC ₿
    ¢ ¢ cents"""
_CODES = """
    AED ARS AUD BDT BGN BHD BRL BTC CAD CHF CLP CNY COP CZK DKK EGP EUR GBP GHS HKD HRK HUF IDR ILS INR ISK JPY KES KRW
    KWD LKR MAD MXN MYR NGN NOK NZD OMR PEN PHP PKR PLN QAR RON RSD RUB SAR SEK SGD THB TND TRY TWD UAH
    USD UYU VND ZAR"""


def _currencies() -> dict[str, str]:
    table = {code: code for code in _CODES.split()}
    for line in _ALIASES.strip().replace("\n", "|").split("|"):
        name, *spellings = line.split()
        table.update(dict.fromkeys(spellings, name))
    return table


CURRENCIES = _currencies()
"""Symbol, word in small letters, or code in capitals -> name of the currency. ``$`` is of no one country."""


@lru_cache(maxsize=1000)
def spellings_of(text: str, capitals: bool = False) -> dict[str, Fraction] | None:
    """Return what a unit may be: size by dimension; None for an unknown one.

    `capitals` is whether all units of its column are written in capitals, so that they decide nothing: ``G`` is a gram
    beside ``KG``.

    Examples
    --------
    >>> from ensemblefuse.column_formats._units import spellings_of
    >>> {name: float(size) for name, size in spellings_of("lbs.").items()}
    {'mass': 453.59237}
    >>> [float(spellings_of(unit)["power"]) for unit in ("mW", "MW")]
    [0.001, 1000000.0]
    """
    plain = text.replace(".", "")
    if capitals and plain in _SMALL:
        return _EXACT[plain] | {k: size for k, size in UNITS[plain.lower()].items() if k not in _EXACT[plain]}
    for spelling in (text, plain, plain.removesuffix("s"), plain.removesuffix("S")):
        small = spelling.lower()
        if spelling in _EXACT:
            return _EXACT[spelling] or None
        if small in UNITS and (spelling == small or small not in CASED):
            return UNITS[small]
    return None
