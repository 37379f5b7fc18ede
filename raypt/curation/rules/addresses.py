"""Addresses known by their top-level domain, and IPv4 addresses, taken out of a batch in two passes over its bytes.

The definition is DCLM's (Li et al. 2024, arXiv:2406.11794; `url_removal_modifier` of mlfoundations/dclm,
baselines/mappers/modifiers.py). An address is an optional `http://`, `https://` or `ftp://`; up to 256 of the ASCII
letters, digits and `-@:%._+~#=`; a full stop; a top-level domain in small letters after which a word ends; and all of
the ASCII letters, digits and `-()@:%_+.~#?&/=` that follow. What is left is searched for IPv4 addresses of that form.
Up to ten characters of white space before an address go with it. So `end.in` and `README.md` are addresses, too.

Beyond it, for text without spaces: where an address shows that it is one (a scheme, or `www.`), Chinese text may begin
right after its domain or stand right before its scheme; without, `main.py文件` stays, as there. A number is no name
before a domain of Chinese or Japanese characters (`1.手机` is an item of a list).

Not as there: its check whether a text has any top-level domain is `re.match`, so that its code leaves names in the
texts that do not begin with the letters of one. That is taken for a slip.

`assets/tlds.txt` has the domains: IANA's root zone with withdrawn and test ones, as DCLM's `iana_tlds.txt`.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from raypt.kernels import kernel
from raypt.text.buffers import TextBatch
from raypt.text.hashing import FNV_BASIS, FNV_PRIME
from raypt.text.unicode import IDEOGRAPH, LETTER, WHITE, classify, word_classes
from raypt.text.utf8 import character, character_start

_TLDS = Path(__file__).parents[1] / "assets" / "tlds.txt"
_NAME, _REST, _DIGIT = 1, 2, 4
_SCHEMES = (b"https://", b"http://", b"ftp://")
MOST_BEFORE = 10
"""Characters of white space that go with the address after them."""
MOST_NAME = 256
"""Characters between the start of an address, or its scheme, and the full stop before its top-level domain."""


@functools.cache
def _classes() -> np.ndarray:
    """uint8[256]: which bytes a name may have, which what follows the domain, which are digits."""
    table = np.zeros(256, np.uint8)
    for b in range(0x80):
        c = chr(b)
        table[b] |= _NAME * (c.isalnum() or c in "-@:%._+~#=")
        table[b] |= _REST * (c.isalnum() or c in "-()@:%_+.~#?&/=")
        table[b] |= _DIGIT * c.isdigit()
    table.flags.writeable = False
    return table


def _fnv(name: bytes) -> int:
    h = int(FNV_BASIS)
    for b in name:
        h = (h ^ b) * int(FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return h


@functools.cache
def domains() -> tuple[np.ndarray, int]:
    """(uint64[slots], bytes of the longest): FNV-1a hashes of the top-level domains, in an open-addressing table with a
    power of two of slots, 0 where there is none."""
    names = [name.encode() for name in _TLDS.read_text("utf-8").split()]
    size = 1 << (4 * len(names)).bit_length()
    table = np.zeros(size, np.uint64)
    for name in names:
        h = _fnv(name)
        slot = h >> 20 & (size - 1)
        while table[slot]:
            slot = (slot + 1) & (size - 1)
        table[slot] = h
    table.flags.writeable = False
    return table, max(map(len, names))


@kernel
def _is_domain(h: Any, table: Any) -> bool:
    mask = np.uint64(len(table) - 1)
    slot = h >> np.uint64(20) & mask
    while table[slot] != 0:
        if table[slot] == h:
            return True
        slot = (slot + np.uint64(1)) & mask
    return False


@kernel
def _kind(data: Any, i: Any, classes: Any) -> int:
    code, _ = character(data, i)
    return classify(classes, code)


@kernel
def _domain_end(data: Any, i: Any, high: Any, longest: Any, table: Any, classes: Any, shown: Any) -> Any:
    """Byte after the longest top-level domain that begins at i and ends where a word does; i if there is none.

    `shown`: Chinese text may begin at the end."""
    end = i
    h = FNV_BASIS
    j = i
    bound = min(high, i + longest)
    while j < bound:
        first = data[j]
        if first < 0x80 and not 0x61 <= first <= 0x7A:
            break
        width = 1 if first < 0x80 else (2 if first < 0xE0 else (3 if first < 0xF0 else 4))
        last = j
        for _ in range(width):
            h = (h ^ np.uint64(data[j])) * FNV_PRIME
            j += 1
        # An ASCII domain goes on while small letters do.
        if j < high and first < 0x80 and 0x61 <= data[j] <= 0x7A:
            continue
        if _is_domain(h, table):
            before = _kind(data, last, classes)
            after = _kind(data, j, classes) if j < high else WHITE
            inside = before in (LETTER, IDEOGRAPH)
            goes_on = after in (LETTER, IDEOGRAPH) or (j < high and data[j] == 0x5F)
            if inside != goes_on or (shown and after == IDEOGRAPH):
                end = j
    return end


@kernel
def _scheme_start(data: Any, low: Any, i: Any, schemes: Any) -> Any:
    """First byte of the scheme that ends before i; i if there is none after `low`."""
    for k in range(len(schemes)):
        n = np.int64(schemes[k, 0])
        if i - n >= low:
            same = True
            for m in range(n):
                same = same and data[i - n + m] == schemes[k, m + 1]
            if same:
                return i - n
    return i


@kernel
def _before_space(data: Any, low: Any, i: Any, most: Any, classes: Any) -> Any:
    """i less at most `most` characters of white space before it."""
    for _ in range(most):
        if i <= low:
            break
        j = character_start(data, i - 1, low)
        if _kind(data, j, classes) != WHITE:
            break
        i = j
    return i


@kernel
def _has_letter(data: Any, start: Any, end: Any) -> bool:
    found = False
    for i in range(start, end):
        found |= 0x61 <= data[i] | 0x20 <= 0x7A
    return found


@kernel
def _find_named(
    data: Any, low: Any, i: Any, high: Any, kinds: Any, table: Any, longest: Any, schemes: Any, classes: Any, most: Any,
    most_name: Any, found: Any,
) -> bool:  # fmt: skip
    """Into found[2] the first address of data[i:high]; False if there is none. `low`: where the one before ended."""
    while i < high:
        if not kinds[data[i]] & _NAME:
            i += 1
            continue
        run = i  # [run, ...) are the characters of a name
        start, end, scheme = -1, -1, run
        while i < high and kinds[data[i]] & _NAME:
            if (
                data[i] == 0x2E
                and i > run
                and i + 1 < high
                and (data[i + 1] >= 0x80 or 0x61 <= data[i + 1] <= 0x7A)
                and (end < 0 or i - start <= most_name)
            ):
                wide = data[i + 1] >= 0x80
                scheme = _scheme_start(data, low, run, schemes) if end < 0 else scheme
                shown = scheme < run or (
                    i - run > 3 and data[run] == 0x77 and data[run + 1] == 0x77 and data[run + 2] == 0x77
                    and data[run + 3] == 0x2E
                )  # fmt: skip
                stop = _domain_end(data, i + 1, high, longest, table, classes, shown)
                name = max(run, i - most_name) if end < 0 else start
                if stop > i + 1 and wide and not shown:
                    unspaced = _kind(data, i + 1, classes) == IDEOGRAPH
                    stop = i + 1 if unspaced and not _has_letter(data, name, i) else stop
                if stop > i + 1:
                    start, end = name, stop
            i += 1
        if end >= 0:
            while end < high and kinds[data[end]] & _REST:
                end += 1
            if start == run:
                start = scheme
                found[0] = _before_space(data, low, start, most, classes)
            else:
                found[0] = start
            found[1] = end
            return True
    return False


@kernel
def _numeric_end(data: Any, i: Any, high: Any, kinds: Any) -> Any:
    """Byte after the first digit of the fourth number of an IPv4 address that begins at i; i if there is none."""
    j = i
    for _ in range(3):
        n = 0
        while j + n < high and n < 4 and kinds[data[j + n]] & _DIGIT:
            n += 1
        if n == 0 or n > 3 or (n == 3 and data[j] > 0x32) or j + n >= high or data[j + n] != 0x2E:
            return i
        j += n + 1
    return j + 1 if j < high and kinds[data[j]] & _DIGIT else i


@kernel
def _find_numeric(
    data: Any, low: Any, i: Any, high: Any, kinds: Any, schemes: Any, classes: Any, most: Any, doc: Any, found: Any
) -> bool:
    """Into found[2] the first IPv4 address of data[i:high]; False: there is none. `doc`: the document's start."""
    while i < high:
        if not kinds[data[i]] & _DIGIT:
            i += 1
            continue
        end = _numeric_end(data, i, high, kinds)
        if end > i:
            start = _scheme_start(data, low, i, schemes)
            before = _kind(data, character_start(data, start - 1, doc), classes) if start > doc else WHITE
            joined = before == LETTER or (start > doc and data[start - 1] == 0x5F)
            if start < i and joined:
                start, joined = i, False
            if not (joined or (start == i and before == IDEOGRAPH)):
                while end < high and kinds[data[end]] & _REST:
                    end += 1
                found[0], found[1] = _before_space(data, low, start, most, classes), end
                return True
        while i < high and kinds[data[i]] & _DIGIT:
            i += 1
    return False


@kernel
def _remove(
    data: Any, offsets: Any, numeric: Any, kinds: Any, table: Any, longest: Any, schemes: Any, classes: Any, most: Any,
    most_name: Any, found: Any, out: Any, bounds: Any, counts: Any,
) -> None:  # fmt: skip
    n = 0
    for d in range(len(offsets) - 1):
        at, high = offsets[d], offsets[d + 1]
        while True:
            if numeric:
                some = _find_numeric(data, at, at, high, kinds, schemes, classes, most, offsets[d], found)
            else:
                some = _find_named(
                    data, at, at, high, kinds, table, longest, schemes, classes, most, most_name, found
                )  # fmt: skip
            stop = found[0] if some else high
            for i in range(at, stop):
                out[n] = data[i]
                n += 1
            if not some:
                break
            at = found[1]
            counts[d] += 1
        bounds[d + 1] = n


def remove_addresses(text: TextBatch) -> tuple[TextBatch, np.ndarray]:
    """(text without addresses, int64[n] how many each document had)."""
    schemes = np.zeros((len(_SCHEMES), 9), np.uint8)
    for row, scheme in zip(schemes, _SCHEMES, strict=True):
        row[0], row[1 : len(scheme) + 1] = len(scheme), list(scheme)
    table, longest = domains()
    counts = np.zeros(len(text), np.int64)
    for numeric in (False, True):
        out, bounds = np.empty(text.nbytes, np.uint8), np.zeros(len(text) + 1, np.int64)
        _remove(
            text.data, text.offsets, numeric, _classes(), table, longest, schemes, word_classes(), MOST_BEFORE,
            MOST_NAME, np.zeros(2, np.int64), out, bounds, counts,
        )  # fmt: skip
        text = TextBatch(out[: bounds[-1]], bounds)
    return text, counts
