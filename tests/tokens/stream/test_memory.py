"""Peak memory of tokenizing and of reading does not grow with the corpus: eight times the shards, the same peak."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.tokens.config import StreamConfig
from raypt.tokens.parts import part_uris
from raypt.tokens.stream.spec import StorePlan, plan_stream, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.helpers import WORDS, small_config

PARTS = 16
"""At 1x; as many as a reader keeps open at least, so that both sizes hold as many shards."""
TIMES = 8
PART_BYTES = 500_000
BOUND_MB = 20.0
"""What 8x may hold more than 1x: a ledger of some kB a shard, cursors of the clock and the allocator's noise come to a
few MB at most (measured: 1.3 and 0.1). Text that is kept would cost 56 MB, shards kept open 37 (the last test)."""

# VmHWM, not ru_maxrss: Linux hands the latter down from the parent through fork and exec.
CHILD = """
import json, pickle, sys
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.reader import SampleReader

what, *arguments = pickle.load(open(sys.argv[1], "rb"))
if what == "tokenize":
    count = sum(ledger.packed_tokens for ledger in tokenize_parts(*arguments))
else:
    count = sum(block["tokens"].shape[0] for block in SampleReader(*arguments).rank_blocks(0, 1))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"count": count, "peak_mb": int(status["VmHWM"].split()[0]) / 1e3 * 1.024}))
"""

Measured = dict[str, dict[str, float]]


def measure(file: Path, *call: Any) -> dict[str, float]:
    """Run one of CHILD's calls in a fresh process: what it counted, and its peak resident MB."""
    file.write_bytes(pickle.dumps(call))
    done = subprocess.run([sys.executable, "-c", CHILD, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_corpus(directory: Path, parts: int) -> list[str]:
    """Parts of PART_BYTES of random words each."""
    rng = np.random.default_rng(0)
    directory.mkdir()
    for part in range(parts):
        texts: list[str] = []
        while sum(map(len, texts)) < PART_BYTES:
            texts.append(" ".join(rng.choice(WORDS[:12], 2000)))
        keys = pa.array([(part << 32) + i for i in range(len(texts))], pa.int64())
        columns = {"doc_key": keys, "source": ["web"] * len(texts), "text": texts}
        pq.write_table(pa.table(columns), directory / f"part-{part:05d}.parquet")
    return part_uris(str(directory))


@pytest.fixture(scope="module")
def peaks(tokenizer_uri: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Measured]:
    """By times: tokenizing all shards, one pass of a reader with default windows, and one of a reader without."""
    root = tmp_path_factory.mktemp("memory")
    parts = write_corpus(root / "curated", PARTS * TIMES)
    out: dict[int, Measured] = {}
    for times in (1, TIMES):
        settings: dict[str, Any] = {
            "packing": {"sequence_length": 512},
            "mixture": {"limits": {"web": {"epochs": 1}}},
            "heldout": {"fraction": 0.0},
        }

        def spec(window: int | None, plan: StorePlan, settings: dict[str, Any] = settings) -> Any:
            config = small_config(**settings, stream={"window_shards": window})
            return plan_stream(plan, config, samples=10**9, global_batch=16, ranks=(1,))

        config = small_config(**settings)
        tokenizer = Tokenizer.load(tokenizer_uri)
        plan = prepare_store(parts[: PARTS * times], tokenizer, config, str(root / f"store-{times}"), seed=0)
        call = root / "call.pickle"
        out[times] = {
            "tokenize": measure(call, "tokenize", plan, config, tokenizer_uri),
            "read": measure(call, "read", spec(StreamConfig().window_shards, plan)),
        }
    out[TIMES]["read_all"] = measure(call, "read", spec(None, plan))
    return out


def growth(peaks: dict[int, Measured], what: str) -> float:
    """MB that the peak at 8x is above that at 1x; both must have handled their whole corpus."""
    one, many = peaks[1][what], peaks[TIMES][what]
    assert many["count"] > 0.99 * TIMES * one["count"] > 0
    return many["peak_mb"] - one["peak_mb"]


def test_tokenizing_eight_times_the_shards_takes_no_more_memory(peaks: dict[int, Measured]) -> None:
    assert growth(peaks, "tokenize") < BOUND_MB


def test_reading_eight_times_the_shards_takes_no_more_memory(peaks: dict[int, Measured]) -> None:
    assert growth(peaks, "read") < BOUND_MB


def test_a_full_permutation_maps_the_whole_store(peaks: dict[int, Measured]) -> None:
    """As `StreamConfig.window_shards` says; and what is held shows in the measure."""
    windows, whole = peaks[TIMES]["read"], peaks[TIMES]["read_all"]
    assert whole["count"] == windows["count"]
    assert whole["peak_mb"] > windows["peak_mb"] + BOUND_MB
