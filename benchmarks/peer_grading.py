"""lm-evaluation-harness's own verdicts, for `bench_eval_peers.py`: its tasks name these functions.

GSM8K as its `flexible-extract` (the last number of the text), MATH-500 as the `math_verify` metric of its minerva_math.
Run as a program in its environment it reads [set, text, gold] rows and prints its verdicts.

Source: lm_eval 0.4.13, tasks/gsm8k/gsm8k.yaml and tasks/minerva_math/utils.py.
"""

import json
import re
import sys

from math_verify import parse, verify

NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
IGNORED = (",", r"\$", "(?s).*#### ", r"\.$")
NOT_FOUND = "[invalid]"


def gsm8k(doc: dict, results: list) -> dict:
    return {"avg": average("gsm8k", doc, results[0])}


def math500(doc: dict, results: list) -> dict:
    return {"avg": average("math500", doc, results[0])}


def average(name: str, doc: dict, texts: list[str]) -> float:
    """Share of the right samples of one question."""
    return sum(is_right(name, text, doc["answer"]) for text in texts) / len(texts)


def is_right(name: str, text: str, answer: str) -> bool:
    if name == "math500":
        return bool(verify(gold=parse(f"\\boxed{{{answer}}}"), target=parse(text)))
    found = NUMBER.findall(text)
    last = next((group for group in found[-1] if group), NOT_FOUND).strip() if found else NOT_FOUND
    return plain(last) == plain(answer)


def plain(text: str) -> str:
    for pattern in IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


if __name__ == "__main__":
    print(json.dumps([is_right(*json.loads(line)) for line in sys.stdin]))
