"""Does the main job give the same run in two checkouts? `python -m tests.same_run OTHER_CHECKOUT`, from this one.

Both run `jobs/pretrain.py` over one fixed text (the docstrings of the standard library's modules and some Chinese, made
here, so that no installed package changes it), and what they leave is compared: the rows of `curated/` and `removed/`,
the packed tokens of the store, and the loss of every step, bit by bit. Prints a line a kind and exits with 1 if one
differs. Not a test by itself: it takes two runs of the main job, and another checkout.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

HERE = Path(__file__).resolve().parent.parent
STEPS = 20
SETTINGS = (
    "run.seed=7",
    "ray.num_cpus=2",
    "ray.dashboard=false",
    "curation.preset=documentation",
    "dedup.max_removed_fraction=0.9",
    "tokens.tokenizer.vocab_size=2048",
    "tokens.packing.sequence_length=256",
    "train.global_batch_tokens=2048",
    "train.micro_batch_size=2",
    "train.workers=2",
    f"train.steps={STEPS}",
    "train.schedule.warmup_steps=5",
    "model.num_layers=2",
    "model.hidden_size=64",
    "model.num_heads=4",
    "model.num_kv_heads=2",
)


def write_texts(folder: Path) -> None:
    """Two JSON Lines files: docstrings of the standard library, twice for some, and sentences in Chinese."""
    rows = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_bytes())
        found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        text = "\n\n".join(doc for doc in found if doc)
        if len(text) > 400:
            rows.append({"id": path.name, "text": text})
    rows += [{"id": f"copy-{row['id']}", "text": row["text"]} for row in rows[::7]]
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places, deeds = ("河边", "山上", "城里", "学校旁", "海边"), ("散步", "读书", "唱歌", "种花", "下棋", "钓鱼", "画画")
    chinese = [
        {
            "id": f"zh-{i}",
            "text": "".join(f"第{i * k % 17}天，我们在{p}{d}。" for k, d in enumerate(deeds) for p in places),
        }
        for i in range(40)
    ]
    (folder / "zh.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chinese))


def run(checkout: Path, texts: Path, out: Path) -> None:
    settings = [*SETTINGS, f"run.dir={out}", f'corpus.sources=[{{"name": "text", "paths": ["{texts}/*.jsonl"]}}]']
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "jobs/pretrain.py", *settings]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{checkout}: exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def rows_of(folder: Path, columns: list[str]) -> str:
    tables = [pq.read_table(path, columns=columns) for path in sorted(folder.glob("*.parquet"))]
    rows = pa.concat_tables(tables).sort_by("doc_key").to_pylist()
    return f"{len(rows)} rows {xxhash.xxh3_64_hexdigest(json.dumps(rows, ensure_ascii=False).encode())}"


def tokens_of(folder: Path) -> str:
    from raypt.tokens.store.files import TokenStore

    store, digest = TokenStore(str(folder)), xxhash.xxh3_64()
    for shard in store.shards():
        import numpy as np

        rows = np.arange(store.shard(shard).rows)
        for part in store.shard(shard).read(rows):
            digest.update(part.tobytes())
    return f"{len(store)} samples {digest.hexdigest()}"


def digests(out: Path) -> dict[str, Any]:
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "curated": rows_of(out / "curated", ["doc_key", "id", "source", "lang", "text"]),
        "removed": rows_of(out / "removed", ["doc_key", "id", "source", "stage", "reason"]),
        "tokens": tokens_of(out / "tokens"),
        "losses": " ".join(repr(row["loss"]) for row in metrics),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout of raypt")
    other = parser.parse_args().other.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "texts"
        texts.mkdir()
        write_texts(texts)
        found = []
        for name, checkout in (("other", other), ("here", HERE)):
            run(checkout, texts, Path(scratch) / name)
            found.append(digests(Path(scratch) / name))
    differing = [kind for kind in found[0] if found[0][kind] != found[1][kind]]
    for kind in found[0]:
        mark = "differs" if kind in differing else "same"
        print(f"{kind}: {mark}\n  other {found[0][kind][:200]}\n  here  {found[1][kind][:200]}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
