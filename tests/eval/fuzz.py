"""Answers to every gold of every local benchmark: respelled (right), corrupted (wrong), and made to cheat (wrong).

Used by the gate of the tests and by `benchmarks/bench_grading_gate.py`. A pair is (response, problem, how); nothing
here asks the grader what is right: a respelling is right and a corruption wrong by how it is made.
"""

import random
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from eval.benchmarks.registry import load
from eval.grading import grade_many

RESPELL = runpy.run_path(str(Path(__file__).with_name("respell.py")))
SETS = (
    "aime2023", "aime2024", "aime2025", "amc23", "math500", "minerva_math", "olympiadbench", "gsm8k", "mmlu_stem",
    "gsm8k_train", "math_train_part",
)  # fmt: skip
BATCH = 20_000
SHARE_OF_CHEATS = 0.2
"""Of the golds that are cheated on: what is undecided costs a question to math_verify."""

UNITS = (
    r"{}\,\mathrm{{{}}}", r"{}~\mathrm{{{}}}", r"{}\;\text{{{}}}", r"{}\ \text{{{}}}", r"{} \text{{ {}}}",
    r"{} \, \text{{{}}}", r"{}\mathrm{{~{}}}", r"{}\:\mathrm{{{}}}", r"{}\,\operatorname{{{}}}", r"{}\quad\text{{{}}}",
    r"{}\mbox{{ {}}}", r"{} {}",
)  # fmt: skip
NAMES = ("K", "m", "J", "cm", "m/s", "kg", "cm^2", "km/h", "eV", "m/s^2", "dollars", "students")
NUMERIC = re.compile(r"-?(?:\d+(?:\.\d+)?(?:e-?\d+)?|\\d?frac\{\d+\}\{\d+\}|\d*\s*\\pi|\d*\s*\\sqrt\{?\d+\}?)")
PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)e(-?\d+)")
END = r"[^,()\[\]\\]+|-?\\infty|-?\\frac\{\d+\}\{\d+\}"
INTERVAL = re.compile(rf"(?:\\left)?([(\[])({END}),\s*(?:\\ )?({END})(?:\\right)?([)\]])")
TUPLE = re.compile(r"\(([^(),]+),([^(),]+)\)")
ROW = "\\\\"
MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)
FULL_WIDTH = str.maketrans("0123456789(),-+=", "０１２３４５６７８９（），－＋＝")
WORDS = re.compile(r"[a-z]{4,}|\\text|\\mbox")


class Pair(NamedTuple):
    response: str
    problem: object
    how: str


class Figures(NamedTuple):
    num_right: int
    refused: list
    num_wrong: int
    accepted: list
    num_cheats: int
    rewarded: list
    num_undecided: int


def respelled(problem, generator):
    """Yield (how, response) of right answers."""
    gold = problem.answer
    if problem.kind == "choice":
        yield from ((how, f"\\boxed{{{answer}}}") for how, answer in choice_spellings(problem))
        return
    for respell in RESPELL["RESPELLINGS"]:
        spelling = respell(gold)
        if spelling not in (None, gold):
            yield respell.__name__, f"\\boxed{{{spelling}}}"
    for how, answer in spellings(gold, generator):
        yield how, f"\\boxed{{{answer}}}"
    yield "align", f"\\begin{{align*}}\nx &= 1+1 \\\\\n &= \\boxed{{{gold}}}.\n\\end{{align*}}"
    yield "display", f"Therefore\n$$\\boxed{{{gold}}}$$"
    yield "bold box", f"**Answer**: $\\mathbf{{\\boxed{{{gold}}}}}$"
    yield "fbox", f"\\fbox{{{gold}}}"


def spellings(gold, generator):
    is_numeric = NUMERIC.fullmatch(gold) is not None
    if is_numeric:
        name = generator.choice(NAMES)
        for number, dress in enumerate(UNITS):
            yield f"unit {number}", dress.format(gold, name)
    if PLAIN_NUMBER.fullmatch(gold):
        yield "label (C)", f"\\text{{(C) }}{gold}"
        yield "label C:", f"C: {gold}"
        yield "bold label", f"\\textbf{{(B)}}\\ {gold}"
        yield "yuan", f"{gold}元"
        yield "bold symbol", f"\\boldsymbol{{{gold}}}"
        yield "mathbf", f"\\mathbf{{{gold}}}"
        yield "currency", f"\\${gold}"
        yield "remark", f"{gold} (exactly)"
        yield "all x", f"{gold} for all x>0"
        if re.fullmatch(r"-?\d+", gold):
            yield "braced thousands", f"{int(gold):,}".replace(",", "{,}")
            yield "thin thousands", f"{int(gold):,}".replace(",", r"\,")
            yield "computed", f"x = {gold}"
    if match := SCIENTIFIC.fullmatch(gold):
        for cross in (r"\times", r"\cdot", "×"):
            yield "scientific", f"{match[1]} {cross} 10^{{{match[2]}}}"
    if match := INTERVAL.fullmatch(gold):
        yield from interval_spellings(*match.groups())
    if match := MATRIX.fullmatch(gold):
        body = match[1]
        yield "bmatrix", f"\\begin{{bmatrix}}{body}\\end{{bmatrix}}"
        yield "row space", f"\\begin{{pmatrix}}{body.replace(ROW, ROW + '[2pt]')}\\end{{pmatrix}}"
        yield "array", f"\\left[\\begin{{array}}{{cc}}{body}\\end{{array}}\\right]"
    if WORDS.search(gold) is None and "$" not in gold:
        yield "markdown", f"**{gold}**"
        yield "backticks", f"`${gold}$`"
        yield "prose", f"The answer is ${gold}$."
        yield "text prose", f"\\text{{The answer is }} {gold}"
        yield "full width", gold.translate(FULL_WIDTH)
        yield "colon", f"Answer: {gold}"
        yield "chinese", f"答案是{gold}"
        yield "spaces", f"\\; {gold} \\;"
        if "^" in gold and "\\" not in gold:
            yield "python power", re.sub(r"\^\{?(\d+)\}?", r"**\1", gold)
        if re.search(r"\\sqrt\{\d+\}", gold):
            yield "root sign", re.sub(r"\\sqrt\{(\d+)\}", r"√\1", gold)
        if "\\pi" in gold:
            yield "pi sign", re.sub(r"\\pi(?![a-z])", "π", gold)
        if "\\frac" in gold:
            yield "slash", re.sub(r"\\d?frac\{(\d+)\}\{(\d+)\}(?![\\\w{(])", r"(\1)/(\2)", gold)
    if "\\circ" in gold and not re.search(r"\\(sin|cos|tan)", gold):
        yield "degree sign", re.sub(r"\^\{?\s*\\circ\s*\}?", "°", gold)
    if match := re.fullmatch(r"(\d+)_\{?(\d)\}?", gold):
        yield "bracketed base", f"({match[1]})_{match[2]}"
        yield "base in words", f"{match[1]} \\text{{ base }} {match[2]}"


def interval_spellings(opening, low, high, closing):
    less, less_or = ("<" if opening == "(" else r"\le"), ("<" if closing == ")" else r"\leq")
    greater, greater_or = (">" if opening == "(" else r"\ge"), (">" if closing == ")" else r"\geq")
    if "infty" in low and "infty" in high:
        return
    if "infty" in low:
        yield "condition", f"x {less_or} {high}"
        yield "reversed condition", f"{high} {greater_or} t"
    elif "infty" in high:
        yield "condition", f"\\lambda {greater} {low}"
    elif opening + closing != "()":  # (1,2) may be a point
        yield "condition", f"{low} {less} \\lambda {less_or} {high}"
        yield "reversed condition", f"{high} {greater_or} x {greater} {low}"
        yield "member", f"x \\in {opening}{low},{high}{closing}"
    if opening + closing != "()" or "infty" in low + high:
        yield "french", f"{']' if opening == '(' else '['}{low},{high}{'[' if closing == ')' else ']'}"


def choice_spellings(problem):
    letter, text = problem.answer, problem.choices["ABCDEFGHIJ".index(problem.answer)]
    for how in (
        "{}",
        "({})",
        "{}.",
        "{})",
        "**{}**",
        r"\text{{{}}}",
        r"\text{{({})}}",
        r"\textbf{{({})}}",
        "Option {}",
        "The answer is {}.",
        "`{}`",
        "答案：{}",
    ):
        yield how, how.format(letter)
    if "{" not in text and "$" not in text and len(text) < 200:
        for how in ("{}. {}", "({}) {}", "{}: {}", "{} - {}", "{}) {}", "**{}.** {}"):
            yield how, how.format(letter, text)


def corrupted(problem, others, generator):
    """Yield (how, answer) of wrong answers."""
    gold = problem.answer
    if problem.kind == "choice":
        wrong = [letter for letter in "ABCDEFGHIJ"[: len(problem.choices)] if letter != gold]
        yield from (("letter", letter) for letter in wrong)
        yield "two letters", f"{gold} or {wrong[0]}"
        yield "label", f"({wrong[-1]}) {problem.choices[0]}"
        return
    if "where" in gold:
        return  # what is compared ends there
    digits = [
        match.start() for match in re.finditer(r"\d", gold)
        if not re.search(r"[_\[]\{?\s*\d*$", gold[: match.start()]) and not re.match(r"\d*\]", gold[match.start():])
    ]  # fmt: skip
    for place in generator.sample(digits, min(2, len(digits))):
        digit = generator.choice("123456789".replace(gold[place], ""))
        yield "digit", gold[:place] + digit + gold[place + 1 :]
    if NUMERIC.fullmatch(gold) and not re.fullmatch(r"-?[0.]+", gold):
        yield "sign", gold[1:] if gold.startswith("-") else f"-{gold}"
        if gold not in ("1", "-1"):
            yield "power", f"{gold}^2" if PLAIN_NUMBER.fullmatch(gold) and gold[0] != "-" else f"({gold})^2"
        yield "list", f"{gold}, {gold}7"
    if (match := TUPLE.fullmatch(gold)) and match[1].strip() != match[2].strip():
        yield "swapped pair", f"({match[2]},{match[1]})"
    if match := re.fullmatch(r"(.*[^\s{(^+\-,=])\s*[+-]\s*([^+\-=(){}\[\]|,$]*[^+\-=(){}\[\]|,$\s]+)", gold):
        if match[1].count("{") == match[1].count("}") and match[1].count("(") == match[1].count(")"):
            yield "dropped term", match[1]
    if "^{2}" in gold or "^2" in gold:
        yield "exponent", re.sub(r"\^\{?2\}?(?!\d)", "^{3}", gold, count=1)
    for _ in range(2):
        other = generator.choice(others).answer
        # 100 %, $0.20 and 1:1 are the numbers 1, 1/5 and 1 otherwise written.
        if bare(other) != bare(gold) and not re.search(r"[%:]|\\\$", other + gold):
            yield "another question's answer", other


def bare(answer):
    """Return an answer without what never tells two apart: 36 and 36°, 5 and x=5."""
    answer = re.sub(r"\\(?:text|mbox)\s*\{[^}]*\}(?:\^\d)?|\^\{?\\circ\}?|\\left|\\right|\\[$%!]|[\s$,]", "", answer)
    return re.sub(
        r"^[A-Za-z](?:\([a-z]\))?=|(?<=\d)\.0*$|\.$", "", answer.replace("dfrac", "frac").replace("tfrac", "frac")
    )


def cheats(problem):
    """Yield (how, answer) of answers a policy could learn to write."""
    yield from (("tautology", text) for text in ("0=0", "1=1", "x=x", "x = x", r"\text{True}", "n=n"))
    if bare(problem.answer).strip("{}()[].") not in ("0", "00") and problem.kind != "choice":
        yield "zero", "0"
    yield "nothing", ""
    yield "nothing", r"\ "
    yield "nothing", "{}"
    yield "all letters", "A, B, C, D, E"
    yield "all letters", "ABCD"
    yield "all letters", "A or B or C or D"
    yield "many numbers", ", ".join(map(str, range(-20, 200)))
    yield "many numbers", r"\{" + ",".join(map(str, range(120))) + r"\}"
    yield "many numbers", " or ".join(map(str, range(60)))
    yield "many numbers", " ".join(map(str, range(90)))
    numbers = list(dict.fromkeys(re.findall(r"\d+", problem.question)))[:40]
    if len(numbers) > 1 and set(numbers) != set(re.findall(r"\d+", problem.answer)):
        yield "the question's numbers", ", ".join(numbers)
        yield "the question's numbers", " ".join(numbers)
    yield "a variable", "x"
    yield "a question", "?"
    yield "huge", "1+" * 400 + "1"
    yield "huge", "(" * 300 + "1" + ")" * 300
    yield "words", r"\text{the correct answer}"
    yield "words", "answer"
    yield "not a number", r"\text{NaN}"
    yield "everything", r"\mathbb{C}"
    if problem.kind != "choice":
        yield "a placeholder", r"\text{gold}"
        yield "interval", "[-10^{9},10^{9}]"


def run(data_folder, *, share, seed=0):
    """Grade a share of all pairs; return the figures."""
    generator = random.Random(seed)
    right, wrong, cheating = [], [], []
    for name in SETS:
        problems = load(name, data_folder=data_folder).problems
        for problem in problems:
            if generator.random() >= share:
                continue
            right += [Pair(response, problem, f"{name}: {how}") for how, response in respelled(problem, generator)]
            wrong += [
                Pair(f"\\boxed{{{answer}}}", problem, f"{name}: {how}")
                for how, answer in corrupted(problem, problems, generator)
            ]
            if generator.random() < SHARE_OF_CHEATS:
                cheating += [
                    Pair(f"\\boxed{{{answer}}}", problem, f"{name}: {how}") for how, answer in cheats(problem)
                    if answer != problem.answer
                ]  # fmt: skip
    counts = Counter()
    refused = [pair for pair, found in graded(right, counts) if not found.is_correct]
    accepted = [pair for pair, found in graded(wrong, counts) if found.is_correct]
    rewarded = [pair for pair, found in graded(cheating, counts) if found.is_correct]
    return Figures(len(right), refused, len(wrong), accepted, len(cheating), rewarded, counts["math_verify"])


def graded(pairs, counts):
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        grades = grade_many((pair.response, pair.problem) for pair in batch)
        counts.update(found.method for found in grades)
        yield from zip(batch, grades, strict=True)
