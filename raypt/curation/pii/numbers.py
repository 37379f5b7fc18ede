"""Numbers that identify a person or an account: telephone, payment card, IBAN, Chinese and US identity numbers."""

import numpy as np

from raypt.curation.pii.buffers import Words, collect, is_digit, is_letter, make_words, put, words_before
from raypt.curation.pii.checks import card_table, cn_id, cn_id_15, ean13, iban, iban_length_table, luhn
from raypt.curation.pii.phone import WORDS, extension_end, phone_announced, phone_strong
from raypt.curation.pii.places import NUMBER, Text, next_place
from raypt.curation.pii.runs import (
    CLOSE,
    DASH,
    DOT,
    END,
    MAX_GROUPS,
    PAREN,
    PLUS,
    SEP,
    SPACE,
    START,
    left_open,
    parse_run,
    right_open,
)
from raypt.kernels import kernel

_PHONE, _CARD, _ID, _COUNT = 1, 2, 4, 8
_CONTEXT_BYTES = np.int64(40)
_COUNT_BYTES = np.int64(16)
"""How near a word must stand that says that eleven digits are no mobile."""
_LOOK_AHEAD = 9
"""Groups that the longest form may need after its first."""

_SHORTEST = 7
"""Bytes of the shortest number that is looked for: a telephone number."""

_CARD_TABLE = card_table()
_IBAN_LENGTHS = iban_length_table()
_WORDS = make_words(
    [
        (_PHONE, WORDS),
        (
            _CARD,
            "card cards visa mastercard amex maestro carte tarjeta cartão carta kreditkarte karte kartennummer kart "
            "карта карты карте 银行卡 信用卡 卡号 借记卡 カード 카드",
        ),
        (
            _ID,
            "身份证 身份證 身分证 身分證 证件号 證件號 identity_card id_card identity_number id_number",
        ),
        (
            _COUNT,
            "timestamp timestamps time ts epoch unix order orders id uid uuid isbn issn serial seed hash version "
            "时间戳 時間戳 订单 訂單 订单号 流水号 编号 編號 序号 單號 单号 批号 版本 タイムスタンプ",
        ),
    ]
)


@kernel
def _iban_end(data, low, i, high, chars):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after the IBAN whose check digits begin at i, or i. Blanks or hyphens may stand between its characters."""
    if i - 2 < low or i + 1 >= high or not is_digit(data[i + 1]):
        return i
    if not is_letter(data[i - 1]) or not is_letter(data[i - 2]):
        return i
    if i - 3 >= low and (is_letter(data[i - 3]) or is_digit(data[i - 3]) or data[i - 3] == 0x5F):
        return i
    length = np.int64(_IBAN_LENGTHS[((data[i - 2] & 0x1F) - 1) * 26 + (data[i - 1] & 0x1F) - 1])
    if length == 0:
        return i
    n, j, gap = 0, i - 2, False
    while j < high and n < length:
        b = data[j]
        if is_digit(b):
            chars[n] = b - 0x30
        elif is_letter(b):
            chars[n] = (b & 0x1F) + 9
        elif (b == 0x20 or b == 0x2D) and not gap and n:
            gap = True
            j += 1
            continue
        else:
            return i
        gap = False
        n += 1
        j += 1
    if n < length or (j < high and (is_letter(data[j]) or is_digit(data[j]) or data[j] == 0x5F)):
        return i
    return j if iban(chars, n) else i


@kernel
def _card(data, run, n, g, right, digits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """(group after the payment card number that begins at group g, or g; whether "card" must be said before it)."""
    length = run[g, END] - run[g, START]
    h = g + 1
    total = length
    if length < 12:
        if length != 4 or h >= n or not (run[h, SEP] == SPACE or run[h, SEP] == DASH):
            return g, False
        sep = run[h, SEP]
        while h < n and run[h, SEP] == sep and h < g + 5 and total + run[h, END] - run[h, START] <= 19:
            total += run[h, END] - run[h, START]
            h += 1
        groups = h - g
        second = run[g + 1, END] - run[g + 1, START]
        third = run[g + 2, END] - run[g + 2, START] if groups > 2 else 0
        if second == 6:
            if groups < 3 or not (third == 5 or third == 4):
                return g, False
            h = g + 3
            total = 10 + third
        else:
            if groups < 4 or second != 4 or third != 4 or run[g + 3, END] - run[g + 3, START] != 4:
                return g, False
            if groups == 5 and total > 19:
                h, total = g + 4, 16
    if length == 4 and h < n and run[h, SEP] == run[g + 1, SEP] and run[h, END] - run[h, START] == 4:
        return g, False  # a longer row of fours: a dump, not a card
    if g > 0 and length == 4 and run[g, SEP] == run[g + 1, SEP] and run[g - 1, END] - run[g - 1, START] == 4:
        return g, False
    if total > 19 or (h == n and not right) or (h < n and (run[h, SEP] == DASH or run[h, SEP] == DOT)):
        return g, False
    m = 0
    for k in range(g, h):
        for i in range(run[k, START], run[k, END]):
            digits[m] = data[i] - 0x30
            m += 1
    prefix = np.int64(digits[0]) * 1000 + np.int64(digits[1]) * 100 + np.int64(digits[2]) * 10 + np.int64(digits[3])
    if not (_CARD_TABLE[prefix] >> total) & 1 or not luhn(digits, total):
        return g, False
    return h, total < 14 and (total < 13 or ean13(digits))


@kernel
def _identity(data, run, n, g, high, right, digits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after the Chinese resident identity number that is group g, or -1."""
    length = run[g, END] - run[g, START]
    end = run[g, END]
    x = (
        length == 17
        and g + 1 == n
        and end < high
        and data[end] | 0x20 == 0x78
        and not (end + 1 < high and (is_letter(data[end + 1]) or is_digit(data[end + 1]) or data[end + 1] == 0x5F))
    )
    if not x and (length != 18 or not (g + 1 < n or right)):
        return -1
    for k in range(length):
        digits[k] = np.int64(data[run[g, START] + k]) - 0x30
    return (end + 1 if x else end) if cn_id(digits, x) else -1


@kernel
def _grouped_identity(data, run, n, g, high, right, digits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after the Chinese resident identity number in groups of 6, 8 and 4 that begins at group g, or -1."""
    if g + 3 > n or run[g + 1, END] - run[g + 1, START] != 8 or run[g + 1, SEP] != run[g + 2, SEP]:
        return -1
    if run[g + 1, SEP] != SPACE and run[g + 1, SEP] != DASH:
        return -1
    last = run[g + 2, END] - run[g + 2, START]
    end = run[g + 2, END]
    x = last == 3 and g + 3 == n and end < high and data[end] | 0x20 == 0x78
    if x and end + 1 < high and (is_letter(data[end + 1]) or is_digit(data[end + 1]) or data[end + 1] == 0x5F):
        return -1
    if not x and (last != 4 or not (right if g + 3 == n else run[g + 3, SEP] == SPACE)):
        return -1
    m = 0
    for k in range(g, g + 3):
        for i in range(run[k, START], run[k, END]):
            digits[m] = np.int64(data[i]) - 0x30
            m += 1
    return (end + 1 if x else end) if cn_id(digits, x) else -1


@kernel
def _old_identity(data, low, run, n, g, right, digits, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether group g is an announced identity number of 15 digits."""
    if not (g + 1 < n or right):
        return False
    for k in range(15):
        digits[k] = np.int64(data[run[g, START] + k]) - 0x30
    return cn_id_15(digits) and words_before(data, low, run[g, START], _CONTEXT_BYTES, words) & 4 != 0


@kernel
def _counted(data, low, first, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether the eleven digits at `first` that could be a mobile are called something else: 第...号, a timestamp."""
    if first - 3 >= low and data[first - 3] == 0xE7 and data[first - 2] == 0xAC and data[first - 1] == 0xAC:  # 第
        return True
    if words_before(data, low, first, _CONTEXT_BYTES, words) & 1:
        return False
    return words_before(data, low, first, _COUNT_BYTES, words) & 8 != 0


@kernel
def _is_ssn(data, run, n, g, right):  # type: ignore[no-untyped-def]  # pragma: no cover
    """ddd-dd-dddd with an area, group and serial number that the Social Security Administration may issue."""
    if g + 3 > n or run[g + 1, SEP] != DASH or run[g + 2, SEP] != DASH:
        return False
    if not (right if g + 3 == n else run[g + 3, SEP] == SPACE):
        return False
    area, group, serial = np.int64(0), np.int64(0), np.int64(0)
    for k in range(3):
        length = run[g + k, END] - run[g + k, START]
        if length != (3 if k == 0 else 2 if k == 1 else 4):
            return False
        value = np.int64(0)
        for i in range(run[g + k, START], run[g + k, END]):
            value = value * 10 + np.int64(data[i]) - 0x30
        if k == 0:
            area = value
        elif k == 1:
            group = value
        else:
            serial = value
    return 0 < area < 900 and area != 666 and group > 0 and serial > 0


@kernel
def _scan(  # type: ignore[no-untyped-def]  # pragma: no cover
    text, spans, phone_code, card_code, iban_code, cn_code, ssn_code, words, run, digits
):
    data, offsets, starts = text.data, text.offsets, text.places[NUMBER]
    count = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i = low
        resumed = False
        while i < high:
            b = data[i]
            if not (0x30 <= b <= 0x39 or b == 0x2B or b == 0x28):
                i = next_place(starts, i + 1, high)
                continue
            if b == 0x28 and not resumed:
                nxt = data[i + 1] if i + 1 < high else np.uint8(0)
                if not (is_digit(nxt) or nxt == 0x2B):
                    i += 1
                    continue
            if not resumed and not left_open(data, low, i):
                end = _iban_end(data, low, i, high, digits) if iban_code >= 0 and is_digit(b) else i
                if end > i:
                    count = put(spans, count, i - 2, end, iban_code)
                    i = end
                else:
                    i += 1
                    while i < high and (is_letter(data[i]) or is_digit(data[i]) or data[i] == 0x5F):
                        i += 1
                continue
            n, run_end, more = parse_run(data, i, high, run)
            if n == 0:
                i = run_end
                resumed = False
                continue
            if run_end - i < _SHORTEST:
                i = run_end
                resumed = False
                continue
            right = not more and right_open(data, high, run_end)
            g = np.int64(0)
            context = np.int64(-1)
            next_i = run_end
            while g < n:
                if more and g > 0 and g + _LOOK_AHEAD >= n:
                    next_i = run[g, START] - run[g, PAREN]
                    break
                if g > 0 and (run[g, SEP] == DASH or run[g, SEP] == DOT or run[g, SEP] == CLOSE):
                    g += 1
                    continue
                first = run[g, START] - run[g, PAREN] - run[g, PLUS]
                h, end, code = g, np.int64(0), np.int64(-1)
                length = run[g, END] - run[g, START]
                if length >= 17:
                    end = _identity(data, run, n, g, high, right, digits)
                    if end >= 0:
                        h, code = g + 1, cn_code
                elif length == 15 and cn_code >= 0 and _old_identity(data, low, run, n, g, right, digits, words):
                    h, code, end = g + 1, cn_code, run[g, END]
                elif length == 6 and cn_code >= 0:
                    end = _grouped_identity(data, run, n, g, high, right, digits)
                    if end >= 0:
                        h, code = g + 3, cn_code
                if h == g and length >= 4 and not run[g, PAREN]:
                    h, needs_word = _card(data, run, n, g, right, digits)
                    if h > g:
                        end, code = run[h - 1, END], card_code
                        if needs_word and not words_before(data, low, first, _CONTEXT_BYTES, words) & 2:
                            h = g
                if h == g and length == 3 and _is_ssn(data, run, n, g, right):
                    h, code = g + 3, ssn_code
                    end = run[h - 1, END]
                if h == g and phone_code >= 0 and run_end - first >= 7:
                    extended = np.int64(0)
                    tail = right
                    if not right and not more:
                        extended = extension_end(data, run_end, high)
                        tail = extended > run_end
                    h = phone_strong(data, run, n, g, tail)
                    lone = h == g + 1 and length == 11 and not run[g, PLUS]
                    if lone and _counted(data, low, first, words):
                        next_i = max(next_i, run[g, END])
                        g += 1
                        continue
                    if h == g:
                        if context < 0:
                            context = np.int64(words_before(data, low, first, _CONTEXT_BYTES, words))
                        if context & 1:
                            h = phone_announced(data, run, n, g, tail)
                    if h > g:
                        code = phone_code
                        end = run[h - 1, END]
                        if run[h - 1, PAREN]:
                            end += 1
                        if h == n and not more:
                            end = max(run_end, extension_end(data, run_end, high))
                if h == g:
                    g += 1
                    continue
                if code >= 0:
                    count = put(spans, count, first, end, code)
                next_i = max(next_i, end)
                g = h
            resumed = more and next_i < run_end
            i = max(next_i, i + 1) if not resumed else next_i
    return count


def scan_numbers(text: Text, codes: dict[str, int], words: Words = _WORDS) -> np.ndarray:
    """int64[n, 3]: spans of the kinds in `codes` (phone, credit_card, iban, cn_id, us_ssn)."""
    order = ("phone", "credit_card", "iban", "cn_id", "us_ssn")
    phone, card, iban_code, cn_code, ssn = (codes.get(kind, -1) for kind in order)
    run, digits = np.zeros((MAX_GROUPS, 5), np.int64), np.zeros(40, np.int64)
    return collect(_scan, text, phone, card, iban_code, cn_code, ssn, words, run, digits)
