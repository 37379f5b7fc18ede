"""Plain, slow implementations of what the compiled kernels compute, straight from the definitions."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import pairwise

from raypt.curation.rules.c4 import STARTERS
from raypt.curation.rules.refinedweb_lines import RefinedWebLines
from raypt.text import unicode as u


@lru_cache(maxsize=1 << 16)
def has(c: str, bits: int) -> bool:
    return bool(u.flags(c) & bits)


def is_symbol(text: str) -> bool:
    return all(unicodedata.category(c)[0] in "PS" or unicodedata.category(c) == "Cc" for c in text)


def _leading(chunk: str) -> int:
    """Length of the first token of leading punctuation, 0 if there is none."""
    if chunk and has(chunk[0], u.EDGE):
        return 1
    return len(chunk) - len(chunk.lstrip(".")) if chunk.startswith("..") else 0


def _without_trailing(chunk: str) -> str:
    while chunk:
        stem = chunk.rstrip(".")
        if has(chunk[-1], u.EDGE):
            chunk = chunk[:-1]
        elif stem != chunk:
            initial = stem and has(stem[-1], u.UPPER) and not (len(stem) > 1 and has(stem[-2], u.UPPER))
            abbreviation = len(stem) > 1 and has(stem[-1], u.ALPHA) and stem[-2] == "."
            if len(chunk) - len(stem) == 1 and (initial or abbreviation):
                return chunk
            chunk = stem
        elif len(chunk) > 2 and re.search("['’][sS]$", chunk):
            chunk = chunk[:-2]
        else:
            return chunk
    return ""


def _inner_split(text: str, p: int) -> int:
    """End of the separator that starts at text[p], or p if there is none."""
    c, end = text[p], len(text)
    if has(c, u.UNSPACED):
        p += 1
        while p < end and has(text[p], u.EXTEND) and not has(text[p], u.UNSPACED):
            p += 1
        return p
    if has(c, u.SPLIT):
        return p + 1
    if p == 0 or p + 1 == end or not has(c, u.SYMBOL):
        return p
    before, after = text[p - 1], text[p + 1]
    word = has(before, u.ALPHA | u.DIGIT)
    if has(c, u.EDGE) and (has(before, u.UNSPACED) or has(after, u.UNSPACED)):
        return p + 1
    if has(c, u.HYPHEN) and word:
        run = p + 1
        while run < end and has(text[run], u.HYPHEN):
            run += 1
        numbers = run == p + 1 and has(before, u.DIGIT) and has(after, u.DIGIT)
        return run if run < end and (has(text[run], u.ALPHA) or numbers) else p
    if c == ".":
        if has(after, u.UNSPACED) and not has(after, u.NO_STOPS):
            number = re.search(r"\d*$", "".join(x if has(x, u.DIGIT) and x != "\n" else "_" for x in text[:p]))
            assert number
            first = number.start()
            return p + (has(before, u.ALPHA) or (0 < first < p and has(text[first - 1], u.UNSPACED)))
        if after == ".":
            return p + len(text[p:]) - len(text[p:].lstrip("."))
        return p + (has(before, u.ALPHA) and not has(before, u.UPPER) and has(after, u.UPPER))
    if c == ",":
        return p + (has(before, u.ALPHA) and has(after, u.ALPHA))
    if c in ":<>=/":
        return p + (word and has(after, u.ALPHA))
    if c in "+*^":
        return p + (has(before, u.DIGIT) and has(after, u.DIGIT))
    return p


def chunk_tokens(chunk: str) -> list[str]:
    out = []
    while n := _leading(chunk):
        out.append(chunk[:n])
        chunk = chunk[n:]
    middle = _without_trailing(chunk)
    tail = chunk[len(middle) :]
    start = p = 0
    while p < len(middle):
        if 0 < p < len(middle) - 2 and middle[p : p + 3] == "://" and not has(middle[p - 1], u.UNSPACED | u.SPLIT):
            break
        end = _inner_split(middle, p)
        if end > p:
            out += [middle[start:p]] if start < p else []
            out.append(middle[p:end])
            start = p = end
        else:
            p += 1
    out += [middle[start:]] if start < len(middle) else []
    while tail:
        clitic = re.match("['’][sS]", tail)
        n = clitic.end() if clitic else max(1, len(tail) - len(tail.lstrip(".")))
        out.append(tail[:n])
        tail = tail[n:]
    return out


def tokens(text: str) -> list[str]:
    return [token for chunk in text.split() for token in chunk_tokens(chunk)]


def line_words(line: str) -> list[str]:
    """What C4 counts as the words of a line: chunks between spaces, and each character of an unspaced script."""
    return [word for chunk in line.split() for word in _line_words(chunk)]


@lru_cache(maxsize=1 << 16)  # very long documents of few words
def _line_words(chunk: str) -> tuple[str, ...]:
    if not any(has(c, u.UNSPACED) for c in chunk):
        return (chunk,)
    parts = chunk_tokens(chunk)
    out = [t for t in parts if any(has(c, u.UNSPACED) for c in t)]
    if any(not any(has(c, u.UNSPACED) for c in t) and not is_symbol(t) for t in parts):
        out.append("x")
    return tuple(out)


def longest_word(line: str) -> int:
    longest = 0
    for chunk in line.split():
        unspaced = any(has(c, u.UNSPACED) for c in chunk)
        longest = max([longest, *map(len, chunk_tokens(chunk) if unspaced else [chunk])])
    return longest


def duplicates(items: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    elements = characters = 0
    for item in items:
        if item in seen:
            elements += 1
            characters += len(item)
        seen.add(item)
    return elements, characters


def blank(line: str) -> bool:
    return not line.strip()


def paragraphs(text: str) -> list[str]:
    out: list[list[str]] = [[]]
    for line in text.splitlines():
        if not blank(line):
            out[-1].append(line)
        elif out[-1]:
            out.append([])
    return ["\n".join(p) for p in out if p]


def gopher_repetition(text: str) -> dict[str, float]:
    words, chars = tokens(text), max(len(text), 1)
    out = {}
    for name, items in (("paragraph", paragraphs(text)), ("line", [x for x in text.splitlines() if not blank(x)])):
        elements, characters = duplicates(items)
        out[f"duplicate_{name}_fraction"] = elements / max(len(items), 1)
        out[f"duplicate_{name}_char_fraction"] = characters / chars
    for n in (2, 3, 4):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        top = Counter(grams).most_common(1)
        repeated = top and top[0][1] > 1
        out[f"top_{n}_gram_char_fraction"] = top[0][1] * joined_length(top[0][0]) / chars if repeated else 0.0
    for n in range(5, 11):
        seen, i, repeated = set(), 0, 0
        while i + n <= len(words):
            gram = tuple(words[i : i + n])
            if gram in seen:
                repeated += sum(map(len, gram))
                i += n
            else:
                seen.add(gram)
                i += 1
        out[f"duplicate_{n}_gram_char_fraction"] = repeated / chars
    return out


def joined_length(gram: tuple[str, ...]) -> int:
    unspaced = [any(has(c, u.UNSPACED) for c in word) for word in gram]
    gaps = sum(not (a or b) for a, b in pairwise(unspaced))
    return sum(map(len, gram)) + gaps


def gopher_quality(text: str, stop_words: set[str]) -> dict[str, float | None]:
    all_tokens = tokens(text)
    words = [t for t in all_tokens if not is_symbol(t)]
    lines = text.splitlines()
    n, m = max(len(all_tokens), 1), max(len(lines), 1)
    spaced = [w for w in words if not any(has(c, u.UNSPACED) for c in w)]
    unspaced = len(words) - len(spaced)
    return {
        "word_count": len(words),
        "mean_word_length": None if 2 * unspaced > len(words) else sum(map(len, spaced)) / max(len(spaced), 1),
        "hash_to_word_ratio": text.count("#") / n if all_tokens else 0.0,
        "ellipsis_to_word_ratio": (text.count("...") + text.count("…")) / n if all_tokens else 0.0,
        "bullet_line_fraction": sum(x.strip()[:1] in ("•", "-") for x in lines) / m,
        "ellipsis_line_fraction": sum(x.rstrip().endswith(("...", "…")) for x in lines) / m,
        "alpha_word_fraction": sum(any(c.isalpha() for c in t) for t in all_tokens) / n,
        "stop_word_count": len(stop_words & set(all_tokens)),
    }


def sentences(line: str) -> int:
    n, ended, previous, first = 0, False, "", True
    for chunk in line.split():
        for i, token in enumerate(chunk_tokens(chunk)):
            stop = all(has(c, u.TERMINAL) for c in token) and (len(token) == 1 or token[0] != ".")
            no_stops = any(has(c, u.NO_STOPS) for c in token)
            if first:
                n = 1
            if previous.endswith(".") and not is_symbol(previous) and token in STARTERS.split():
                n, ended = n + 1, False
            elif stop:
                ended = True
            elif ended and not all(unicodedata.category(c)[0] == "P" for c in token):
                n += not first
                ended = False
            elif not first and i == 0 and no_stops and any(has(c, u.NO_STOPS) for c in previous):
                n += 1
            previous, first = token, False
    return n


POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def ascii_lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def ends_well(line: str) -> bool:
    if not line or line.endswith(("...", "…")):
        return False
    last = line[-1]
    if has(last, u.TERMINAL | u.QUOTE):
        return True
    bare = line
    while len(bare) > 1 and has(bare[-1], u.EXTEND) and not has(bare[-1], u.UNSPACED):
        bare = bare[:-1]
    return has(bare[-1], u.NO_STOPS)


def c4(text: str, *, terminal: bool, words_min: int) -> tuple[str, dict[str, int]]:
    kept, lorem, braces, count = [], 0, 0, 0
    for raw in text.splitlines():
        line = raw.strip()
        if not line or longest_word(line) > 1000:
            continue
        cited = re.sub(r"\[[0-9]*\]|\[edit\]|\[citation needed\]", "", line)
        if terminal and not ends_well(cited):
            continue
        if len(line_words(line)) < words_min:
            continue
        low = ascii_lower(line)
        lorem += "lorem ipsum" in low
        if "javascript" in low:
            continue
        braces += "{" in line
        if any(p in low for p in POLICY):
            continue
        count += sentences(line)
        if cited:
            kept.append(cited)
    return "\n".join(kept), {
        "lorem_ipsum_line_count": lorem,
        "curly_bracket_line_count": braces,
        "sentence_count": count,
    }


class _Editor:
    """Pieces put together; a line feed comes before a piece unless nothing is there yet."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, piece: str, *, new_line: bool) -> None:
        self.text += ("\n" if new_line and self.text else "") + piece


def _longest_at(text: str, p: int, end: int, phrases: tuple[str, ...]) -> int:
    """End of the longest phrase that starts at p and ends by `end`, or p."""
    ends = [p + len(x) for x in phrases if p + len(x) <= end and ascii_lower(text[p : p + len(x)]) == x.lower()]
    return max([p, *ends])


def spoken_words(line: str) -> int:
    """Words that begin with a letter or digit."""
    return sum(map(_spoken, line.split()))


@lru_cache(maxsize=1 << 16)
def _spoken(chunk: str) -> int:
    parts = chunk_tokens(chunk)
    n = sum(any(has(c, u.UNSPACED) for c in t) for t in parts)
    return n + (has(chunk[0], u.ALPHA | u.DIGIT) and not any(has(c, u.UNSPACED) for c in parts[0]))


def is_counter(line: str, words: tuple[str, ...]) -> bool:
    while line and not has(line[0], u.ALPHA | u.DIGIT):
        line = line[1:]
    while line and not has(line[-1], u.ALPHA | u.DIGIT):
        line = line[:-1]
    number = re.match("[0-9.,]*", line)
    assert number
    if not any(c in "0123456789" for c in number[0]):
        return False
    rest = line[number.end() :]
    return ascii_lower((rest[1:] if rest[:1] and rest[0] in "kKmMbB万萬亿" else rest).lstrip(" ")) in words


def refinedweb_lines(text: str, rules: RefinedWebLines) -> tuple[str, float]:
    """The text that is left, and the share of words cut."""
    out, words_all, words_cut = _Editor(), 0, 0
    limit = rules.line_upper_fraction_max
    for line in text.splitlines():
        words, bare, spoken = len(line_words(line)), line.strip(), spoken_words(line)
        words_all += spoken
        if words and (
            (limit is not None and sum(has(c, u.UPPER) for c in bare) > limit * len(bare))
            or (rules.numeric and all(c in "0123456789" for c in bare))
            or is_counter(bare, rules.counter_words)
            or words < (rules.line_word_count_min or 0)
        ):
            words_cut += spoken
            continue
        if not 0 < words <= rules.phrase_line_words_max:
            out.add(line, new_line=True)
            continue
        start = _longest_at(bare, 0, len(bare), rules.at_start)
        stops = [p for p in range(start, len(bare)) if ascii_lower(bare[p:]) in [x.lower() for x in rules.at_end]]
        stop = min([len(bare), *stops])
        body, kept, gone = bare[start:stop], [""], bare[:start] + bare[stop:]
        p = 0
        while p < len(body):
            q = _longest_at(body, p, len(body), rules.anywhere)
            if q > p:
                gone += body[p:q]
                kept.append("")
                p = q
            else:
                kept[-1] += body[p]
                p += 1
        if start == 0:
            kept[0] = line[: len(line) - len(line.lstrip())] + kept[0]
        if stop == len(bare):
            kept[-1] += line[len(line.rstrip()) :]
        if gone:
            words_cut += max(1, spoken * len(gone.encode()) // len(bare.encode()))
            if not "".join(kept[:-1]) and not any(ord(c) > 0x20 for c in kept[-1]):
                continue
        out.add("".join(kept), new_line=True)
    return out.text, words_cut / words_all if words_all else 0.0


def _repeats(sentence: list[str], longest: int, repeats: int, covered: float) -> bool:
    """Whether a phrase of at most `longest` tokens comes `repeats` times in a row and covers enough of the sentence."""
    n = len(sentence)
    for period in range(1, min(longest, n // repeats) + 1):
        run: list[str] = []
        for before, token in zip([*sentence, ""], [*sentence[period:], None], strict=False):
            if token == before:
                run.append(token)
                continue
            length = len(run) + period
            if length >= repeats * period and length >= covered * n and not all(symbol_only(t) for t in run):
                return True
            run = []
    return False


def symbol_only(token: str) -> bool:
    return all(has(c, u.SYMBOL) for c in token)


def line_sentences(line: str) -> list[list[tuple[int, str]]]:
    """Sentences of a line, each a list of (position, token)."""
    out: list[list[tuple[int, str]]] = []
    ended = False
    for chunk in re.finditer(r"\S+", line):
        at = chunk.start()
        for i, token in enumerate(chunk_tokens(chunk[0])):
            stop = symbol_only(token) and all(has(c, u.TERMINAL) for c in token)
            stop = stop and (len(token) == 1 or token[0] != ".")
            punctuation = symbol_only(token) and all(has(c, u.PUNCT) for c in token)
            clause = bool(out) and i == 0 and all(any(has(c, u.NO_STOPS) for c in t) for t in (token, out[-1][-1][1]))
            if not out or clause or (ended and not punctuation and not stop):
                out.append([])
                ended = False
            ended = ended or stop
            out[-1].append((at, token))
            at += len(token)
    return out


def repeated_phrases(text: str, longest: int, repeats: int, covered: float) -> tuple[str, int]:
    """The text that is left, and how many sentences were cut."""
    out, cut = "", 0
    for raw in text.splitlines(keepends=True):
        sentences = line_sentences(raw)
        bad = [_repeats([t for _, t in sentence], longest, repeats, covered) for sentence in sentences]
        cut += sum(bad)
        if sentences and all(bad):
            continue  # the line's end goes with it
        starts = [sentence[0][0] for sentence in sentences]
        end = len(raw.rstrip())
        out += raw[: starts[0]] if starts else raw
        for start, stop, gone in zip(starts, [*starts, end][1:], bad, strict=True):
            out += "" if gone else raw[start:stop]
        out += raw[end:] if starts else ""
    return out, cut
