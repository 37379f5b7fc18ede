"""jobs/tokenize.py: text to a token store and to other programs' files, without training; their files to a store."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raypt.tokens.formats import megatron
from raypt.tokens.store.files import TokenStore
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.jobs.helpers import ROOT, TINY, rows, run_here, run_job


@pytest.fixture(scope="module")
def tokenized(cluster_address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("tokenize")
    options = ["run.dir=out", "curation.quality.reference=[]", "tokens.export.formats=[megatron, nanogpt]"]
    done = run_job("tokenize.py", *TINY, *options, cwd=cwd, address=cluster_address)
    assert done.returncode == 0, done.stderr[-3000:]
    return cwd / "out"


def test_scripts_beside_it_still_have_the_standard_librarys_tokenize() -> None:
    code = (
        "import tokenize, inspect, linecache; "
        "print(tokenize.__name__, len(list(tokenize.generate_tokens(iter(['a']).__next__))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "jobs", capture_output=True, text=True)
    assert done.stdout.split() == ["tokenize", "3"], done.stderr
    assert run_job("export.py", "--help", cwd=ROOT).returncode == 0


def test_every_curated_document_is_in_the_store_and_in_the_export(tokenized: Path) -> None:
    figures = json.loads((tokenized / "tokens.json").read_text())
    store, held = TokenStore(str(tokenized / "tokens")), TokenStore(str(tokenized / "tokens" / "heldout"))
    assert len(store) == figures["samples"] > 10
    documents = rows(tokenized / "curated")
    assert figures["documents"] + sum(held.account(s)["documents"] for s in held.shards()) == len(documents)
    assert not (tokenized / "checkpoints").exists()
    out = tokenized / "token-export"
    assert np.fromfile(out / "nanogpt" / "train.bin", np.uint16).size == figures["tokens"]
    tokenizer = Tokenizer.load(str(tokenized / "tokenizer"))
    found = []
    for split in ("train", "heldout"):
        for prefix in sorted(p.with_suffix("") for p in (out / "megatron" / split).glob("*.idx")):
            found += [tokenizer.decode(d.tolist()) for d in megatron.read(str(prefix), "s")]
    assert sorted(found) == sorted(documents["text"].to_pylist())


def test_a_store_is_made_of_megatron_files(cluster_address: str, tokenized: Path) -> None:
    prefixes = sorted(str(p.with_suffix("")) for p in (tokenized / "token-export" / "megatron" / "train").glob("*.idx"))
    options = [f"tokens.megatron={{docs: {json.dumps(prefixes)}}}", f"tokens.tokenizer.path={tokenized / 'tokenizer'}"]
    done = run_job(
        "tokenize.py", *TINY, *options, "run.dir=imported", "tokens.heldout.fraction=0", cwd=tokenized.parent,
        address=cluster_address,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    figures = [json.loads((tokenized.parent / d / "tokens.json").read_text()) for d in ("out", "imported")]
    assert figures[1]["tokens"] == figures[0]["tokens"] and figures[1]["documents"] == figures[0]["documents"]
    again = run_here("tokenize", *TINY, "tokens.megatron={docs: [x]}", "run.dir=other", cwd=tokenized.parent)
    assert again.returncode == 2 and "tokenizer.path" in again.stderr
