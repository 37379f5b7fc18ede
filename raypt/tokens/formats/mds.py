"""MosaicML streaming's MDS: samples of a fixed length in a column `tokens`, as LLM Foundry reads them.

Documents are concatenated and cut at every `length` tokens; the last sample of a part is shorter. A shard, by
streaming/base/format/mds (version 2), little-endian:

    u32 samples, u32[samples + 1] offsets in the file, JSON of the columns, samples: u32 size, encoded array
    array of `ndarray:int32` in one dimension: u8 (1 << 2 | 0, 1, 2 for a length of u8, u16, u32), length, i32[length]
"""

import json
import posixpath
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt.artefact import Output
from raypt.tokens.formats.documents import Documents

SIZE_LIMIT = 1 << 26
"""Bytes of a shard, streaming's own default."""
_COLUMNS: dict[str, Any] = {
    "column_encodings": ["ndarray:int32"],
    "column_names": ["tokens"],
    "column_sizes": [None],
    "compression": None,
    "format": "mds",
    "hashes": [],
    "size_limit": SIZE_LIMIT,
    "version": 2,
}
_WIDTHS = ((1 << 8, 0, "<u1"), (1 << 16, 1, "<u2"), (1 << 32, 2, "<u4"))


def check(vocab_size: int) -> None:
    """Every vocabulary fits."""


def write(output: Output, at: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    """Write `at`.0000.mds, ...; an entry of index.json for each."""
    ids = documents.ids.astype("<i4")
    samples = [_encode(ids[at : at + length]) for at in range(0, ids.size, length)]
    a_shard = max(1, SIZE_LIMIT // (len(samples[0]) + 4)) if samples else 1
    entries = []
    for i, first in enumerate(range(0, len(samples), a_shard)):
        chosen = samples[first : first + a_shard]
        path, data = f"{at}.{i:04d}.mds", _shard(chosen)
        output.write_bytes(path, data)
        raw = {"basename": posixpath.basename(path), "bytes": len(data), "hashes": {}}
        entries.append({**_COLUMNS, "raw_data": raw, "samples": len(chosen), "zip_data": None})
    return entries


def _encode(ids: npt.NDArray[np.int32]) -> bytes:
    code, kind = next((code, kind) for most, code, kind in _WIDTHS if ids.size < most)
    body = bytes([1 << 2 | code]) + np.array(ids.size, kind).tobytes() + ids.tobytes()
    return len(body).to_bytes(4, "little") + body


def _shard(samples: list[bytes]) -> bytes:
    config = json.dumps(_COLUMNS, sort_keys=True).encode()
    start = 4 + 4 * (len(samples) + 1) + len(config)
    offsets = start + np.cumsum([0, *map(len, samples)])
    return len(samples).to_bytes(4, "little") + offsets.astype("<u4").tobytes() + config + b"".join(samples)


def finish(output: Output, at: str, entries: list[dict[str, Any]], parts: list[str]) -> None:
    """`index.json`, which makes the shards one data set."""
    output.write_json(f"{at}/index.json", {"version": 2, "shards": entries})
