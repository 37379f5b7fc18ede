"""A small curated corpus of random words, and a configuration to match."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypt.tokens.config import TokensConfig
from raypt.tokens.parts import part_uris

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"
WORDS = [
    *("the", "of", "sea", "ship", "engine", "water", "light", "cold", "house", "river", "don't", "naïve"),
    *("中文", "文本", "распознавание", "2024", ",", ".", "\n", ""),
]


def write_parts(directory: Path, sources: list[list[str]], seed: int = 0, words: int = 120) -> list[str]:
    """One curated part a list; each entry is the source of one document of random words."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    for part, names in enumerate(sources):
        table = {
            "doc_key": pa.array([(part << 32) + i for i in range(len(names))], pa.int64()),
            "id": pa.array([None] * len(names), pa.string()),
            "source": pa.array(names, pa.string()),
            "lang": pa.array(["zh" if i % 2 == 0 else "en" for i in range(len(names))], pa.string()),
            "text": [" ".join(rng.choice(WORDS, rng.integers(1, words))) for _ in names],
        }
        pq.write_table(pa.table(table), directory / f"part-{part:05d}.parquet")
    return part_uris(str(directory))


def small_config(**overrides: Any) -> TokensConfig:
    """S = 32, a vocabulary of 320; `overrides` are sections of the configuration."""
    base: dict[str, Any] = {
        "tokenizer": {"vocab_size": 320},
        "packing": {"sequence_length": 32},
        "stream": {"window_shards": 2, "stall_timeout_s": 20},
        "heldout": {"fraction": 0.05},
    }
    return TokensConfig.model_validate({k: {**base.get(k, {}), **overrides.get(k, {})} for k in {*base, *overrides}})


def corpus_texts(every: int = 10) -> list[str]:
    """Real documents in many languages from the shared corpora; none where they are absent."""
    files = ("multilingual/udhr.jsonl.gz", "reference/speeches_en.dev.jsonl.gz", "multilingual/xquad_parallel.jsonl.gz")
    present = [CORPORA / f for f in (*files, "web/pages_text.dev.jsonl.gz") if (CORPORA / f).exists()]
    rows = [line for f in present for line in gzip.decompress(f.read_bytes()).decode().split("\n")[::every]]
    return [json.loads(line)["text"] for line in rows if line.strip()]
