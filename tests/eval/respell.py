"""Spellings of an answer that mean the same, for the grader's tests: each function returns None where it has no say."""

import re
from fractions import Fraction

NUMBER = re.compile(r"-?\d+(\.\d+)?")
NUMERIC_FRACTION = re.compile(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}")
LIST_OF_NUMBERS = re.compile(r"-?\d+(,\s*-?\d+)+")


def display_fraction(answer):
    return answer.replace("\\frac", "\\dfrac") if "\\frac" in answer else None


def text_fraction(answer):
    return answer.replace("\\frac", "\\tfrac") if "\\frac" in answer else None


def slash_fraction(answer):
    match = NUMERIC_FRACTION.fullmatch(answer)
    return f"{match[1]}{match[2]}/{match[3]}" if match else None


def scaled_fraction(answer):
    match = NUMERIC_FRACTION.fullmatch(answer)
    return f"{match[1]}\\frac{{{2 * int(match[2])}}}{{{2 * int(match[3])}}}" if match else None


def decimal_fraction(answer):
    match = NUMERIC_FRACTION.fullmatch(answer)
    if not match:
        return None
    return repr(float(Fraction(int(match[1] + match[2]), int(match[3]))))


def integer_as_decimal(answer):
    return f"{answer}.0" if re.fullmatch(r"-?\d{1,15}", answer) else None


def grouped_thousands(answer):
    return f"{int(answer):,}" if re.fullmatch(r"-?\d{4,15}", answer) else None


def thin_grouped_thousands(answer):
    return f"{int(answer):,}".replace(",", ",\\!") if re.fullmatch(r"-?\d{4,15}", answer) else None


def leading_point(answer):
    return answer[1:] if answer.startswith("0.") else None


def trailing_zero(answer):
    return f"{answer}0" if re.fullmatch(r"-?\d*\.\d+", answer) else None


def spaced(answer):
    if re.search(r"[A-Za-z]{2}", re.sub(r"\\[A-Za-z]+", "", answer)):
        return None
    return re.sub(r"([+=(),])", r" \1 ", answer)


def unspaced(answer):
    is_plain = " " in answer and "\\text" not in answer and "\\ " not in answer
    return re.sub(r"(?<![A-Za-z]) ", "", answer) if is_plain else None


def thin_spaced(answer):
    return answer.replace(", ", ",\\, ") if ", " in answer else None


def stretched(answer):
    if "\\left" in answer or "(" not in answer:
        return None
    return re.sub(r"(?<!\\)\(", r"\\left(", re.sub(r"(?<!\\)\)", r"\\right)", answer)) if closed(answer) else None


def closed(answer):
    return answer.count("(") == answer.count(")") and "[" not in answer and "]" not in answer


def dollars(answer):
    return f"${answer}$" if "$" not in answer else None


def inline_math(answer):
    return f"\\({answer}\\)" if "$" not in answer else None


def final_dot(answer):
    return f"{answer}."


def display_style(answer):
    return f"\\displaystyle {answer}"


def with_unit(answer):
    return f"{answer} \\text{{ cm}}" if NUMBER.fullmatch(answer) else None


def with_unit_word(answer):
    return f"{answer} units" if NUMBER.fullmatch(answer) else None


def with_square_unit(answer):
    return f"{answer}\\mbox{{ inches}}^2" if NUMBER.fullmatch(answer) else None


def without_dollar_sign(answer):
    return answer.replace("\\$", "").strip() if "\\$" in answer else None


def without_degrees(answer):
    if re.search(r"\\(sin|cos|tan)", answer):
        return None
    return re.sub(r"\^\{?\s*\\circ\s*\}?", "", answer) if "\\circ" in answer else None


def braced_degrees(answer):
    return answer.replace("^\\circ", "^{\\circ}") if "^\\circ" in answer else None


def degrees_in_words(answer):
    return re.sub(r"\^\{?\s*\\circ\s*\}?", r" \\text{ degrees}", answer) if "\\circ" in answer else None


def percent_in_words(answer):
    return answer.replace("\\%", " percent") if "\\%" in answer else None


def without_percent(answer):
    return answer.replace("\\%", "") if "\\%" in answer else None


def reversed_list(answer):
    if LIST_OF_NUMBERS.fullmatch(answer) and not re.fullmatch(r"-?\d{1,3}(,\d{3})+", answer):
        return ", ".join(reversed([part.strip() for part in answer.split(",")]))
    return None


def list_as_set(answer):
    if LIST_OF_NUMBERS.fullmatch(answer) and not re.fullmatch(r"-?\d{1,3}(,\d{3})+", answer):
        return f"\\{{{answer}\\}}"
    return None


def named(answer):
    return f"x = {answer}" if NUMBER.fullmatch(answer) or NUMERIC_FRACTION.fullmatch(answer) else None


def without_name(answer):
    match = re.fullmatch(r"[a-zA-Z]\s*=\s*([^=]+)", answer)
    return match[1] if match else None


def plain_words(answer):
    match = re.fullmatch(r"\\text\{\s*([A-Za-z]{2,})\s*\}", answer)
    return match[1] if match else None


def braced_root(answer):
    found = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", answer)
    return found if found != answer else None


def bare_root(answer):
    found = re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", answer)
    return found if found != answer else None


def braced_base(answer):
    found = re.sub(r"_(\d)(?!\d)", r"_{\1}", answer)
    return found if found != answer and re.fullmatch(r"\d+_\d", answer) else None


RESPELLINGS = tuple(
    function
    for name, function in list(globals().items())
    if callable(function) and not name.startswith("_") and name not in ("Fraction", "closed")
)
