"""English words for whole numbers, as Qwen2.5-Math's rules read them: any such words in a text make it that number."""

from __future__ import annotations

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}


def as_digits(text: str) -> str:
    """Return a text of digits without its leading zeros, one with number words as their value, else the text."""
    plain = text.replace("-", " ").lower()
    if plain.isdigit() and plain.isascii():
        return str(int(plain))
    words = [word for word in plain.split() if word in _VALUES or word in _SCALES or word == "hundred"]
    return str(_number(words)) if words else text


def _number(words: list[str]) -> int:
    total = below_thousand = 0
    for word in words:
        if word == "hundred":
            below_thousand = max(below_thousand, 1) * 100
        elif word in _SCALES:
            total, below_thousand = total + max(below_thousand, 1) * _SCALES[word], 0
        else:
            below_thousand += _VALUES[word]
    return total + below_thousand
