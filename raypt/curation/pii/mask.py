"""Mask personal data and secrets in a batch of text, and say what was masked where."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from raypt.curation.pii.config import KINDS, Kind, PiiConfig
from raypt.curation.pii.email import scan_email
from raypt.curation.pii.fold import fold
from raypt.curation.pii.identities import DOCUMENTS, scan_identities
from raypt.curation.pii.ip import scan_ip
from raypt.curation.pii.numbers import scan_numbers
from raypt.curation.pii.places import Text, prepare
from raypt.curation.pii.secrets import scan_secrets
from raypt.curation.pii.user import scan_user
from raypt.kernels import allocating_kernel, kernel
from raypt.text.buffers import string_buffers

Scanner = Callable[[Text, dict[str, int]], np.ndarray]

SCANNERS: tuple[tuple[Scanner, frozenset[str]], ...] = (
    (scan_email, frozenset({"email", "url_credentials"})),
    (scan_ip, frozenset({"ipv4", "ipv6"})),
    (scan_numbers, frozenset({"phone", "credit_card", "iban", "cn_id", "us_ssn"})),
    (scan_identities, frozenset({"wechat", "qq", *DOCUMENTS})),
    (scan_secrets, frozenset({"api_key", "private_key"})),
    (scan_user, frozenset({"user"})),
)
"""Each scanner with the kinds it finds; it is run if any of them is wanted."""

SPAN_TYPE = pa.list_(
    pa.struct([pa.field("kind", pa.string()), pa.field("start", pa.int32()), pa.field("end", pa.int32())])
)
"""Type of the attribute column: what was masked; `start`, `end` are UTF-8 byte offsets in the text before masking."""


def find_spans(text: Text, kinds: tuple[Kind, ...]) -> np.ndarray:
    """int64[n, 3]: (first byte, byte after the last, index in KINDS) of what was found, ordered, without overlaps.

    Bytes are counted in `text.data`. Where two findings overlap, their union is one span of the longer one's kind.
    """
    codes: dict[str, int] = {kind: KINDS.index(kind) for kind in kinds}
    wanted = [(scan, {kind: codes[kind] for kind in known & codes.keys()}) for scan, known in SCANNERS]
    found = [scan(text, some) for scan, some in wanted if some]
    if not found:
        return np.zeros((0, 3), np.int64)
    spans = np.concatenate(found)
    folded = fold(text)
    if folded is not None:
        instead = np.concatenate([scan(folded.text, some) for scan, some in wanted if some])
        instead[:, 0], instead[:, 1] = folded.original(instead[:, 0]), folded.original(instead[:, 1])
        documents = np.searchsorted(text.offsets, spans[:, 0], side="right") - 1
        spans = np.concatenate([spans[~folded.documents[documents]], instead])
    if len(spans) < 2:
        return spans
    merged: np.ndarray = _merged(spans[np.lexsort((spans[:, 2], -spans[:, 1], spans[:, 0]))])
    return merged


@allocating_kernel
def _merged(spans):  # type: ignore[no-untyped-def]  # pragma: no cover
    out = np.empty_like(spans)
    n = 0
    longest = np.int64(0)
    for k in range(len(spans)):
        start, end, kind = spans[k, 0], spans[k, 1], spans[k, 2]
        if n and start < out[n - 1, 1]:
            if end - start > longest:
                out[n - 1, 2] = kind
                longest = end - start
            out[n - 1, 1] = max(out[n - 1, 1], end)
            continue
        out[n, 0], out[n, 1], out[n, 2] = start, end, kind
        longest = end - start
        n += 1
    return out[:n]


@kernel
def _append(out, w, data, first, end):  # type: ignore[no-untyped-def]  # pragma: no cover
    """w after the bytes of `data` in [first, end), which are written at w."""
    source, target = data[first:end], out[w : w + end - first]
    for k in range(len(target)):
        target[k] = source[k]
    return w + end - first


@kernel
def _rewrite(data, offsets, spans, masks, mask_offsets, out, out_offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy the text with the mask of its kind in place of each span."""
    w = 0
    s = 0
    for doc in range(len(offsets) - 1):
        i = offsets[doc]
        high = offsets[doc + 1]
        while s < len(spans) and spans[s, 0] < high:
            start, end, kind = spans[s, 0], spans[s, 1], spans[s, 2]
            w = _append(out, w, data, i, start)
            w = _append(out, w, masks, mask_offsets[kind], mask_offsets[kind + 1])
            i = end
            s += 1
        w = _append(out, w, data, i, high)
        out_offsets[doc + 1] = w
    return w


def mask_pii(text: pa.Array | pa.ChunkedArray, config: PiiConfig) -> tuple[pa.Array, pa.Array, dict[str, int]]:
    """(masked text, spans of type SPAN_TYPE, number of spans by kind) of a string or large_string array.

    The masked text has the type of `text`; null stays null, with no spans. Text without anything to mask is returned as
    it is.
    """
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    large = text.cast(pa.large_string())
    filled = large.fill_null("") if large.null_count else large
    marked = prepare(*string_buffers(filled))
    data, offsets = marked.data, marked.offsets
    spans = find_spans(marked, config.kinds)
    columns = _span_column(spans, offsets)
    counts = np.bincount(spans[:, 2], minlength=len(KINDS))
    by_kind: dict[str, int] = {kind: int(n) for kind, n in zip(KINDS, counts, strict=True) if n}
    if len(spans) == 0:
        return text, columns, by_kind
    encoded = [config.mask(kind).encode() for kind in KINDS]
    mask_bytes = np.frombuffer(b"".join(encoded), np.uint8)
    mask_lengths = np.array([len(m) for m in encoded], np.int64)
    mask_offsets = np.concatenate([[0], np.cumsum(mask_lengths)])
    size = int(offsets[-1] - offsets[0] - (spans[:, 1] - spans[:, 0]).sum() + mask_lengths[spans[:, 2]].sum())
    out, out_offsets = np.empty(size, np.uint8), np.zeros(len(text) + 1, np.int64)
    written = _rewrite(data, offsets, spans, mask_bytes, mask_offsets, out, out_offsets)
    assert written == size
    masked = pa.LargeStringArray.from_buffers(len(text), pa.py_buffer(out_offsets), pa.py_buffer(out))
    if large.null_count:
        masked = pa.compute.if_else(large.is_valid(), masked, pa.scalar(None, pa.large_string()))
    return masked.cast(text.type), columns, by_kind


def _span_column(spans: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """SPAN_TYPE array: the spans of each document, relative to its start."""
    bounds = np.searchsorted(spans[:, 0], offsets).astype(np.int32)
    doc = np.searchsorted(offsets, spans[:, 0], side="right") - 1
    base = offsets[doc] if len(spans) else np.zeros(0, np.int64)
    kinds = pa.DictionaryArray.from_arrays(pa.array(spans[:, 2], pa.int32()), pa.array(KINDS)).cast(pa.string())
    starts, ends = ((spans[:, c] - base).astype(np.int32) for c in (0, 1))
    values = pa.StructArray.from_arrays([kinds, pa.array(starts), pa.array(ends)], fields=list(SPAN_TYPE.value_type))
    return pa.ListArray.from_arrays(pa.array(bounds), values).cast(SPAN_TYPE)
