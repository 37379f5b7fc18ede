"""Text as a language identifier is asked about it: one line, words apart, not in capitals.

fastText ends a text at the first line feed and parts words at ASCII white space only, so a no-break space glues two
words to one it never saw; and models were trained on text in mixed case, of which capitals are another alphabet
(lid.176 takes English in capitals for German, Swedish or Hungarian). CCNet lower-cases everything (Wenzek et al. 2020);
here a document in mixed case stays as it is.
"""

import itertools

import numpy as np

from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.buffers import TextBatch

CAPITALS = 0.5
"""Share of capitals among cased letters above which a document is lower-cased. Title Case has about 0.2, German prose
0.1; a page whose headings alone are in capitals stays below it."""


@kernel
def _plain_spaces(data, offsets, pages, blocks, cased):  # type: ignore[no-untyped-def]
    """Overwrite line feeds and non-ASCII white space in `data` by blanks; capitals and small letters of each document
    into cased[D, 2]."""
    for d in range(len(offsets) - 1):
        i = offsets[d]
        end = offsets[d + 1]
        upper = lower = 0
        while i < end:
            b = data[i]
            if b < 0x80:
                upper += 0x41 <= b <= 0x5A
                lower += 0x61 <= b <= 0x7A
                if b == 0x0A:
                    data[i] = 0x20
                i += 1
                continue
            n = 2 if b < 0xE0 else (3 if b < 0xF0 else 4)
            c = np.int64(b & (0xFF >> (n + 1)))
            for m in range(1, n):
                c = c << 6 | data[i + m] & 0x3F
            flags = blocks[pages[c >> 8], c & 0xFF]
            upper += flags & u.UPPER != 0
            lower += flags & u.LOWER != 0
            if flags & u.SPACE:
                for m in range(n):
                    data[i + m] = 0x20
            i += n
        cased[d, 0], cased[d, 1] = upper, lower


def question_lines(text: TextBatch, max_bytes: int | None) -> list[str]:
    """What a model is asked for each document, of its first `max_bytes`: a line, ended by a line feed."""
    start = int(text.offsets[0])
    data = text.data[start : start + text.nbytes].copy()
    offsets = text.offsets - start
    cased = np.zeros((len(text), 2), np.int64)
    _plain_spaces(data, offsets, *u.tables(), cased)
    capitals = (cased[:, 0] > CAPITALS * cased.sum(axis=1)).tolist()
    raw = data.tobytes()
    limit = len(raw) if max_bytes is None else max_bytes
    lines = [raw[a : min(b, a + limit)].decode("utf-8", "ignore") for a, b in itertools.pairwise(offsets.tolist())]
    return [(line.lower() if shouted else line) + "\n" for line, shouted in zip(lines, capitals, strict=True)]
