"""Telephone numbers: which groups of a number run are one.

Strong forms stand on their own: a '+' or 00 with an assigned country calling code, and national forms whose grouping
gives them away (North America, Russia, Brazil, France, China, Japan, Korea, trunk prefix 0 elsewhere). Any other run of
7 to 15 digits is a telephone number only after a word that announces one, in many languages (`Tel.`, `звоните`,
`电话`).
"""

import numpy as np

from raypt.curation.pii.buffers import is_digit, is_letter
from raypt.curation.pii.checks import calling_code_table
from raypt.curation.pii.runs import CLOSE, DASH, DOT, END, OPEN, PAREN, PLUS, SEP, SLASH, SPACE, START, WIDE
from raypt.kernels import kernel

_CALLING_CODES = calling_code_table()
_LOOSER = 1 << SLASH | 1 << WIDE | 1 << OPEN
_LOOSE = _LOOSER | 1 << SPACE
_PLAIN = 1 << SPACE | 1 << DASH | 1 << DOT
"""Sets of separators, one bit each."""

WORDS = (
    "tel telephone telephones telefon telefone telefono teléfono téléphone tél telefoon telefonnummer "
    "telefonnr telefoonnummer phone phones mobile mobil móvil celular cell cellphone cellulare portable "
    "handy gsm fax faks telefax call calls dial hotline helpline whatsapp sms appelez appeler llame "
    "llamar llámenos ligue ligar chiama chiamare chiamate anrufen anruf rufen durchwahl rufnummer bellen "
    "puhelin puhelinnumero telefonszám číslo điện_thoại telepon nomor_telepon numara telefonu ara arayın "
    "тел телефон телефона телефону телефоны моб мобильный звоните звонить звони позвоните факс τηλ "
    "τηλέφωνο κινητό هاتف الهاتف جوال اتصل تلفن טלפון נייד फ़ोन फोन मोबाइल โทร โทรศัพท์ 电话 電話 手机 手機 座机 致电 "
    "拨打 传真 傳真 热线 熱線 联系方式 携帯 ファックス 전화 휴대폰 팩스"
)
"""Words that announce a telephone number."""


@kernel
def _digit(data, i):  # type: ignore[no-untyped-def]  # pragma: no cover
    return np.int64(data[i]) - 0x30


@kernel
def _century(data, run, k):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The first two digits of group k as a number."""
    return _digit(data, run[k, START]) * 10 + _digit(data, run[k, START] + 1)


@kernel
def _ends(run, n, h, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether a number may end before group h: at the end of the run, or at a separator looser than a dash or stop."""
    if h == n:
        return right
    return bool(_LOOSE >> run[h, SEP] & 1)


@kernel
def _alone(run, n, g, h, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether groups [g, h) have no blank-separated neighbours: needed where only blanks hold them together."""
    if g > 0 and not _LOOSER >> run[g, SEP] & 1:
        return False
    if h == n:
        return right
    return bool(_LOOSER >> run[h, SEP] & 1)


@kernel
def _international(data, run, n, g, right, skip):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Groups after a '+' (skip 0) or 00 (skip 2): the group after the number, or g."""
    code, have, k, i, left = 0, 0, g, run[g, START], skip
    while have < 3 and k < n:
        if i == run[k, END]:
            k += 1
            if k < n:
                i = run[k, START]
            continue
        if left:
            left -= 1
        else:
            code = code * 10 + _digit(data, i)
            have += 1
        i += 1
    if have < 3:
        return g
    code_digits = np.int64(_CALLING_CODES[code, 0])
    if code_digits == 0:
        return g
    low, high = np.int64(_CALLING_CODES[code, 1]), np.int64(_CALLING_CODES[code, 2])
    total, best = -skip - code_digits, g
    zeros = 0
    for h in range(g, min(n, g + 8)):
        length = run[h, END] - run[h, START]
        if h > g and (run[h, SEP] == WIDE or run[h, PLUS]):
            break
        trunk = run[h, PAREN] and length == 1 and run[h, START] != run[g, START] and data[run[h, START]] == 0x30
        if not trunk:
            total += length
        if total > high:
            break
        for i in range(run[h, START], run[h, END]):
            zeros = zeros + 1 if data[i] == 0x30 else 0
        if total >= low and (h + 1 < n or right):
            best = h + 1
    fours, blanks = skip > 0, False
    for k in range(g, best):
        fours &= run[k, END] - run[k, START] == 4
        blanks |= k > g and run[k, SEP] == SPACE
    if zeros >= 6 or fours:  # +20 000 000 is an amount, 0024 0000 6704 a dump
        return g
    if skip and blanks and not _alone(run, n, g, best, right):
        return g
    if best > g and code_digits == 1 and code >= 100 and code < 200 and code % 100 < 20:
        return g  # North American area codes begin with 2-9
    return best


@kernel
def _north_american(data, run, n, g, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    k = g
    if run[k, END] - run[k, START] == 1 and data[run[k, START]] == 0x31 and k + 1 < n:
        k += 1
    if k + 3 > n:
        return g
    for m in range(3):
        if run[k + m, END] - run[k + m, START] != (4 if m == 2 else 3):
            return g
    area, exchange = data[run[k, START]], data[run[k + 1, START]]
    free = (area == 0x34 or area == 0x38) and data[run[k, START] + 1] == 0x30 and data[run[k, START] + 2] == 0x30
    if area < 0x32 or (exchange < 0x32 and not free):
        return g
    a, b = run[k + 1, SEP], run[k + 2, SEP]
    if not _ends(run, n, k + 3, right):
        return g
    if a == CLOSE and _PLAIN >> b & 1:
        return k + 3
    if (a == DASH and b == DASH) or (a == DOT and b == DOT) or (a == SPACE and b == DASH):
        return k + 3
    if k > g and a == SPACE and b == SPACE and _alone(run, n, g, k + 3, right):
        return k + 3  # three columns of figures look like this, but not after a 1
    return g


@kernel
def _chinese_mobile(data, run, n, g, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    k = g
    if (
        run[k, END] - run[k, START] == 2
        and data[run[k, START]] == 0x38
        and data[run[k, START] + 1] == 0x36
        and k + 1 < n
    ):
        k += 1
    first = run[k, START]
    length = run[k, END] - first
    if length < 3 or data[first] != 0x31 or not 0x33 <= data[first + 1] <= 0x39:
        return g
    if length == 11 and _ends(run, n, k + 1, right):
        return g if first > 0 and data[first - 1] == 0x3D else k + 1  # the value of a setting
    if length != 3 or k + 3 > n or run[k + 1, END] - run[k + 1, START] != 4 or run[k + 2, END] - run[k + 2, START] != 4:
        return g
    a, b = run[k + 1, SEP], run[k + 2, SEP]
    if a == DASH and b == DASH and _ends(run, n, k + 3, right):
        return k + 3
    if a == SPACE and b == SPACE and _alone(run, n, g, k + 3, right):
        return k + 3
    return g


@kernel
def _steps(data, run, g, h):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether the two-digit groups [g, h) go up by a constant step: 01 02 03 04 05 is a list."""
    step = 0
    for k in range(g + 1, h):
        d = _century(data, run, k) - _century(data, run, k - 1)
        if k > g + 1 and d != step:
            return False
        step = d
    return True


@kernel
def _trunk_zero(data, run, n, g, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """National forms that begin with the trunk prefix 0 and are grouped."""
    first = run[g, START]
    length = run[g, END] - first
    if length < 2 or data[first] != 0x30 or g + 1 >= n or data[first + 1] == 0x30:
        return g
    sep = run[g + 1, SEP]
    total, h = length, g + 1
    pairs = length == 2
    shortest, longest = 99, 0
    while h < n and h < g + 5 and run[h, SEP] != WIDE and run[h, SEP] != OPEN:
        here = run[h, SEP]
        mixed = (sep != DASH and here == DASH) or (sep != SPACE and here == SPACE)
        if h > g + 1 and here != sep and not (mixed and (1 << CLOSE | 1 << SLASH | 1 << SPACE) >> sep & 1):
            break
        size = run[h, END] - run[h, START]
        if total + size > 12:
            break
        total += size
        pairs &= size == 2
        shortest, longest = min(shortest, size), max(longest, size)
        h += 1
    groups = h - g
    if groups < 2 or not _ends(run, n, h, right):
        return g
    last = run[h - 1, END] - run[h - 1, START]
    if pairs:
        ok = groups == 5 and sep != SLASH and not _steps(data, run, g, h)
        return h if ok and (sep != SPACE or _alone(run, n, g, h, right)) else g
    if sep == CLOSE:
        return h if run[g, PAREN] and length <= 6 and 8 <= total <= 12 and shortest >= 2 else g
    if sep == SLASH:
        return (
            h
            if 3 <= length <= 6 and 8 <= total <= 12 and shortest >= 2 and run[g + 1, END] - run[g + 1, START] > 2
            else g
        )
    if sep == DASH:
        if groups == 2:
            return h if 2 <= length <= 5 and 6 <= last <= 8 and 9 <= total <= 12 else g
        return h if groups == 3 and 2 <= length <= 5 and 3 <= last <= 4 and 9 <= total <= 11 else g
    if sep == DOT:
        return h if groups == 3 and 3 <= length <= 5 and 9 <= total <= 11 and shortest >= 3 else g
    if sep == SPACE and _alone(run, n, g, h, right) and 9 <= total <= 11 and shortest >= 2:
        if groups == 2:
            return h if 3 <= length <= 6 and 4 <= last <= 8 else g
        return h if length <= 5 and longest <= 4 else g
    return g


@kernel
def _other_national(data, run, n, g, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Russia (8 ddd ddd-dd-dd), Brazil (dd dddd-dddd, dd ddddd-dddd), Spain (ddd dd dd dd)."""
    first = run[g, START]
    length = run[g, END] - first
    lead = data[first]
    if length == 1 and lead == 0x38 and g + 4 <= n:
        a, b = run[g + 1, END] - run[g + 1, START], run[g + 2, END] - run[g + 2, START]
        c = run[g + 3, END] - run[g + 3, START]
        h = 0
        if a == 3 and b == 3 and c == 4:
            h = g + 4
        elif a == 3 and b == 3 and c == 2 and g + 5 <= n and run[g + 4, END] - run[g + 4, START] == 2:
            h = g + 5
        if h and _ends(run, n, h, right):
            blanks = True
            for k in range(g + 1, h):
                if run[k, SEP] == DOT or run[k, SEP] == SLASH or run[k, SEP] == WIDE:
                    return g
                blanks &= run[k, SEP] == SPACE
            if not blanks or _alone(run, n, g, h, right):
                return h
    if length == 2 and lead >= 0x31 and g + 3 <= n and run[g + 2, SEP] == DASH:
        a, b = run[g + 1, END] - run[g + 1, START], run[g + 2, END] - run[g + 2, START]
        sep = run[g + 1, SEP]
        if (a == 4 or a == 5) and b == 4 and (1 << SPACE | 1 << CLOSE) >> sep & 1 and _ends(run, n, g + 3, right):
            first_year, last_year = _century(data, run, g + 1), _century(data, run, g + 2)
            if not (a == 4 and 10 <= first_year <= last_year <= 20):  # "May 12 2010-2020"
                return g + 3
    if length == 3 and 0x36 <= lead <= 0x39 and g + 4 <= n and _alone(run, n, g, g + 4, right):
        ok = True
        for k in range(g + 1, g + 4):
            ok &= run[k, SEP] == SPACE and run[k, END] - run[k, START] == 2
        if ok:
            return g + 4
    return g


@kernel
def phone_strong(data, run, n, g, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The group after the telephone number that begins at group g and needs no announcement, or g."""
    first = run[g, START]
    plus = run[g, PLUS] > 0
    if plus or (run[g, END] - first >= 2 and data[first] == 0x30 and data[first + 1] == 0x30):
        h = _international(data, run, n, g, right, np.int64(0 if plus else 2))
        if plus or h > g + 1:
            return h
    h = _north_american(data, run, n, g, right)
    if h == g:
        h = _chinese_mobile(data, run, n, g, right)
    if h == g:
        h = _trunk_zero(data, run, n, g, right)
    if h == g:
        h = _other_national(data, run, n, g, right)
    return h


@kernel
def phone_announced(data, run, n, g, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The group after the number that begins at group g, given that a word announced a telephone number, or g."""
    total, h = 0, g
    while h < n and (h == g or not _LOOSER >> run[h, SEP] & 1):
        total += run[h, END] - run[h, START]
        h += 1
    if not 7 <= total <= 15 or not _ends(run, n, h, right):
        return g
    a, b, c = run[g, END] - run[g, START], np.int64(0), np.int64(0)
    if h - g > 1:
        b = run[g + 1, END] - run[g + 1, START]
    if h - g > 2:
        c = run[g + 2, END] - run[g + 2, START]
    if h - g == 2 and a == 4 and b == 4 and _century(data, run, g) <= _century(data, run, g + 1) <= 20:
        return g  # a span of years
    if h - g == 3 and run[g + 1, SEP] == run[g + 2, SEP] != SPACE and b == 2 and (a == 4 or c == 4):
        return g  # a date
    if h - g == 4 and run[g + 1, SEP] == DOT and run[g + 2, SEP] == DOT and run[g + 3, SEP] == DOT and total <= 12:
        return g  # a dotted quad
    return h


@kernel
def extension_end(data, i, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after an extension (`x123`, ` ext. 123`) that begins at i, or i."""
    j = i
    if j < high and data[j] == 0x20:
        j += 1
    word = j
    while j < high and is_letter(data[j]) and j - word < 10:
        j += 1
    letters = j - word
    if letters == 1:
        if data[word] | 0x20 != 0x78:
            return i
    elif not (letters == 3 or letters == 9) or data[word] | 0x20 != 0x65 or data[word + 1] | 0x20 != 0x78:
        return i
    else:
        if j < high and data[j] == 0x2E:
            j += 1
        if j < high and data[j] == 0x20:
            j += 1
    start = j
    while j < high and is_digit(data[j]):
        j += 1
    if not 1 <= j - start <= 6 or (j < high and (is_letter(data[j]) or data[j] == 0x5F)):
        return i
    return j
