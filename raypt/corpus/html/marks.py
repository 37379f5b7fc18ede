"""What an element's attributes say about it: class names and ids, roles, visibility."""

import numpy as np

from raypt.corpus.html import names
from raypt.corpus.html.tokens import hash_range, look_up, next_attribute
from raypt.kernels import kernel

# Beside the flags of names.WORDS:
ROLE_MAIN = 1 << 16
ARTICLE_BODY = 1 << 17
LINK = 1 << 18  # leads to another page

_CLASS, _ID, _ROLE, _ITEMPROP = (np.uint64(names.name_hash(n)) for n in ("class", "id", "role", "itemprop"))
_STYLE, _HIDDEN, _ARIA_HIDDEN = (np.uint64(names.name_hash(n)) for n in ("style", "hidden", "aria-hidden"))
_HREF, _TRUE, _UNTIL_FOUND = (np.uint64(names.name_hash(n)) for n in ("href", "true", "until-found"))
_DISPLAY, _NONE, _VISIBILITY = (np.uint64(names.name_hash(n)) for n in ("display", "none", "visibility"))
_BODY = np.uint64(names.name_hash("articleBody"))
_TOPIC = np.uint32(names.TOPIC)
_WHOLE = np.uint32(names.WHOLE)

ROLES = names.name_table(
    {
        "navigation": names.NAVIGATION,
        "menu": names.NAVIGATION,
        "menubar": names.NAVIGATION,
        "tablist": names.NAVIGATION,
        "toolbar": names.NAVIGATION,
        "search": names.NAVIGATION,
        "directory": names.NAVIGATION,
        "banner": names.HEAD,
        "contentinfo": names.FOOTER,
        "complementary": names.SIDE,
        "dialog": names.OVERLAY,
        "alertdialog": names.OVERLAY,
        "main": ROLE_MAIN,
        "doc-toc": names.NAVIGATION,
    }
)


@kernel
def _is_letter(c):  # type: ignore[no-untyped-def]
    return 97 <= c <= 122 or 65 <= c <= 90


@kernel
def _words(data, start, end, keys, values):  # type: ignore[no-untyped-def]
    """Flags of class names: of each name as a whole, and of each run of letters in it (camelCase is cut)."""
    flags = np.uint32(0)
    at = start
    while at < end:
        while at < end and data[at] <= 32:
            at += 1
        begin = at
        while at < end and data[at] > 32:
            at += 1
        if at == begin:
            continue
        whole = look_up(hash_range(data, begin, at), keys, values)
        flags |= whole & ~_WHOLE
        run = at if whole & _TOPIC else begin
        while run < at:
            while run < at and not _is_letter(data[run]):
                run += 1
            first = run
            while run < at and _is_letter(data[run]) and (run == first or data[run] >= 97 or data[run - 1] < 97):
                run += 1
            if run > first and run - first < at - begin:
                found = look_up(hash_range(data, first, run), keys, values)
                if not found & _WHOLE:
                    flags |= found
    return flags


@kernel
def _style_hides(data, start, end):  # type: ignore[no-untyped-def]
    """Whether `display:none` or `visibility:hidden` is declared."""
    at = start
    while at < end:
        while at < end and not _is_letter(data[at]):
            at += 1
        begin = at
        while at < end and (_is_letter(data[at]) or data[at] == 45):
            at += 1
        name = hash_range(data, begin, at)
        while at < end and data[at] <= 32:
            at += 1
        if at < end and data[at] == 58:
            at += 1
            while at < end and data[at] <= 32:
                at += 1
            begin = at
            while at < end and _is_letter(data[at]):
                at += 1
            value = hash_range(data, begin, at)
            if (name == _DISPLAY and value == _NONE) or (name == _VISIBILITY and value == _HIDDEN):
                return True
        while at < end and data[at] != 59:
            at += 1
    return False


@kernel
def flags_of(data, at, end, with_id, word_keys, word_values, role_keys, role_values):  # type: ignore[no-untyped-def]
    """(what the attributes that begin at `at` say, position of the ">" that ends their tag). `with_id`: an id says what
    the element is for, not what the text is about."""
    found = np.uint32(0)
    while True:
        begin, name_end, first, last, at = next_attribute(data, at, end)
        length = name_end - begin
        if length == 0:
            return found, min(at, end)
        # The names that matter have 2 (id), 4, 5, 6, 8 or 11 letters.
        if length > 11 or length < 2 or length == 3 or length == 7:
            continue
        name = hash_range(data, begin, name_end)
        if name == _CLASS or (name == _ID and with_id):
            found |= _words(data, first, last, word_keys, word_values)
        elif name == _ROLE:
            found |= look_up(hash_range(data, first, last), role_keys, role_values)
        elif name == _ITEMPROP:
            if hash_range(data, first, last) == _BODY:
                found |= np.uint32(ARTICLE_BODY)
        elif name == _STYLE:
            if _style_hides(data, first, last):
                found |= np.uint32(names.HIDDEN)
        elif name == _HIDDEN:
            if hash_range(data, first, last) != _UNTIL_FOUND:
                found |= np.uint32(names.HIDDEN)
        elif name == _ARIA_HIDDEN:
            if hash_range(data, first, last) == _TRUE:
                found |= np.uint32(names.HIDDEN)
        elif name == _HREF and last > first:
            found |= np.uint32(LINK)


@kernel
def attribute(data, lo, hi, name):  # type: ignore[no-untyped-def]
    """(start, end) of the value of the attribute whose name has this hash; (-1, -1) without it."""
    at = lo
    while at < hi:
        begin, end, first, last, at = next_attribute(data, at, hi)
        if end > begin and hash_range(data, begin, end) == name:
            return first, last
    return -1, -1


@kernel
def number_attribute(data, lo, hi, name, default):  # type: ignore[no-untyped-def]
    """The number that an attribute begins with, at most 999,999, or the default."""
    first, last = attribute(data, lo, hi, name)
    number, found = 0, False
    while 0 <= first < last and 48 <= data[first] <= 57 and number < 100_000:
        number, found = 10 * number + data[first] - 48, True
        first += 1
    return number if found else default
