"""What the kernels compute, spelt out in plain Python, and small inputs for the tests."""

import gzip
import itertools
import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from datasketch import MinHash

from raypt import storage
from raypt.dedup import DedupShard

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"
MASK = (1 << 64) - 1


def mix64(x: int) -> int:
    x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCD & MASK
    x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53 & MASK
    return x ^ (x >> 33)


def unspaced(character: str) -> bool:
    name = unicodedata.name(character, "")
    scripts = (
        "CJK", "HIRAGANA", "KATAKANA", "HENTAIGANA", "VERTICAL KANA", "VERTICAL IDEOGRAPHIC", "MASU MARK", "THAI",
        "LAO", "MYANMAR", "KHMER", "JAVANESE", "IDEOGRAPHIC", "HANGZHOU", "BOPOMOFO", "NUSHU", "TAI LE", "NEW TAI LUE",
        "TAI THAM", "TAI VIET", "OLD CHINESE",
    )  # fmt: skip
    if name.startswith("IDEOGRAPHIC TALLY"):  # counting rods, not writing
        return False
    if name.endswith("VOICED SOUND MARK") and name.startswith("HALFWIDTH"):  # a part of the character before it
        return False
    return name.startswith(scripts) or "HALFWIDTH KATAKANA" in name


def tokens(text: str, unit: str = "word") -> list[str]:
    """Lower-cased words; a character of an unspaced script is a word; with unit "character" every letter is."""
    found: list[str] = []
    open_word = glued = False
    for c in text:
        category = unicodedata.category(c)
        lower = c.lower() if len(c.lower()) == 1 else c
        if category[0] == "M" or c in "ﾞﾟ":
            if found and (open_word or glued):
                found[-1] += c
            continue
        letter = category[0] in "LN" or c == "_"
        alone = letter and (unit == "character" or unspaced(c))
        if letter and open_word and not alone:
            found[-1] += lower
        elif letter:
            found.append(lower)
        open_word, glued = letter and not alone, letter
    return found


def shingle_hashes(text: str, ngram: int, unit: str = "word") -> list[int]:
    """The 32-bit hashes whose MinHash is taken."""
    hashes = []
    for token in tokens(text, unit):
        h = 0xCBF29CE484222325
        for c in token:
            h = (h ^ ord(c)) * 0x100000001B3 & MASK
        hashes.append(mix64(h))
    shingles = [hashes[i : i + ngram] for i in range(max(1, len(hashes) - ngram + 1))] if hashes else []
    rolled = []
    for shingle in shingles:
        value = 0
        for h in shingle:
            value = (value * 0x9E3779B97F4A7C15 + h) & MASK
        rolled.append(mix64(value) >> 32)
    return rolled


def datasketch_signature(text: str, ngram: int, num_perm: int, seed: int = 1, unit: str = "word") -> np.ndarray:
    sketch = MinHash(num_perm=num_perm, seed=seed, hashfunc=lambda h: h, scheme="affine32")
    for h in shingle_hashes(text, ngram, unit):
        sketch.update(h)
    return np.asarray(sketch.hashvalues)


def jaccard(a: str, b: str, ngram: int) -> float:
    x, y = set(shingle_hashes(a, ngram)), set(shingle_hashes(b, ngram))
    return len(x & y) / len(x | y) if x | y else 0.0


def documents(texts: Sequence[str], shard: int = 0, source: str | Sequence[str] = "web", **columns: Any) -> pa.Table:
    """A document table of one shard."""
    n = len(texts)
    names = [source] * n if isinstance(source, str) else list(source)
    return pa.table(
        {
            "doc_key": np.arange(n, dtype=np.int64) + (shard << 32),
            "id": pa.array([f"{shard}-{i}" for i in range(n)], pa.string()),
            "source": pa.array(names, pa.string()),
            "text": pa.array(list(texts), pa.string()),
            **columns,
        }
    )


def write_shards(directory: Path, tables: Sequence[pa.Table]) -> list[DedupShard]:
    """Write tables as shards; their indices come from their doc_keys."""
    shards = []
    for position, table in enumerate(tables):
        index = table["doc_key"][0].as_py() >> 32 if table.num_rows else position
        uri = str(directory / "docs" / f"shard-{index:05d}.parquet")
        storage.write_parquet(uri, table)
        shards.append(DedupShard(index, uri))
    return shards


def split(table: pa.Table, shards: int) -> list[pa.Table]:
    """The rows of one table over several shards, doc_keys renumbered."""
    bounds = np.linspace(0, table.num_rows, shards + 1).astype(int)
    parts = []
    for i, (a, b) in enumerate(itertools.pairwise(bounds)):
        keys = pa.array(np.arange(b - a, dtype=np.int64) + (i << 32))
        parts.append(table.slice(a, b - a).set_column(0, "doc_key", keys))
    return parts


def read_jsonl(name: str) -> list[dict[str, Any]]:
    """Rows of a file of the shared corpora; the test is skipped where it is absent."""
    path = CORPORA / name
    if not path.exists():
        pytest.skip(f"real-text check skipped: no {name} beside the repository")
    raw = path.read_bytes()
    data = gzip.decompress(raw) if path.suffix == ".gz" else zstandard.ZstdDecompressor().stream_reader(raw).read()
    return [json.loads(line) for line in data.splitlines()]


def removed_keys(work: Path, shards: Iterable[DedupShard]) -> dict[int, str]:
    """doc_key -> reason over the removed files of all shards."""
    found = {}
    for shard in shards:
        table = storage.read_parquet(str(work / "removed" / f"shard-{shard.index:05d}.parquet"))
        found.update(zip(table["doc_key"].to_pylist(), table["reason"].to_pylist(), strict=True))
    return found
