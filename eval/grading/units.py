"""Units of measurement: which are the same, which convert into each other, which are different quantities."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# Dimension: spellings and their factor to the first unit of the row.
_TABLE: dict[str, tuple[tuple[str, str], ...]] = {
    "length": (
        ("1", "m meter metre 米"),
        ("1/1000", "mm millimeter millimetre 毫米"),
        ("1/100", "cm centimeter centimetre 厘米"),
        ("1/10", "dm decimeter 分米"),
        ("1000", "km kilometer kilometre 千米 公里"),
        ("1/1000000", "micron"),
        ("1/10000000000", "angstrom"),
        ("1/1000000000", "nm nanometer nanometre"),
        ("0.0254", "in inch inche"),
        ("0.3048", "ft foot feet"),
        ("0.9144", "yd yard"),
        ("1609.344", "mi mile"),
    ),
    "time": (
        ("1", "s sec second 秒"),
        ("1/1000", "ms millisecond"),
        ("60", "min minute 分钟"),
        ("3600", "h hr hour 小时"),
        ("86400", "day 天"),
        ("604800", "week wk"),
    ),
    "years": (("1", "year yr 年"), ("1/12", "month 月")),
    "mass": (
        ("1", "g gram gm 克"),
        ("1/1000", "mg milligram 毫克"),
        ("1000", "kg kilogram 千克 公斤"),
        ("453.59237", "lb pound"),
        ("28.349523125", "oz ounce"),
        ("1000000", "ton tonne"),
    ),
    "money": (("1", "$ dollar usd buck"), ("1/100", "cent ¢ penny pennie")),
    "yuan": (("1", "元 yuan ¥ rmb 块"),),
    "euro": (("1", "€ euro"),),
    "pound": (("1", "£"),),
    "volume": (("1", "l liter litre 升"), ("1/1000", "ml milliliter 毫升"), ("3.785411784", "gallon gal")),
    "temperature": (("1", "k kelvin"),),
    "celsius": (("1", "°c celsius 摄氏度"),),
    "fahrenheit": (("1", "°f fahrenheit"),),
    "energy": (("1", "j joule"), ("1000", "kj kilojoule")),
    "electronvolt": (("1", "ev"), ("1000", "kev"), ("1000000", "mev")),
    "erg": (("1", "erg"),),
    "force": (("1", "n newton"),),
    "power": (("1", "w watt"), ("1000", "kw kilowatt")),
    "pressure": (("1", "pa pascal"), ("1000", "kpa"), ("101325", "atm")),
    "frequency": (("1", "hz hertz"), ("1000", "khz")),
    "charge": (("1", "coulomb"),),
    "voltage": (("1", "v volt"),),
    "current": (("1", "amp ampere"),),
    "resistance": (("1", "ohm omega"),),
    "substance": (("1", "mol mole"),),
    "mph": (("1", "mph"),),
    "unit": (("1", "unit"),),
    "angle": (("1", "rad radian"),),
}
_KNOWN = {
    name: (dimension, Fraction(factor))
    for dimension, row in _TABLE.items()
    for factor, names in row
    for name in names.split()
}
# Of plain letters, only these are taken for units; m, s, g, … are units only beside another reading as variables.
PLAIN_UNITS = frozenset(
    "mm cm dm km nm in ft yd mi sec min hr mg kg lb lbs oz ml mL kJ eV keV MeV Hz kHz Pa kPa atm mol mph rad "
    "m s h g l L J K N W V Pa C F A T cc ms kW kWh erg ergs AU pc kpc Mpc amu dB mM cal kcal bar pH gm rpm kmh".split()
)
_PART = re.compile(r"([a-z$€£¥¢°\u3400-\u9fff]+)(?:\^\{?(-?\d+)\}?)?|(/)|(.)")
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "平方": 2, "立方": 3}


@dataclass(frozen=True, slots=True)
class Measure:
    """A unit as a factor and a product of dimensions."""

    factor: Fraction
    dimensions: tuple[tuple[str, int], ...]


@lru_cache(maxsize=4096)
def measure(unit: str) -> Measure | None:
    """Return what a unit measures, or None for one that is not in the table: `students`, `ways`."""
    factor, powers, sign, power = Fraction(1), dict[str, int](), 1, 1
    text = re.sub(r"\bper\b", "/", unit.lower().replace("cdot", " ").replace("*", " ").replace(".", ""))
    for name, exponent, slash, other in _PART.findall(text):
        if slash:
            sign = -1
        elif other:
            if not other.isspace() and other not in "()-,{}":
                return None
        elif name in _POWERS:
            power = _POWERS[name]
        else:
            known = _KNOWN.get(name) or _KNOWN.get(name.removesuffix("s"))
            if known is None:
                return None
            count = sign * power * int(exponent or 1)
            powers[known[0]] = powers.get(known[0], 0) + count
            factor *= known[1] ** count
            sign, power = 1, 1
    return Measure(factor, tuple(sorted((name, count) for name, count in powers.items() if count))) if powers else None


def is_known(word: str) -> bool:
    """Whether a word is a unit of the table, in the singular or the plural."""
    name = word.lower().rstrip(".")
    return name in _KNOWN or name.removesuffix("s") in _KNOWN or name in _POWERS
