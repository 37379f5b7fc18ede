"""Names of accounts and numbers of documents that have letters in them or go by a word: WeChat, QQ, Chinese number
plates, passports, the social credit code of companies, identity numbers of Hong Kong, Taiwan and Korea.

A code with a check digit stands on its own; what has none is told by the word before it.
"""

import numpy as np

from raypt.curation.pii.buffers import (
    Words,
    collect,
    is_digit,
    is_letter,
    make_words,
    put,
    words_before,
)
from raypt.curation.pii.checks import credit_code, hk_id, kr_id, tw_id
from raypt.curation.pii.places import IDENTITY, Text, next_place
from raypt.kernels import kernel

_PASSPORT, _PLATE, _ID, _KOREAN = 1, 2, 4, 8
_NEAR = np.int64(40)
_LONGEST = 24
"""Characters of the longest run of capitals and digits that is looked at."""
_WORDS = make_words(
    [
        (_PASSPORT, "passport passports 护照 護照 passeport reisepass pasaporte паспорт パスポート旅券 여권"),
        (_PLATE, "车牌 車牌 号牌 车号 牌照 plate"),
        (_ID, "身份证 身份證 身分證 证件号 證件號 hkid identity_card id_card identity_number id_number"),
        (_KOREAN, "주민등록번호 주민번호"),
    ]
)
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_AMBIGUOUS = "新云青宁川贵吉桂蒙藏"
"""Provinces whose sign often stands before a letter without being one."""
_SUFFIXES = "学警港澳挂使领"
_CITIES = "东東北南"
"""Characters that make a city of 京."""


def _codes(characters: str) -> np.ndarray:
    """int64, ascending: three UTF-8 bytes each as a number."""
    return np.array(sorted(int.from_bytes(c.encode(), "big") for c in characters), np.int64)


_PROVINCE_CODES, _AMBIGUOUS_CODES, _SUFFIX_CODES = _codes(_PROVINCES), _codes(_AMBIGUOUS), _codes(_SUFFIXES)
_CITY_CODES = _codes(_CITIES)


@kernel
def _three(data, i, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The three bytes at i as a number, or 0."""
    if i < low or i + 3 > high:
        return np.int64(0)
    return np.int64(data[i]) << 16 | np.int64(data[i + 1]) << 8 | np.int64(data[i + 2])


@kernel
def _among(code, codes):  # type: ignore[no-untyped-def]  # pragma: no cover
    found = False
    for known in codes:
        found |= code == known
    return found


@kernel
def _capital(b):  # type: ignore[no-untyped-def]  # pragma: no cover
    return 0x41 <= b <= 0x5A


@kernel
def _apart(data, low, high, a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether the run [a, b) is a word of its own, not a part of an identifier, a path or a sum."""
    if a > low:
        c = data[a - 1]
        if is_letter(c) or is_digit(c) or c == 0x5F or c == 0x2D or c == 0x2E or c == 0x2F or c == 0x40 or c == 0x23:
            return False
        if c == 0x3D or c == 0x25 or c == 0x26 or c == 0x2B or c == 0x5C or c == 0x24:
            return False
    if b < high:
        c = data[b]
        if is_letter(c) or is_digit(c) or c == 0x5F or c == 0x40 or c == 0x2F or c == 0x5C or c == 0x3D:
            return False
        if (c == 0x2D or c == 0x2E) and b + 1 < high and (is_letter(data[b + 1]) or is_digit(data[b + 1])):
            return False
    return True


@kernel
def _plate_start(data, a, b, low, high, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    """First byte of the number plate that ends with the run [a, b), or -1."""
    letter, rest, parted = a, a + 1, False
    if not (_capital(data[a]) and _among(_three(data, a - 3, low, high), _PROVINCE_CODES)):
        k = a  # 京A·12345
        if a - 2 >= low and data[a - 2] == 0xC2 and data[a - 1] == 0xB7:
            k = a - 2
        elif a - 3 >= low and data[a - 3] == 0xE2 and data[a - 2] == 0x80 and data[a - 1] == 0xA2:
            k = a - 3
        elif a - 1 >= low and (data[a - 1] == 0x20 or data[a - 1] == 0x2E or data[a - 1] == 0x2D):
            k = a - 1
        if k == a or k - 1 < low or not _capital(data[k - 1]):
            return -1
        letter, rest, parted = k - 1, a, data[k] >= 0x80
    start = letter - 3
    province = _three(data, start, low, high)
    if data[letter] == 0x49 or not _among(province, _PROVINCE_CODES):
        return -1
    digits = 0
    for k in range(rest, b):
        if data[k] == 0x49 or data[k] == 0x4F:
            return -1
        digits += is_digit(data[k])
    size = b - rest
    if size == 6:  # new energy: one letter more, in front or at the end
        if digits < 4 or is_digit(data[rest]) == is_digit(data[b - 1]):
            return -1
    elif size == 4:
        if digits < 3 or not _among(_three(data, b, low, high), _SUFFIX_CODES):
            return -1
    elif size != 5 or digits < 2:
        return -1
    unsure = _among(province, _AMBIGUOUS_CODES) or _among(_three(data, start - 3, low, high), _CITY_CODES)
    if unsure and not parted and not words_before(data, low, start, _NEAR, words) & 2:
        return -1
    return start


@kernel
def _shape(data, a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(capitals in front, digits after them)` of the run, (0, 0) if it is anything else."""
    letters = 0
    while a + letters < b and _capital(data[a + letters]):
        letters += 1
    for k in range(a + letters, b):
        if not is_digit(data[k]):
            return 0, 0
    return letters, b - a - letters


@kernel
def _document(data, a, b, low, high, codes, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(first byte, byte after, code)` of what the run of capitals and digits [a, b) is; code -1: nothing."""
    plate, passport, company, hong_kong, taiwan, korea = codes
    size = b - a
    if plate >= 0 and 4 <= size <= 7 and (b >= high or not (is_letter(data[b]) or data[b] == 0x5F)):
        start = _plate_start(data, a, b, low, high, words)
        if start >= 0:
            return start, b + 3 if _among(_three(data, b, low, high), _SUFFIX_CODES) else b, plate
    if size < 6 or size > 18:
        return a, b, -1
    letters, digits = _shape(data, a, b)
    if korea >= 0 and letters == 0 and (size == 6 or size == 13):
        end = b
        if size == 6 and b + 8 <= high and data[b] == 0x2D:
            end = b + 8
            for k in range(b + 1, end):
                if not is_digit(data[k]):
                    end = b
                    break
        if (end > b or size == 13) and _apart(data, low, high, a, end):
            said = words_before(data, low, a, _NEAR, words) & 8 != 0
            if kr_id(data, a, b + 1 if end > b else a + 6, said) and (end > b or said):
                return a, end, korea
    if hong_kong >= 0 and 1 <= letters <= 2 and digits == 6 and b + 3 <= high and data[b] == 0x28:
        checked = data[b + 2] == 0x29 and hk_id(data, a, letters, data[b + 1])
        if checked and _apart(data, low, high, a, b):
            return a, b + 3, hong_kong
    if not _apart(data, low, high, a, b):
        return a, b, -1
    if company >= 0 and size == 18 and credit_code(data, a):
        return a, b, company
    if taiwan >= 0 and letters == 1 and digits == 9 and tw_id(data, a):
        return a, b, taiwan
    if hong_kong >= 0 and 8 <= size <= 9:
        before = size - 7
        good = _capital(data[a]) and _capital(data[a + before - 1]) and hk_id(data, a, before, data[b - 1])
        for k in range(a + before, b - 1):
            good &= is_digit(data[k])
        if good and words_before(data, low, a, _NEAR, words) & 4:
            return a, b, hong_kong
    named = (1 <= letters <= 2 and 6 <= digits <= 8) or (letters == 0 and digits == 9)
    if passport >= 0 and named and size <= 9 and words_before(data, low, a, _NEAR, words) & 1:
        return a, b, passport
    return a, b, -1


@kernel
def _blanks(data, j, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after at most three blanks or colons (of either width) at j, and whether there was a colon."""
    colon = False
    for _ in range(3):
        if j < high and (data[j] == 0x20 or data[j] == 0x3A):
            colon |= data[j] == 0x3A
            j += 1
        elif _three(data, j, 0, high) == 0xEFBC9A:
            colon = True
            j += 3
    return j, colon


@kernel
def _numbered(data, j, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after "号", "號", "号码" or "ID" at j, or j: what says that a name follows."""
    three = _three(data, j, 0, high)
    if three == 0xE58FB7 or three == 0xE8999F:
        j += 3
        three = _three(data, j, 0, high)
        return j + 3 if three == 0xE7A081 or three == 0xE7A2BC else j
    if j + 1 < high and data[j] | 0x20 == 0x69 and data[j + 1] | 0x20 == 0x64:
        return j + 2 if j + 2 >= high or not is_letter(data[j + 2]) else j
    return j


@kernel
def _spelled(data, i, low, high, word):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether the ASCII word (small letters) stands at i as a word, in any case."""
    n = len(word)
    if i + n > high or (i > low and (is_letter(data[i - 1]) or is_digit(data[i - 1]) or data[i - 1] == 0x5F)):
        return False
    for k in range(n):
        if data[i + k] | 0x20 != word[k]:
            return False
    return i + n == high or not (is_letter(data[i + n]) or data[i + n] == 0x5F)


@kernel
def _wechat(data, j, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(first byte, byte after)` of the WeChat name after the word that ends at j; the same if there is none: a letter,
    then 5 to 19 letters, digits, '_' and '-'."""
    blank, before = _blanks(data, j, high)
    k = _numbered(data, blank, high)
    numbered = k > blank
    start, colon = _blanks(data, k, high)
    end, plain = start, True
    if start >= high or not is_letter(data[start]):
        return j, j
    while end < high and end - start < 22:
        b = data[end]
        if not (is_letter(b) or is_digit(b) or b == 0x5F or b == 0x2D):
            break
        plain &= is_letter(b)
        end += 1
    while end > start and data[end - 1] == 0x2D:
        end -= 1
    if not 6 <= end - start <= 20 or (plain and not (numbered and (colon or before))):
        return j, j
    if end + 1 < high and (data[end] == 0x40 or data[end] == 0x2F or (data[end] == 0x2E and is_letter(data[end + 1]))):
        return j, j
    return start, end


@kernel
def _qq(data, j, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(first byte, byte after)` of the QQ number after the word that ends at j; the same if there is none: 5 to 11
    digits, 8 or more where nothing but the word says what they are."""
    if _three(data, j, 0, high) == 0xE7BEA4:  # 群, a group
        j += 3
    blank, before = _blanks(data, j, high)
    k = _numbered(data, blank, high)
    start, colon = _blanks(data, k, high)
    end = start
    while end < high and is_digit(data[end]) and end - start < 12:
        end += 1
    least = 5 if colon or before or k > blank else 8
    if not least <= end - start <= 11 or data[start] == 0x30:
        return j, j
    if end < high and (is_letter(data[end]) or data[end] == 0x5F or data[end] == 0x40 or data[end] == 0x2E):
        return j, j
    return start, end


_WECHAT = tuple(np.frombuffer(word, np.uint8) for word in (b"wechat", b"weixin", b"vx"))
_QQ = np.frombuffer(b"qq", np.uint8)


@kernel
def _account(data, i, low, high, wechat, qq, names, qq_name):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(first byte, byte after, code)` of the name of an account that is announced at i; code -1: nothing."""
    b = data[i]
    j = i
    if b == 0xE5:
        if _three(data, i, low, high) == 0xE5BEAE and _three(data, i + 3, low, high) == 0xE4BFA1:
            j = i + 6
    elif b | 0x20 == 0x77 or b | 0x20 == 0x76:
        if b | 0x20 == 0x76 and _three(data, i + 1, low, high) == 0xE4BFA1:
            j = i + 4
        elif b | 0x20 == 0x76:
            if _spelled(data, i, low, high, names[2]):
                j = i + 2
        elif _spelled(data, i, low, high, names[0]) or _spelled(data, i, low, high, names[1]):
            j = i + 6
    elif qq >= 0 and _spelled(data, i, low, high, qq_name):
        start, end = _qq(data, i + 2, high)
        return start, end, qq if end > start else np.int64(-1)
    if j > i and wechat >= 0:
        start, end = _wechat(data, j, high)
        return start, end, wechat if end > start else np.int64(-1)
    return i, i, np.int64(-1)


@kernel
def _scan(text, spans, wechat, qq, codes, words, names, qq_name):  # type: ignore[no-untyped-def]  # pragma: no cover
    data, offsets, starts = text.data, text.offsets, text.places[IDENTITY]
    n = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i = low
        while i < high:
            i = next_place(starts, i, high)
            if i >= high:
                break
            if is_digit(data[i]):
                a, b = i, i
                while a > low and i - a < _LONGEST and (_capital(data[a - 1]) or is_digit(data[a - 1])):
                    a -= 1
                while b < high and (_capital(data[b]) or is_digit(data[b])):
                    b += 1
                start, end, code = a, b, np.int64(-1)
                if b - a <= _LONGEST:
                    start, end, code = _document(data, a, b, low, high, codes, words)
                i = max(b, end) if code >= 0 else b
            else:
                start, end, code = _account(data, i, low, high, wechat, qq, names, qq_name)
                i = end if code >= 0 else i + 1
            if code >= 0:
                n = put(spans, n, start, end, code)
    return n


DOCUMENTS = ("cn_plate", "passport", "cn_uscc", "hk_id", "tw_id", "kr_rrn")


def scan_identities(text: Text, codes: dict[str, int], words: Words = _WORDS) -> np.ndarray:
    """int64[n, 3]: spans of the kinds in `codes` (wechat, qq, and `DOCUMENTS`)."""
    wechat, qq = codes.get("wechat", -1), codes.get("qq", -1)
    wanted = tuple(codes.get(kind, -1) for kind in DOCUMENTS)
    return collect(_scan, text, wechat, qq, wanted, words, _WECHAT, _QQ)
