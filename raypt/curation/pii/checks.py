"""Checksums and assignments that tell a number with a meaning from any other number of that length."""

import numpy as np

from raypt.kernels import kernel

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Length of an IBAN by country (SWIFT IBAN registry)."""

CARD_PREFIXES = (
    # issuer, first and last prefix, lengths (ISO/IEC 7812 ranges as the networks publish them)
    ("American Express", 34, 34, (15,)),
    ("American Express", 37, 37, (15,)),
    ("Diners Club", 300, 305, (14, 16, 17, 18, 19)),
    ("Diners Club", 36, 36, (14, 15, 16, 17, 18, 19)),
    ("Diners Club", 38, 39, (14, 16, 17, 18, 19)),
    ("JCB", 35, 35, (16, 17, 18, 19)),
    ("JCB", 1800, 1800, (15,)),
    ("JCB", 2131, 2131, (15,)),
    ("Visa", 4, 4, (13, 16, 18, 19)),
    ("Mastercard", 51, 55, (16,)),
    ("Mastercard", 2221, 2720, (16,)),
    ("Discover", 6011, 6011, (16, 17, 18, 19)),
    ("Discover", 644, 649, (16, 17, 18, 19)),
    ("Discover", 65, 65, (16, 17, 18, 19)),
    ("UnionPay", 62, 62, (16, 17, 18, 19)),
    ("UnionPay", 81, 81, (16, 17, 18, 19)),
    ("Mir", 2200, 2204, (16, 17, 18, 19)),
    ("RuPay", 60, 60, (16,)),
    ("RuPay", 82, 82, (16,)),
    ("Maestro", 50, 50, tuple(range(12, 20))),
    ("Maestro", 56, 58, tuple(range(12, 20))),
    ("Maestro", 6304, 6304, tuple(range(12, 20))),
    ("Maestro", 6390, 6390, tuple(range(12, 20))),
    ("Maestro", 6759, 6763, tuple(range(12, 20))),
    ("Maestro UK", 604, 604, (12,)),
)
"""Card issuers, with the ranges that test-number generators use too (JCB 35, Maestro 50 and 56-58). Lengths count all
digits; 604 is the four-digit prefix 0604."""

CALLING_CODES = (
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 "
    "86 90 91 92 93 94 95 98 211 212 213 216 218 220-269 290 291 297-299 350-359 370-389 420 421 423 500-509 590-599 "
    "670-692 800 808 850 852 853 855 856 870 878 880-883 886 888 960-968 970-977 979 992-998"
)
"""Country calling codes (ITU-T E.164 annex, with blocks as ranges)."""

NATIONAL_DIGITS = {
    1: (10, 10), 7: (10, 10), 20: (8, 10), 27: (9, 9), 30: (10, 10), 31: (9, 9), 32: (8, 9), 33: (9, 9), 34: (9, 9),
    36: (8, 9), 39: (6, 11), 40: (9, 9), 41: (9, 9), 43: (6, 12), 44: (9, 10), 45: (8, 8), 46: (7, 10), 47: (8, 8),
    48: (9, 9), 49: (6, 12), 51: (8, 9), 52: (10, 11), 54: (10, 11), 55: (10, 11), 56: (9, 9), 57: (8, 10),
    58: (10, 10), 60: (8, 10), 61: (9, 9), 62: (8, 12), 63: (8, 10), 64: (8, 10), 65: (8, 8), 66: (8, 9),
    81: (9, 10), 82: (8, 10), 84: (9, 10), 86: (10, 11), 90: (10, 10), 91: (10, 10), 92: (9, 10), 94: (9, 9),
    98: (10, 10), 351: (9, 9), 353: (7, 9), 358: (6, 11), 380: (9, 9), 420: (9, 9), 421: (9, 9), 852: (8, 8),
    886: (8, 9), 971: (8, 9), 972: (8, 9),
}  # fmt: skip
"""Fewest and most digits after the calling code, for big numbering plans; others take 6 to 12 (E.164: 15 in all)."""


def iban_length_table() -> np.ndarray:
    """uint8[676]: length by the two letters of the country, 0 where there is none."""
    table = np.zeros(26 * 26, np.uint8)
    for country, length in IBAN_LENGTHS.items():
        table[(ord(country[0]) - 65) * 26 + ord(country[1]) - 65] = length
    return table


def card_table() -> np.ndarray:
    """uint32[10000]: by the first four digits, bit n set if cards of n digits are issued there."""
    table = np.zeros(10_000, np.uint32)
    for _, first, last, lengths in CARD_PREFIXES:
        scale = 10 ** (4 - max(len(str(first)), 4 if first == 604 else 0))
        for prefix in range(first * scale, (last + 1) * scale):
            for length in lengths:
                table[prefix] |= np.uint32(1 << length)
    return table


def calling_code_table() -> np.ndarray:
    """uint8[1000, 3]: by the first three digits, (length of the calling code or 0, fewest, most national digits)."""
    table = np.zeros((1000, 3), np.uint8)
    for item in CALLING_CODES.split():
        first, _, last = item.partition("-")
        for code in range(int(first), int(last or first) + 1):
            digits = len(str(code))
            scale = 10 ** (3 - digits)
            low, high = NATIONAL_DIGITS.get(code, (6, 12))
            table[code * scale : (code + 1) * scale] = (digits, low, high)
    return table


_CN_WEIGHTS = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2], np.int64)
_CN_PROVINCES = np.zeros(100, np.bool_)
for _code in (
    *range(11, 16),
    *range(21, 24),
    *range(31, 38),
    *range(41, 47),
    *range(50, 55),
    *range(61, 66),
    71,
    81,
    82,
    83,
):
    _CN_PROVINCES[_code] = True


@kernel
def luhn(digits, n):  # type: ignore[no-untyped-def]  # pragma: no cover
    """ISO/IEC 7812-1 annex B over digits[:n]."""
    total = 0
    for k in range(n):
        d = digits[n - 1 - k]
        if k % 2:
            d *= 2
            if d > 9:
                d -= 9
        total += d
    return total % 10 == 0


@kernel
def ean13(digits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The check digit of a 13-digit article number."""
    total = 0
    for k in range(13):
        total += digits[k] * (3 if k % 2 else 1)
    return total % 10 == 0


@kernel
def cn_id(digits, check_is_x):  # type: ignore[no-untyped-def]  # pragma: no cover
    """GB 11643: digits[:17], and digits[17] unless the check character is X: province, date, ISO 7064 MOD 11-2."""
    if not _CN_PROVINCES[digits[0] * 10 + digits[1]]:
        return False
    year = digits[6] * 1000 + digits[7] * 100 + digits[8] * 10 + digits[9]
    month = digits[10] * 10 + digits[11]
    day = digits[12] * 10 + digits[13]
    if not (1850 <= year <= 2099 and 1 <= month <= 12 and 1 <= day <= 31):
        return False
    if day > 30 and (month == 4 or month == 6 or month == 9 or month == 11):
        return False
    if month == 2 and (day > 29 or (day == 29 and (year % 4 or (year % 100 == 0 and year % 400)))):
        return False
    total = np.int64(0)
    for k in range(17):
        total += digits[k] * _CN_WEIGHTS[k]
    check = (12 - total % 11) % 11
    return check_is_x if check == 10 else (not check_is_x and digits[17] == check)


@kernel
def iban(chars, n):  # type: ignore[no-untyped-def]  # pragma: no cover
    """ISO 7064 MOD 97-10 over chars[:n] (0-9 and A-Z as 0..35), the first four moved to the end."""
    remainder = np.int64(0)
    for k in range(n):
        c = chars[(k + 4) % n]
        remainder = (remainder * (100 if c > 9 else 10) + c) % 97
    return remainder == 1


_CREDIT_CHARS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_VALUES = np.full(256, -1, np.int64)
for _value, _char in enumerate(_CREDIT_CHARS):
    _CREDIT_VALUES[ord(_char)] = _value
_CREDIT_WEIGHTS = np.array([pow(3, k, 31) for k in range(17)], np.int64)
_TW_LETTERS = np.array(
    [10, 11, 12, 13, 14, 15, 16, 17, 34, 18, 19, 20, 21, 22, 35, 23, 24, 25, 26, 27, 28, 29, 32, 30, 31, 33]
)
"""Numbers of the letters A to Z in Taiwan's identity numbers."""
_KR_WEIGHTS = np.array([2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5], np.int64)


@kernel
def credit_code(data, a):  # type: ignore[no-untyped-def]  # pragma: no cover
    """GB 32100: the 18 characters at a: registering body, six digits of a place, check character modulo 31."""
    first = data[a]
    if not (first == 0x31 or first == 0x35 or first == 0x39 or first == 0x41 or first == 0x4E or first == 0x59):
        return False
    for k in range(2, 8):
        if not 0x30 <= data[a + k] <= 0x39:
            return False
    place = (np.int64(data[a + 2]) - 0x30) * 10 + np.int64(data[a + 3]) - 0x30
    if place != 10 and not _CN_PROVINCES[place]:  # 10: registered with the state
        return False
    total = np.int64(0)
    for k in range(18):
        value = _CREDIT_VALUES[data[a + k]]
        if value < 0:
            return False
        if k < 17:
            total += value * _CREDIT_WEIGHTS[k]
    return _CREDIT_VALUES[data[a + 17]] == (31 - total % 31) % 31


@kernel
def hk_id(data, a, letters, check):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Hong Kong's identity card: one or two letters and six digits at a, and the check character (modulo 11)."""
    total = np.int64(0 if letters == 2 else 36 * 9)
    for k in range(letters):
        total += (np.int64(data[a + k]) - 0x41 + 10) * (9 - k if letters == 2 else 8)
    for k in range(6):
        total += (np.int64(data[a + letters + k]) - 0x30) * (7 - k)
    remainder = (11 - total % 11) % 11
    return check == (0x41 if remainder == 10 else 0x30 + remainder)


@kernel
def tw_id(data, a):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Taiwan's identity number: the letter and nine digits at a; the second says the sex (8 and 9: residents)."""
    sex = data[a + 1]
    if not (sex == 0x31 or sex == 0x32 or sex == 0x38 or sex == 0x39):
        return False
    number = _TW_LETTERS[data[a] - 0x41]
    total = number // 10 + number % 10 * 9
    for k in range(8):
        total += (np.int64(data[a + 1 + k]) - 0x30) * (8 - k)
    return (total + np.int64(data[a + 9]) - 0x30) % 10 == 0


@kernel
def kr_id(data, a, b, said):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Korea's resident number: six digits (date of birth) at a, seven at b (sex and century first, check digit last).
    Numbers given since October 2020 have no check digit: `said` lets them pass."""
    month = (np.int64(data[a + 2]) - 0x30) * 10 + np.int64(data[a + 3]) - 0x30
    day = (np.int64(data[a + 4]) - 0x30) * 10 + np.int64(data[a + 5]) - 0x30
    if not (1 <= month <= 12 and 1 <= day <= 31 and 0x31 <= data[b] <= 0x38):
        return False
    total = np.int64(0)
    for k in range(6):
        total += (np.int64(data[a + k]) - 0x30) * _KR_WEIGHTS[k]
        total += (np.int64(data[b + k]) - 0x30) * _KR_WEIGHTS[6 + k]
    return said or (11 - total % 11) % 10 == np.int64(data[b + 6]) - 0x30


@kernel
def cn_id_15(digits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The resident identity number of 15 digits given until 1999: province and date; it has no check digit."""
    month, day = digits[8] * 10 + digits[9], digits[10] * 10 + digits[11]
    return _CN_PROVINCES[digits[0] * 10 + digits[1]] and 1 <= month <= 12 and 1 <= day <= 31
