"""E-mail addresses, and user names with passwords in URLs: both turn on an '@'.

Addresses are read as people write them rather than as RFC 5322 allows: a local part of letters (Latin, Greek,
Cyrillic), digits and `._%+='~-`, a domain of labels whose last has letters only. A Chinese or Japanese character ends
an address, except in a domain: a label of such characters alone, before a full stop or in `_TOP_LEVEL`.
"""

import numpy as np

from raypt.curation.pii.buffers import collect, is_digit, is_letter, put
from raypt.curation.pii.places import AT, Text, next_place
from raypt.kernels import kernel

MAX_LOCAL, MAX_DOMAIN, MAX_CREDENTIALS = 128, 255, 256
"""Bytes. RFC 5321 limits a local part to 64; mailing-list return paths exceed it in practice."""

_LOCAL, _DOMAIN, _USERINFO, _EDGE = 1, 2, 4, 8


def _classes() -> np.ndarray:
    """uint8[256]: what a byte can be part of. Lead and continuation bytes of U+00C0..U+052F count as letters."""
    table = np.zeros(256, np.uint8)
    for b in range(0x21, 0x7F):
        c = chr(b)
        if c.isalnum():
            table[b] |= _LOCAL | _DOMAIN | _EDGE
        if c in "._%+='~-":
            table[b] |= _LOCAL
        if c in ".-":
            table[b] |= _DOMAIN
        if c == "_":
            table[b] |= _EDGE
        if c not in '/<>"\\^`{}|[]?#@':
            table[b] |= _USERINFO
    table[0x80:0xC0] |= _LOCAL | _DOMAIN | _EDGE
    table[0xC3:0xD5] |= _LOCAL | _DOMAIN | _EDGE
    return table


_CLASSES = _classes()
_IMAGES = np.array([int.from_bytes(e.encode(), "big") for e in ("png", "jpg", "jpeg", "gif", "svg", "webp")], np.int64)


_TOP_LEVEL = (
    "中国 中國 公司 网络 網絡 香港 台湾 台灣 澳門 新加坡 政务 公益 网址 中文网 网站 在线 商城 商标 手机 集团 みんな "
    "コム 世界 ストア 한국 닷컴 닷넷 삼성"
)
"""Top-level domains of Chinese, Japanese and Korean characters (IANA root zone)."""


def _top_level() -> tuple[np.ndarray, np.ndarray]:
    names = sorted((name.encode() for name in _TOP_LEVEL.split()), key=len, reverse=True)
    return np.frombuffer(b"".join(names), np.uint8), np.concatenate([[0], np.cumsum([len(n) for n in names])])


_TOPS, _TOP_OFFSETS = _top_level()


@kernel
def _wide_label(data, i, bound, dotted, tops, top_offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(byte after the label of Chinese, Japanese or Korean characters that begins at i, whether it is the last)`; i if
    there is none."""
    if dotted:
        for k in range(len(top_offsets) - 1):
            n = top_offsets[k + 1] - top_offsets[k]
            if i + n <= bound:
                same = True
                for m in range(n):
                    same = same and data[i + m] == tops[top_offsets[k] + m]
                if same and not (
                    i + n < bound and data[i + n] == 0x2E and i + n + 1 < bound and data[i + n + 1] >= 0xE3
                ):
                    return i + n, True
    j = i
    while j + 2 < bound and j - i < 63 and 0xE3 <= data[j] <= 0xED:
        if data[j] == 0xE3 and data[j + 1] < 0x81:  # marks and blanks before U+3040
            break
        j += 3
    follows = j + 1 < bound and data[j] == 0x2E and (is_letter(data[j + 1]) or 0xE3 <= data[j + 1] <= 0xED)
    return (j, False) if follows else (i, False)


@kernel
def _local_start(data, low, at, classes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """First byte of the local part that ends before `at`; `at` if there is none."""
    start = at
    bound = max(low, at - MAX_LOCAL - 1)
    while start > bound:
        b = data[start - 1]
        if b < 0x80:
            if not classes[b] & 1:
                break
            start -= 1
        else:  # a two-byte letter; the last byte of a longer character is no letter
            lead = data[start - 2] if start - 2 >= bound else 0
            if b >= 0xC0 or not 0xC3 <= lead <= 0xD4:
                break
            start -= 2
    if at - start > MAX_LOCAL:
        return at
    while start < at and not classes[data[start]] & 8:  # quotes, dashes and dots before the name
        start += 1
    return start


@kernel
def _domain_end(data, at, high, classes, images, tops, top_offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after the domain that begins after `at`; `at` if there is none."""
    first = at + 1
    bound = min(high, first + MAX_DOMAIN)
    end = first
    while end < bound:
        b = data[end]
        if b < 0x80:
            if not classes[b] & 2 or (b == 0x2E and (end == first or data[end - 1] == 0x2E)):
                break
            end += 1
        elif 0xC3 <= b <= 0xD4 and end + 1 < bound:
            end += 2
        elif 0xE3 <= b <= 0xED and (end == first or data[end - 1] == 0x2E):
            label, over = _wide_label(data, end, bound, end > first, tops, top_offsets)
            if over:
                return label
            if label == end:
                break
            end = label
        else:
            break
    if end < high and end == bound:
        return at
    while end > first:
        while end > first and (data[end - 1] == 0x2E or data[end - 1] == 0x2D):
            end -= 1
        label = end
        plain, upper, lower = True, False, False
        code = np.int64(0)
        while label > first and data[label - 1] != 0x2E:
            label -= 1
            b = data[label]
            plain &= is_letter(b) or b >= 0x80
            upper |= 0x41 <= b <= 0x5A
            lower |= 0x61 <= b <= 0x7A
        if label == first:
            return at  # a single label
        if end - label <= 5:
            for k in range(label, end):
                code = (code << 8) | (np.int64(data[k]) | 0x20)
            for image in images:
                if code == image:
                    return at  # photo@2x.png
        idn = end - label > 4 and data[label + 2] == 0x2D and data[label + 3] == 0x2D
        if (plain or idn) and end - label >= 2:
            if upper and lower and 0x41 <= data[label] <= 0x5A:
                # "x@example.com.Then": a capital after a lower-case domain begins the next sentence
                rest_upper = False
                dots = 0
                for k in range(first, label - 1):
                    rest_upper |= 0x41 <= data[k] <= 0x5A
                    dots += data[k] == 0x2E
                if not rest_upper and dots:
                    end = label
                    continue
            return end
        end = label
    return at


@kernel
def _credentials_start(data, low, at, high, classes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """First byte of `user:password` between `://` and the '@' at `at`; `at` if there is none."""
    j = at
    bound = max(low, at - MAX_CREDENTIALS)
    colon = False
    while j > bound and data[j - 1] < 0x80 and classes[data[j - 1]] & 4:
        j -= 1
        colon |= data[j] == 0x3A
    if j == at or j - low < 4 or at + 1 >= high:
        return at
    if not (data[j - 1] == 0x2F and data[j - 2] == 0x2F and data[j - 3] == 0x3A and is_letter(data[j - 4])):
        return at
    host = data[at + 1]
    if not (is_letter(host) or is_digit(host) or host == 0x5B):
        return at
    return j if colon or at - j >= 20 else at  # a long user name alone is a token


@kernel
def _scan(text, spans, email_code, url_code, classes, images, tops, top_offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    data, offsets, ats = text.data, text.offsets, text.places[AT]
    n = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i = next_place(ats, low, high)
        while i < high:
            start, end, code = i, i, email_code
            if url_code >= 0:
                start = _credentials_start(data, low, i, high, classes)
                end, code = i + 1, url_code
            if start == i and email_code >= 0:
                code = email_code
                start = _local_start(data, low, i, classes)
                if start < i:
                    end = _domain_end(data, i, high, classes, images, tops, top_offsets)
                    if end == i:
                        start = i
            if start < i:
                n = put(spans, n, start, end, code)
                low = end
            i = next_place(ats, i + 1, high)
    return n


def scan_email(text: Text, codes: dict[str, int]) -> np.ndarray:
    """int64[n, 3]: spans of the kinds in `codes` (email, url_credentials)."""
    email, url = codes.get("email", -1), codes.get("url_credentials", -1)
    return collect(_scan, text, email, url, _CLASSES, _IMAGES, _TOPS, _TOP_OFFSETS)
