"""Units of measurement, their spellings, and currencies."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

__all__ = ["CURRENCIES", "UNITS", "spellings_of"]

# Dimension -> unit: size in the first unit of the dimension, and its spellings. Sizes are exact by definition.
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
        1 s|sec|second|秒; 0.001 ms|millisecond; 60 m|min|mins|minute|分钟|分; 3600 h|hr|hour|小时|时
        86400 d|day|天|日; 604800 w|wk|week|周; 2629746 mo|mos|month|个月; 31556952 y|yr|year|年""",
    "speed": "1 m/s; 5/18 km/h|kmh|kph|km / h; 0.44704 mph",
    "power": "1 w|watt; 1000 kw|kilowatt; 1000000 mw|megawatt; 745.69987158227022 hp|bhp; 735.49875 ps",
    "energy": "1 j|joule; 1000 kj; 4.184 cal|calorie; 4184 kcal; 3600 wh; 3600000 kwh",
    "data": """
        1 b|byte; 1000 kb; 1000000 mb; 1000000000 gb; 1000000000000 tb; 1024 kib; 1048576 mib; 1073741824 gib""",
    "frequency": "1 hz; 1000 khz; 1000000 mhz; 1000000000 ghz",
    "percent": "1 %|percent|per cent|pct; 1/10 ‰",
    "count": """
        1000 k|thousand|tsd|千; 1000000 m|mn|mio|mln|million; 1000000000 b|bn|mrd|bln|billion; 100000 lakh|lac
        10000000 crore|cr; 10000 万|萬; 100000000 亿|億""",
}
# The same letter in capitals is another unit.
_CAPITALS = {"M": {"count": Fraction(10**6)}, "MM": {"count": Fraction(10**6)}, "T": {"count": Fraction(10**12)}}


def _table() -> dict[str, dict[str, Fraction]]:
    table: dict[str, dict[str, Fraction]] = {}
    for dimension, lines in _DIMENSIONS.items():
        for unit in lines.replace("\n", ";").split(";"):
            size, _, spellings = unit.strip().partition(" ")
            for spelling in filter(None, map(str.strip, spellings.split("|"))):
                table.setdefault(spelling, {})[dimension] = Fraction(size)
    return table


UNITS = _table()
"""Spelling -> dimension -> size: ``m`` is a metre, a minute or a million, as the other cells of its column say."""

_ALIASES = """
    EUR € eur euro euros|GBP £ gbp|INR ₹ rs rs. inr rupees|USD us$ usd|RUB ₽ руб руб.|KRW ₩ 원 won|CNY 元 人民币 rmb 块
    JPY 円 yen|UAH ₴|TRY ₺|VND ₫ đ|NGN ₦|PHP ₱|ILS ₪|THB ฿|BRL r$|AUD a$ au$|CAD c$ ca$|HKD hk$|TWD nt$|SGD s$|NZD nz$
    MXN mx$|PLN zł|CZK kč|CHF fr. sfr|$ $ dollar dollars|¥ ¥|kr kr kr.|BTC ₿|¢ ¢ cents"""
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
def spellings_of(text: str) -> dict[str, Fraction] | None:
    """Return what a unit may be: size by dimension; None for an unknown one.

    Examples
    --------
    >>> from ensemblefuse.column_formats._units import spellings_of
    >>> {name: float(size) for name, size in spellings_of("lbs.").items()}
    {'mass': 453.59237}
    """
    if text in _CAPITALS:
        return _CAPITALS[text]
    small = text.lower()
    plain = small.replace(".", "")
    for spelling in (small, plain, plain.removesuffix("s")):
        if spelling in UNITS:
            return UNITS[spelling]
    return None
