"""EvalWeb's reading of its own rules (Chen et al. 2023): ChineseWebText's preprocess.py, without its list of words."""

import re
from collections import Counter


def decide(text: str, *, simplified: bool) -> str | None:
    """The rule that a document fails, None if it stays; `simplified`: zhconv would change nothing in it."""
    if len(text) <= 200 or len(text) / len(text.split("\n")) < 10:
        return "length"
    if len(re.findall("[\u4e00-\u9fa5]", text)) / len(text) < 0.3 or not simplified:
        return "characters"
    plain = re.sub("[ \n\t]", "", text.strip().lower())
    grams = [plain[i : i + 13] for i in range(len(plain) - 13)] if len(plain) >= 13 else [plain]
    repeated = sum(n for n in Counter(grams).values() if n > 1)
    return "repetition" if grams and repeated / len(grams) > 0.5 else None
