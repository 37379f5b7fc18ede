"""DCLM's reading of Gopher and RefinedWeb (Li et al. 2024): its mappers, ordered as in dclm_baseline_refinedweb.yaml.

Words are what stands between blanks, except for n-grams: there they are Unicode's (UAX #29), those that begin with a
letter or digit.
"""

import re
from collections import Counter

import regex

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
COUNTERS = "likes shares comments retweets reposts quotes bookmarks upvotes downvotes downloads views followers"
_COUNTER = re.compile(rf"^\W*\d(?:,|\.|\d)*(?:K|k|M|m|B|b)?\s+(?:{COUNTERS.replace(' ', '|')})\W*$")
_WORD_BREAK = regex.compile(r"(?V1w)\b")


def unicode_words(text: str) -> list[str]:
    return [w for w in _WORD_BREAK.split(text) if w and w[0].isalnum()]


def count_words(text: str) -> int:
    return sum(w[0].isalnum() for w in re.split(r"[ \n\r\t\v\f\0]+", text) if w)


def measure(text: str) -> dict[str, float]:
    """The metrics of the quality rules, in the order in which they are asked."""
    words = text.split()
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    n, m = max(len(words), 1), max(len(lines), 1)
    return {
        "word_count": count_words(text),
        "mean_word_length": sum(map(len, words)) / n,
        "symbol_to_word_ratio": sum(text.count(s) for s in ("#", "...", ". . .", "\u2026")) / n if words else 0.0,
        "bullet_line_fraction": sum(line.startswith(("●", "•", "*", "-")) for line in lines) / m,
        "ellipsis_line_fraction": sum(line.endswith(("...", ". . .", "\u2026")) for line in lines) / m,
        "alpha_word_fraction": sum(any(c.isalpha() for c in word) for word in words) / n,
        "stop_word_count": sum(word.lower() in STOP_WORDS for word in words),
    }


def quality(text: str) -> str | None:
    """The rule that a document fails, None if it passes."""
    bounds = {
        "word_count": (50, 100_000),
        "mean_word_length": (3, 10),
        "symbol_to_word_ratio": (0, 0.1),
        "bullet_line_fraction": (0, 0.9),
        "ellipsis_line_fraction": (0, 0.3),
        "alpha_word_fraction": (0.8, 1),
        "stop_word_count": (2, 1e9),
    }
    found = measure(text)
    return next((name for name, (low, high) in bounds.items() if not low <= found[name] <= high), None)


def _segments(text: str, separator: str) -> list[str]:
    return [stripped for part in text.split(separator) if (stripped := part.strip())]


def segment_repetition(text: str, separator: str) -> tuple[float, float] | None:
    """Shares of segments, and of their characters, whose segment occurs more than once; None: not asked."""
    segments = _segments(text, separator)
    if len(segments) == 1:
        return None
    counts = Counter(segments)
    repeated = sum(n for n in counts.values() if n > 1)
    chars = sum(len(segment) * n for segment, n in counts.items() if n > 1)
    return repeated / len(segments), chars / sum(map(len, segments))


def gram_repetition(words: list[str], n: int) -> float:
    """Share of the characters of words: n up to 4, of the most frequent n-gram (the longest of equals); above, of all
    words inside an n-gram that occurs more than once."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    counts = Counter(grams)
    most = max(counts.values(), default=1)
    if most == 1:
        return 0.0
    chars = sum(map(len, words))
    if n <= 4:
        return most * max(sum(map(len, gram)) for gram, k in counts.items() if k == most) / chars
    covered = {j for i, gram in enumerate(grams) if counts[gram] > 1 for j in range(i, i + n)}
    return sum(len(words[j]) for j in covered) / chars


LIMITS = {2: 0.2, 3: 0.18, 4: 0.16, 5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def repetition(text: str) -> str | None:
    for name, separator in (("line", "\n"), ("paragraph", "\n\n")):
        found = segment_repetition(text, separator)
        if found is not None and (found[0] > 0.3 or found[1] > 0.2):
            return f"duplicate_{name}"
    words = unicode_words(text)
    for n, limit in LIMITS.items():
        if gram_repetition(words, n) > limit:
            return f"{n}_gram"
    return None


def _without(lines: list[str], phrase: str, pattern: str) -> list[str]:
    out = []
    for line in lines:
        if len(line.split()) <= 10:
            edited = re.sub(pattern.format(re.escape(phrase)), "", line, flags=re.IGNORECASE)
            if line and not edited.strip():
                continue
            line = edited
        out.append(line)
    return out


def corrected(text: str) -> str:
    """The text after the line-wise corrections."""
    lines = [x for x in text.split("\n") if not x or sum(map(str.isupper, x)) / len(x) <= 0.5]
    lines = "\n".join(lines).strip().split("\n")
    lines = [x for x in lines if not x or sum(map(str.isdigit, x)) / len(x) <= 0.999999]
    lines = [x for x in lines if not _COUNTER.search(x.lower())]
    lines = [x for x in lines if len(x.split()) >= 2 or not x]
    lines = _without(lines, "items in cart", r"\s?{}")
    lines = _without(lines, "Read more...", r"\s?{}$")
    lines = _without(lines, "Sign-in", r"^{}\s?")
    return "\n".join(lines).strip()


def decide(text: str) -> str | None:
    """The step at which a document goes, None if it stays."""
    text = re.sub(r"\n{3,}", "\n\n", text)
    for name, step in (("quality", quality), ("repetition", repetition)):
        reason = step(text)
        if reason is not None:
            return f"{name}.{reason}"
    left = corrected(text)
    before = count_words(text)
    if not left or (before - count_words(left)) / before > 0.05:
        return "lines.cut_word_fraction"
    return None
