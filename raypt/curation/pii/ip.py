"""Public IPv4 and IPv6 addresses.

Not addresses: version and section numbers (`version 2.6.32.71`, `Chrome/53.0.2785.116`, `14.5.4.1`), hardware
addresses, times. Not public, and left alone: the special-purpose registries of IANA (RFC 6890 and successors): private,
loopback, link-local, documentation, benchmarking, multicast, reserved.
"""

import numpy as np

from raypt.curation.pii.buffers import collect, is_digit, is_letter, make_words, put, words_before
from raypt.curation.pii.places import ADDRESS, Text, next_place
from raypt.kernels import kernel

_VERSION_WORDS = make_words(
    [
        (
            1,
            "version versions versión versão versione versie wersja verzió verze sürüm ver vers rev revision release "
            "build firmware kernel section sections sección seção secção sezione abschnitt chapter chapitre kapitel "
            "capítulo capitolo clause appendix § версия версии версию верс. раздел разделе глава قسم 版本 版号 版號 "
            "バージョン 버전 รุ่น phiên_bản",
        )
    ]
)
_CONTEXT_BYTES = np.int64(24)


@kernel
def is_public_v4(a, b, c, d):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether a.b.c.d is globally reachable (IANA IPv4 special-purpose address registry)."""
    if a == 0 or a == 10 or a == 127 or a >= 224:
        return False
    if a == 100 and 64 <= b < 128:
        return False
    if a == 169 and b == 254:
        return False
    if a == 172 and 16 <= b < 32:
        return False
    if a == 192 and ((b == 168) or (b == 0 and (c == 0 or c == 2))):
        return False
    if a == 198 and (b == 18 or b == 19 or (b == 51 and c == 100)):
        return False
    return not (a == 203 and b == 0 and c == 113)


@kernel
def _is_public_v6(groups):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`groups`: the eight 16-bit groups. Unassigned space counts as public: it names a host if it names anything."""
    first = groups[0]
    if first & 0xFE00 == 0xFC00 or first & 0xFFC0 == 0xFE80 or first & 0xFF00 == 0xFF00:
        return False  # unique local, link-local, multicast
    if first == 0x2001 and groups[1] == 0x0DB8:
        return False
    if first == 0x3FFF and groups[1] < 0x1000:
        return False
    high_zero = True
    for k in range(5):
        high_zero &= groups[k] == 0
    if high_zero:
        if groups[5] == 0xFFFF:  # an IPv4 address in IPv6 notation
            return is_public_v4(groups[6] >> 8, groups[6] & 0xFF, groups[7] >> 8, groups[7] & 0xFF)
        return False  # unspecified, loopback, and the deprecated ::a.b.c.d
    return not (first == 0x0064 and groups[1] == 0xFF9B and groups[2] == 1) and not (
        first == 0x0100 and groups[1] == 0 and groups[2] == 0 and groups[3] == 0
    )


@kernel
def _hex_value(b):  # type: ignore[no-untyped-def]  # pragma: no cover
    if 0x30 <= b <= 0x39:
        return np.int64(b) - 0x30
    b |= 0x20
    if 0x61 <= b <= 0x66:
        return np.int64(b) - 0x57
    return np.int64(-1)


@kernel
def _v4_end(data, i, high, octets):  # type: ignore[no-untyped-def]  # pragma: no cover
    """(byte after the dotted quad at i, or i if there is none; byte after what was read)."""
    j = i
    for k in range(4):
        value, digits = np.int64(0), 0
        while j < high and digits < 4 and is_digit(data[j]):
            value = value * 10 + np.int64(data[j]) - 0x30
            digits += 1
            j += 1
        if digits == 0 or digits > 3 or value > 255 or (digits > 1 and data[j - digits] == 0x30):
            return i, j
        octets[k] = value
        if k < 3:
            if j >= high or data[j] != 0x2E:
                return i, j
            j += 1
    return j, j


@kernel
def _is_v4(data, low, i, end, high, octets, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether the dotted quad in [i, end) is a public address, going by its value and what stands beside it."""
    if not is_public_v4(octets[0], octets[1], octets[2], octets[3]):
        return False
    if octets[0] < 64 and octets[1] < 32 and octets[2] < 32 and octets[3] < 32:
        return False  # 14.5.4.1: a section or version; one address in two thousand looks like that
    if end < high:
        after = data[end]
        if is_letter(after) or is_digit(after) or after == 0x5F:
            return False
        nxt = data[end + 1] if end + 1 < high else np.uint8(0)
        if after == 0x2E and (is_digit(nxt) or 0x61 <= nxt <= 0x7A):
            return False  # 2.20.1.156.gf9916ae094
        if after == 0x2D and is_letter(nxt):
            return False
    if i > low:
        before = data[i - 1]
        if is_letter(before) or before == 0x2E or before == 0x5F:
            return False
        if i - 1 > low and (before == 0x2D or before == 0x2F) and is_letter(data[i - 2]):
            if before == 0x2D:
                return False  # linux-2.6.32.71
            k = i - 2
            while k > low and k > i - 24 and is_letter(data[k - 1]):
                k -= 1
            if 0x41 <= data[k] <= 0x5A:
                return False  # Chrome/53.0.2785.116
    return words_before(data, low, i, _CONTEXT_BYTES, words) == 0


@kernel
def _v6(data, low, first, end, high, groups, octets):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after the public IPv6 address that begins at `first`; [first, end) is a run of hexadecimal digits and ':'.

    Returns `first` if there is none. A dotted quad may follow the run's last ':'.
    """
    count, gap = 0, -1
    j = first
    digits_seen, two_wide = False, True
    if data[j] == 0x3A and (j + 1 >= end or data[j + 1] != 0x3A):
        return first
    while j < end:
        if data[j] == 0x3A:
            if j + 1 < end and data[j + 1] == 0x3A:
                if gap >= 0:
                    return first
                gap = count
                j += 2
                if j < end and data[j] == 0x3A:
                    return first
                continue
            if j + 1 == end:  # punctuation after the address
                break
            j += 1
            continue
        value, width = np.int64(0), 0
        while j < end and data[j] != 0x3A:
            value = value * 16 + _hex_value(data[j])
            digits_seen |= is_digit(data[j])
            width += 1
            j += 1
            if width > 4:
                return first
        if j == end and j < high and data[j] == 0x2E and 0 < count <= 6:
            quad_end, _ = _v4_end(data, j - width, high, octets)
            if quad_end > j - width:
                groups[count] = octets[0] * 256 + octets[1]
                groups[count + 1] = octets[2] * 256 + octets[3]
                count += 2
                two_wide = False
                j = quad_end
                end = quad_end
                break
        if count == 8:
            return first
        groups[count] = value
        two_wide &= width == 2
        count += 1
    if gap < 0:
        if count != 8 or two_wide:  # eight groups of two are a hardware identifier
            return first
    else:
        if count > 7:
            return first
        # a::b is also a name in C++ or Perl: a shortened address must begin like assigned space
        mapped = gap == 0 and count == 3 and groups[0] == 0xFFFF and not two_wide
        if not mapped and (gap == 0 or count < 2 or not digits_seen or not 0x2000 <= groups[0] < 0x4000):
            return first
        tail = count - gap
        for k in range(tail):
            groups[7 - k] = groups[count - 1 - k]
        for k in range(gap, 8 - tail):
            groups[k] = 0
    if j < high and (is_letter(data[j]) or data[j] == 0x5F):
        return first
    return j if _is_public_v6(groups) else first


@kernel
def _scan(text, spans, v4_code, v6_code, words, octets, groups):  # type: ignore[no-untyped-def]  # pragma: no cover
    data, offsets, starts = text.data, text.offsets, text.places[ADDRESS]
    n = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i = low
        while i < high:
            b = data[i]
            if b < 0x30 or b > 0x3A:
                i = next_place(starts, i + 1, high)
                continue
            start, end, code = i, i, v4_code
            if b != 0x3A:
                end, j = _v4_end(data, i, high, octets)
                while j < high and (is_digit(data[j]) or (data[j] == 0x2E and j + 1 < high and is_digit(data[j + 1]))):
                    j += 1  # the rest of a longer number or version
                if end > i and (v4_code < 0 or not _is_v4(data, low, i, end, high, octets, words)):
                    end = i
                if end == i and j < high and data[j] == 0x3A:
                    j = max(i + 1, j)
            elif v6_code < 0:
                j = i + 1
            else:
                code = v6_code
                start = i
                while start > low and i - start < 5 and _hex_value(data[start - 1]) >= 0:
                    start -= 1
                j = i
                while j < high and (data[j] == 0x3A or _hex_value(data[j]) >= 0):
                    j += 1
                first = start
                glued = start > low and (is_letter(data[start - 1]) or is_digit(data[start - 1]))
                if i - start > 4 or glued:  # "IPv6:2001:...": the first group belongs to a word
                    first = i + 1
                end = first
                if j - first >= 4:
                    end = _v6(data, low, first, j, high, groups, octets)
                start = first
                if end == first:  # look again at the last group: an IPv4 address may begin there
                    while j > i + 1 and data[j - 1] != 0x3A:
                        j -= 1
            if end > start:
                n = put(spans, n, start, end, code)
                j = max(j, end)
            i = j
    return n


def scan_ip(text: Text, codes: dict[str, int]) -> np.ndarray:
    """int64[n, 3]: spans of the kinds in `codes` (ipv4, ipv6)."""
    v4, v6 = codes.get("ipv4", -1), codes.get("ipv6", -1)
    return collect(_scan, text, v4, v6, _VERSION_WORDS, np.zeros(4, np.int64), np.zeros(8, np.int64))
