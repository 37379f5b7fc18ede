"""Names of users as social networks write them, `@name`: BigScience's USER (bigscience-workshop/data-preparation,
preprocessing/training/02_pii/bigscience_pii_detect_redact.py).

A name begins at the start of the text or of a line, or after white space, `@,?!;:'")(` or a Chinese or Japanese
character, and goes on to the next white space or one of these signs, three characters at least. Beyond it: it ends at
punctuation beyond ASCII, too (`@张三丰，你好`), and a full stop at its end is the sentence's.
"""

import numpy as np

from raypt.curation.pii.buffers import byte_table, collect, put
from raypt.curation.pii.places import AT, Text, next_place
from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.utf8 import character, character_start

_SIGNS = byte_table(b"@,?!;:'\")(")
FEWEST = 3
"""Characters of a name."""


@kernel
def _scan(text, spans, code, signs, pages, blocks, fewest):  # type: ignore[no-untyped-def]  # pragma: no cover
    data, offsets, ats = text.data, text.offsets, text.places[AT]
    n = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i = next_place(ats, low, high)
        while i < high:
            begins = i == low
            if not begins:
                c, _ = character(data, character_start(data, i - 1, low))
                flags = blocks[pages[c >> 8], c & 0xFF]
                begins = flags & (u.SPACE | u.UNSPACED) != 0 or (c < 0x80 and signs[c])
            end = i + 1
            if begins:
                chars, last = 0, end  # `last`: after the last character that is no full stop
                name = 0
                while end < high:
                    c, width = character(data, end)
                    flags = blocks[pages[c >> 8], c & 0xFF]
                    if flags & u.SPACE or (signs[c] if c < 0x80 else flags & u.PUNCT != 0):
                        break
                    end += width
                    chars += 1
                    if c != 0x2E:
                        last, name = end, chars
                if name >= fewest:
                    n = put(spans, n, i, last, code)
            i = next_place(ats, end, high)
    return n


def scan_user(text: Text, codes: dict[str, int]) -> np.ndarray:
    """int64[n, 3]: spans of user names, if `codes` has the kind `user`."""
    return collect(_scan, text, codes["user"], _SIGNS, *u.tables(), FEWEST)
