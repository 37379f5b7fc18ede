"""Secrets with a recognisable form: API keys and tokens by the prefixes their issuers publish, PEM private keys."""

from typing import NamedTuple

import numpy as np

from raypt.curation.pii.buffers import collect, is_digit, is_letter, put
from raypt.curation.pii.places import BLOCK, SECRET, SHORTEST_KEY, Text, next_place
from raypt.kernels import kernel

_DIGIT, _UPPER, _LOWER, _HEX, _UNDERSCORE, _HYPHEN, _STOP, _SLASH = (1 << k for k in range(8))
_ALNUM = _DIGIT | _UPPER | _LOWER
_WORD = _ALNUM | _UNDERSCORE | _HYPHEN

KEY_FORMS: tuple[tuple[str, str, int, int, int], ...] = (
    # service, prefixes, fewest and most characters after the prefix, which characters
    ("Amazon Web Services", "AKIA ASIA AROA AIDA AGPA ANPA", 16, 16, _DIGIT | _UPPER),
    ("GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", 36, 255, _ALNUM),
    ("GitHub", "github_pat_", 40, 255, _ALNUM | _UNDERSCORE),
    ("GitLab", "glpat- gldt- glrt- glcbt-", 20, 255, _WORD),
    ("Slack", "xoxb- xoxp- xoxa- xoxr- xoxs- xoxe- xapp-", 12, 255, _ALNUM | _HYPHEN),
    ("Slack", "hooks.slack.com/services/", 30, 100, _ALNUM | _SLASH),
    ("Google", "AIza", 35, 35, _WORD),
    ("Google", "GOCSPX-", 28, 28, _WORD),
    ("Google", "ya29.", 30, 1000, _WORD),
    ("Anthropic, OpenAI", "sk-", 20, 255, _WORD),
    ("Stripe", "sk_live_ sk_test_ pk_live_ pk_test_ rk_live_ rk_test_", 16, 255, _ALNUM),
    ("Hugging Face", "hf_", 30, 60, _ALNUM),
    ("npm", "npm_", 36, 36, _ALNUM),
    ("PyPI", "pypi-", 85, 500, _WORD),
    ("SendGrid", "SG.", 60, 80, _WORD | _STOP),
    ("DigitalOcean", "dop_v1_ doo_v1_ dor_v1_", 64, 64, _HEX),
    ("Shopify", "shpat_ shpca_ shppa_ shpss_", 32, 32, _HEX | _UPPER),
    ("Twilio", "SK AC", 32, 32, _HEX),
    ("Mailgun", "key-", 32, 32, _HEX),
    ("Databricks", "dapi", 32, 34, _HEX | _HYPHEN),
    ("Linear", "lin_api_", 40, 40, _ALNUM),
    ("Grafana", "glsa_ glc_", 32, 300, _WORD),
    ("Square", "sq0atp- sq0csp-", 22, 50, _WORD),
    ("JSON Web Token", "eyJ", 30, 4000, _WORD | _STOP),
)
"""Forms of API keys. A key must also have a digit and a letter after its prefix; a JSON Web Token, three parts."""


class _Forms(NamedTuple):
    data: np.ndarray
    offsets: np.ndarray
    limits: np.ndarray
    """int64[n, 4]: fewest and most characters, their classes, whether it is a JSON Web Token."""
    first: np.ndarray
    """int64[257]: forms `first[b]` to `first[b + 1]` begin with byte b."""
    pairs: np.ndarray
    """bool[65536]: two bytes (256 * first + second) with which a form, or a PEM header, begins. Such pairs are rare in
    text, unlike their first letters, so the scan passes over nearly all bytes in one predictable branch."""


def _forms() -> _Forms:
    entries = sorted(
        (prefix.encode(), low, high, chars, int(prefix == "eyJ"))
        for _, prefixes, low, high, chars in KEY_FORMS
        for prefix in prefixes.split()
    )
    lengths = [len(e[0]) for e in entries]
    assert min(len(e[0]) + e[1] for e in entries) >= SHORTEST_KEY
    pairs = np.zeros(1 << 16, np.bool_)
    for head in [e[0][:2] for e in entries] + [b"--"]:
        pairs[256 * head[0] + head[1]] = True
    return _Forms(
        np.frombuffer(b"".join(e[0] for e in entries), np.uint8),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([e[1:] for e in entries], np.int64),
        np.searchsorted([e[0][0] for e in entries], np.arange(257)).astype(np.int64),
        pairs,
    )


def _classes() -> np.ndarray:
    table = np.zeros(256, np.uint8)
    for b in range(0x21, 0x7F):
        c = chr(b)
        table[b] = (
            _DIGIT * c.isdigit()
            | _UPPER * c.isupper()
            | _LOWER * c.islower()
            | _HEX * (c in "0123456789abcdef")
            | _UNDERSCORE * (c == "_")
            | _HYPHEN * (c == "-")
            | _STOP * (c == ".")
            | _SLASH * (c == "/")
        )
    return table


_FORMS = _forms()
_CLASSES = _classes()
_PEM = np.frombuffer(b"PRIVATE KEY", np.uint8)
_MAX_HEADER = 64
_KEY_LINE = 16
"""Characters without a blank that are still key material when the END line is missing."""


@kernel
def _key_end(data, i, high, classes, forms):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after the API key that begins at i, or i."""
    b = data[i]
    for f in range(forms.first[b], forms.first[b + 1]):
        start = forms.offsets[f]
        n = forms.offsets[f + 1] - start
        if i + n > high:
            continue
        same = True
        for m in range(1, n):
            if data[i + m] != forms.data[start + m]:
                same = False
                break
        if not same:
            continue
        low, most, chars, token = forms.limits[f, 0], forms.limits[f, 1], forms.limits[f, 2], forms.limits[f, 3]
        j = i + n
        digit, letter, stops = False, False, 0
        while j < high and j - i - n <= most and classes[data[j]] & chars:
            digit |= is_digit(data[j])
            letter |= is_letter(data[j])
            stops += data[j] == 0x2E
            j += 1
        while j > i and (data[j - 1] == 0x2E or data[j - 1] == 0x2D):  # punctuation after the key
            stops -= data[j - 1] == 0x2E
            j -= 1
        length = j - i - n
        if not low <= length <= most or not (digit and letter):
            continue
        if j < high and (is_letter(data[j]) or is_digit(data[j])):
            continue
        if token and stops != 2:
            continue
        return j
    return i


@kernel
def _dashes(data, i, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether five hyphens stand at i."""
    k = i
    while k < high and k < i + 5 and data[k] == 0x2D:
        k += 1
    return k == i + 5


@kernel
def _pem_end(data, i, high, pem):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Byte after the PEM private key whose five hyphens stand at i, or i. A truncated one ends where its text does."""
    j = i + 5
    if j + 5 > high or data[j] != 0x42 or data[j + 1] != 0x45 or data[j + 2] != 0x47:  # BEG(IN)
        return i
    header = j
    private = False
    while j < high and j - header < _MAX_HEADER and data[j] != 0x2D:
        if data[j] == 0x50 and j + len(pem) <= high:
            same = True
            for k in range(len(pem)):
                if data[j + k] != pem[k]:
                    same = False
                    break
            private |= same
        j += 1
    if not private or not _dashes(data, j, high):
        return i
    j += 5
    end = j
    line = 0
    while j < high:
        b = data[j]
        if b == 0x2D and _dashes(data, j, high):
            break
        body = is_letter(b) or is_digit(b) or b == 0x2B or b == 0x2F or b == 0x3D
        if not (body or b <= 0x20 or b == 0x3A or b == 0x2C or b == 0x2D or b == 0x5C or b == 0x22):
            break
        j += 1
        line = line + 1 if body else 0
        if line >= _KEY_LINE:
            end = j
    if _dashes(data, j, high) and j + 8 < high and data[j + 5] == 0x45 and data[j + 6] == 0x4E and data[j + 7] == 0x44:
        k = j + 8  # END
        while k < high and k - j < _MAX_HEADER and data[k] != 0x2D and data[k] != 0x0A:
            k += 1
        while k < high and data[k] == 0x2D:
            k += 1
        return k
    return end


@kernel
def _next_pair(text, i, high, pairs):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The first place at or after i where one of `pairs` begins, and what follows is long enough for a key; or high."""
    data, blocks = text.data, text.places[SECRET]
    while i < high - 1:
        i = next_place(blocks, i, high - 1)
        stop = min(high - 1, (i // BLOCK + 1) * BLOCK)
        for j in range(i, stop):
            if pairs[256 * np.int64(data[j]) + data[j + 1]]:
                return j
        i = stop
    return high


@kernel
def _scan(text, spans, api_code, pem_code, classes, forms, pem):  # type: ignore[no-untyped-def]  # pragma: no cover
    data, offsets = text.data, text.offsets
    n = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i = low
        while i + 1 < high:
            b = data[i]
            if not forms.pairs[256 * np.int64(b) + data[i + 1]]:
                i = _next_pair(text, i + 1, high, forms.pairs)
                continue
            end, code = i, api_code
            if b == 0x2D:
                if pem_code >= 0 and _dashes(data, i, high):
                    end, code = _pem_end(data, i, high, pem), pem_code
                    if end == i:
                        while i < high and data[i] == 0x2D:
                            i += 1
                        continue
            elif api_code >= 0:
                before = data[i - 1] if i > low else np.uint8(0x20)
                inside = is_letter(before) or is_digit(before) or before == 0x5F or before == 0x2D or before == 0x2E
                if not inside:
                    end = _key_end(data, i, high, classes, forms)
            if end > i:
                n = put(spans, n, i, end, code)
                i = end
            else:
                i += 1
    return n


def scan_secrets(text: Text, codes: dict[str, int]) -> np.ndarray:
    """int64[n, 3]: spans of the kinds in `codes` (api_key, private_key)."""
    api, pem = codes.get("api_key", -1), codes.get("private_key", -1)
    return collect(_scan, text, api, pem, _CLASSES, _FORMS, _PEM)
