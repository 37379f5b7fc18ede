"""Names and attributes in the bytes of serialised markup, for kernels."""

import numpy as np

from raypt.corpus.html.names import FNV_OFFSET, FNV_PRIME
from raypt.kernels import kernel

_OFFSET, _PRIME = np.uint64(FNV_OFFSET), np.uint64(FNV_PRIME)
_EMPTY = np.uint64(0)


@kernel
def look_up(h, keys, values):  # type: ignore[no-untyped-def]
    """The value of a name's hash in a NameTable, 0 if it has none."""
    mask = np.int64(len(keys) - 1)
    slot = np.int64(h & np.uint64(mask))
    while keys[slot] != _EMPTY:
        if keys[slot] == h:
            return np.uint32(values[slot])
        slot = (slot + 1) & mask
    return np.uint32(0)


@kernel
def hash_range(data, start, end):  # type: ignore[no-untyped-def]
    """names.name_hash of the bytes [start, end)."""
    h = _OFFSET
    for i in range(start, end):
        c = data[i]
        if 65 <= c <= 90:
            c += 32
        h = (h ^ np.uint64(c)) * _PRIME
    return h


@kernel
def next_attribute(data, at, end):  # type: ignore[no-untyped-def]
    """(name start, name end, value start, value end, where to go on) of the attribute that begins at or after `at`, in
    the form `name="value"`; an empty name at the end of the tag. Names can hold quotation marks and begin with "="."""
    while at < end and (data[at] <= 32 or data[at] == 47):
        at += 1
    name = at
    if at < end and data[at] != 62:
        at += 1
    while at < end and data[at] > 32 and data[at] != 61 and data[at] != 62 and data[at] != 47:
        at += 1
    name_end = value = value_end = at
    if at + 1 < end and name_end > name and data[at] == 61 and data[at + 1] == 34:
        value = value_end = at + 2
        while value_end < end and data[value_end] != 34:
            value_end += 1
        at = value_end + 1
    return name, name_end, value, value_end, at
