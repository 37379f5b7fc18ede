"""Two checkouts over one fixed text: what changed in what a run writes, and in what it learns.

    python -m tests.same_run OTHER_CHECKOUT [--steps 40]

Both curate, deduplicate, tokenize and train on the same JSON Lines with the same options. Printed is, for curated text,
removed documents and token shards, whether the two are the same, and the largest relative difference of the losses.
First weights follow from the code that draws them, so the second comparison begins both from the *other* checkout's:
what then differs is arithmetic or the order of the samples. Exit 1 if anything differs that is not in `MEANT`.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa

from tests.jobs.helpers import TINY, metrics, rows
from tests.jobs.test_pretrain import standard_library

HERE = Path(__file__).resolve().parent.parent
OPTIONS = [*TINY, "ray.dashboard=false", "train.optimizer.lr=0.003", "corpus.sources[0].paths=text.jsonl"]
STANDING = 1e-12
"""A learning rate that moves no fp32 weight: the export of one step is the first weights."""
MEANT = {"gopher_quality.bullet_line_fraction": "counts the bullets that datatrove counts, not `*`"}
"""Values that changed on purpose since 3f410f2, with the reason."""
SAME_SUMS = 1e-6
"""Relative difference of two fp32 losses that are one sum in two orders."""


def chinese(documents: int = 60) -> list[str]:
    """JSON Lines of paragraphs drawn from a small stock of sentences, the same at every call."""
    stock = (
        "我们的城市在河边，这里的人都喜欢在傍晚散步和聊天。", "图书馆从早上八点开到晚上九点，星期一休息。",
        "他昨天买了三本书，其中一本讲的是历史。", "如果明天下雨，比赛就改到下个星期举行。",
        "老师让学生把实验的结果写成一份报告。", "这条路修好以后，从村里到县城只要半个小时。",
        "研究人员比较了两种方法，发现第二种更省时间。", "妈妈说，晚饭以前要把作业写完。",
    )  # fmt: skip
    draw = random.Random(3)
    texts = ["".join(draw.choices(stock, k=draw.randint(8, 30))) for _ in range(documents)]
    return [json.dumps({"id": f"zh-{i}", "text": text}, ensure_ascii=False) + "\n" for i, text in enumerate(texts)]


def pretrain(checkout: Path, name: str, scratch: Path, *options: str) -> Path:
    """The run directory of `jobs/pretrain.py` of a checkout."""
    command = [sys.executable, str(checkout / "jobs" / "pretrain.py"), *OPTIONS, f"run.name={name}", *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=900, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return scratch / "runs" / name


def flat(table: pa.Table) -> pa.Table:
    """The table with the metrics of a struct column as columns `rule.metric`."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def differing(a: pa.Table, b: pa.Table) -> list[str]:
    """Names of the columns that differ between two tables."""
    a, b = flat(a), flat(b)
    only = set(a.column_names) ^ set(b.column_names)
    if a.num_rows != b.num_rows:
        return [f"{a.num_rows} and {b.num_rows} rows", *sorted(only)]
    both = [name for name in a.column_names if name in b.column_names]
    return [name for name in both if a[name].to_pylist() != b[name].to_pylist()] + sorted(only)


def shards(run: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(run.glob("tokens/**/*.tok"))}


def largest(a: list[dict[str, float]], b: list[dict[str, float]]) -> float:
    assert len(a) == len(b), "one of the two trained fewer steps"
    return max(abs(x["loss"] - y["loss"]) / y["loss"] for x, y in zip(a, b, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="another checkout of raypt, whose first weights both begin from")
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    other, steps = arguments.other.resolve(), f"train.steps={arguments.steps}"
    differ = False
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        (scratch / "text.jsonl").write_text("".join([*standard_library(), *chinese()]))
        theirs = pretrain(other, "theirs", scratch, steps)
        # The default split pattern is newer than some checkouts; it is named where the key is there.
        split = ["tokens.tokenizer.split=gpt2"]
        ours = pretrain(HERE, "ours", scratch, steps, *split)
        for what in ("curated", "removed"):
            found = differing(rows(theirs / what), rows(ours / what))
            said = [f"{name} ({MEANT[name]})" if name in MEANT else name for name in found]
            print(f"{what}: {', '.join(said) or 'the same'} ({rows(ours / what).num_rows} documents)")
            differ |= bool(set(found) - set(MEANT))
        same = shards(theirs) == shards(ours)
        print(f"tokens: {'the same bytes' if same else 'other bytes'} ({len(shards(ours))} shards)")
        print(f"losses, each from its own first weights: {largest(metrics(ours), metrics(theirs)):.1e} apart")
        first = pretrain(other, "first", scratch, "train.steps=1", f"train.optimizer.lr={STANDING}")
        begun = pretrain(HERE, "begun", scratch, steps, *split, f"train.init.from={first / 'export'}")
        apart = largest(metrics(begun), metrics(theirs))
        print(f"losses of {arguments.steps} steps from the same first weights: {apart:.1e} apart")
        differ |= not same or apart > SAME_SUMS
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
