"""What the main job asks of an object store, by stage: python -m tests.jobs.requests_on_s3 [SHARDS ...] [--made-up MB]

A whole pretrain with inputs and run.dir on moto's S3 server, and the same command once more on the finished run. Prints
the requests a shard, and the places that most of them go to. A stage's requests are those before its mark
(`work/stages/<name>.json`); tokenizing works beside training and counts there. Training goes once through all shards
(5 steps a shard of 25 kB, 4 checkpoints) unless the number of steps is given. With several numbers of shards, also what
each shard more costs from the first to the last, and what is left for none. One to two minutes a run; starts Ray.

With --made-up, shards of so many MB of made-up text, and no cutting of repeated sentences, which is off by default.
"""

import argparse
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from raypt import storage
from raypt.config_io import load
from raypt.corpus import python_docs
from raypt.run.config import RunConfig
from tests.jobs.helpers import TINY, run_job
from tests.s3 import S3Server, s3_server

OPTIONS = [
    *[option for option in TINY if not option.startswith("corpus.")],
    "curation.stages=[language, gopher_quality]",
    "curation.quality.reference=[]",
    "corpus.shard_bytes=2k",
]
SHARD_BYTES = 25_000
"""Of text, before what curation removes."""
STEPS = 5
"""A shard: a pass over all of them."""


@dataclass(frozen=True)
class Asked:
    """One request, as it is counted."""

    stage: str
    operation: str
    """LIST, GET, HEAD, PUT, DELETE."""
    place: str
    """Of the key or the prefix, with numbers as N."""


def sorted_out(requests: Sequence[tuple[str, str]], bucket: str) -> list[Asked]:
    """Requests in their order, each with the stage that it was made in."""
    out: list[tuple[str, str]] = []
    stages: list[tuple[int, str]] = []
    for method, target in requests:
        parts = urlsplit(target)
        query, key = parse_qs(parts.query, keep_blank_values=True), unquote(parts.path).removeprefix(f"/{bucket}")
        if "prefix" in query:
            out.append(("LIST", place_of(query["prefix"][0])))
        else:
            out.append(("DELETE" if "delete" in query else method, place_of(key)))
        if method == "PUT" and (mark := re.search(r"/work/stages/(\w+)\.json$", key)):
            stages.append((len(out), mark[1]))
    asked, at = [], 0
    for end, stage in [*stages, (len(out), "end")]:
        asked += [Asked(stage, *request) for request in out[at:end]]
        at = end
    return asked


def place_of(key: str) -> str:
    """A key without what differs from shard to shard and run to run."""
    key = re.sub(r"^/?runs/[^/]*/?", "", key).strip("/")
    return re.sub(r"[0-9a-f]{12,}|\d+", "N", key) or "/"


def told(asked: Sequence[Asked], shards: int, rows: int = 24) -> str:
    """The table that is printed."""
    by_stage = Counter((a.stage, a.operation) for a in asked)
    stages = list(dict.fromkeys(a.stage for a in asked))
    operations = sorted({a.operation for a in asked})
    lines = ["stage".ljust(12) + "".join(o.rjust(8) for o in operations) + "   a shard"]
    for stage in stages:
        counts = [by_stage[stage, o] for o in operations]
        lines.append(stage.ljust(12) + "".join(str(c).rjust(8) for c in counts) + f"{sum(counts) / shards:10.1f}")
    lines.append(f"{len(asked)} requests, {len(asked) / shards:.1f} for each of {shards} shards; most of them:")
    places = Counter((a.stage, a.operation, a.place) for a in asked)
    lines += [f"{n:6d}  {stage:10} {operation:6} {place}" for (stage, operation, place), n in places.most_common(rows)]
    return "\n".join(lines)


def growth(few: Sequence[Asked], many: Sequence[Asked], shards: tuple[int, int], rows: int = 24) -> str:
    """By stage and place, what each shard more costs, and what is left for none."""

    def line(name: str, before: int, after: int) -> tuple[float, str]:
        each = (after - before) / (shards[1] - shards[0])
        return each, f"{name:24} {each:8.2f} {before - each * shards[0]:8.0f}"

    lines = [f"{'':24}  a shard    fixed   ({shards[0]} to {shards[1]} shards)"]
    lines.append(line("in all", len(few), len(many))[1])
    for stage in dict.fromkeys(a.stage for a in many):
        lines.append(line(stage, *(sum(a.stage == stage for a in asked) for asked in (few, many)))[1])
    before, after = (Counter((a.stage, a.operation, a.place) for a in asked) for asked in (few, many))
    places = [line(" ".join(place), before[place], after[place]) for place in before | after]
    return "\n".join([*lines, *(text for _, text in sorted(places, reverse=True)[:rows])])


WORDS = (
    *("the", "of", "and", "a", "to", "in", "is", "was", "that", "for", "with", "river", "bridge", "town", "house"),
    *("water", "people", "old", "new", "long", "went", "came", "saw", "made", "garden", "winter", "stone", "light"),
)


def made_up(rng: random.Random, documents: int) -> list[str]:
    """Texts of 3 kB, no two of them alike."""
    return [" ".join(rng.choices(WORDS, k=600)) for _ in range(documents)]


def write_texts(s3: S3Server, name: str, texts: list[str]) -> None:
    data = "\n".join(json.dumps({"text": text}) for text in texts).encode()
    storage.write_bytes(s3.uri("in", f"{name}.jsonl"), data)


def inputs(server: S3Server, scratch: Path, shards: int, shard_bytes: int) -> str:
    """So many JSON Lines files, each a shard."""
    size = shards * shard_bytes
    config = load(RunConfig, None, [f"corpus.builtin.max_bytes={size}", f"corpus.builtin.files={shards}"])
    python_docs.materialize(config.corpus.builtin, str(scratch / "text"))
    for path in sorted((scratch / "text" / python_docs.CORPUS_DIR).glob("*.jsonl*")):
        storage.write_bytes(server.uri("in", path.name), path.read_bytes())
    return server.uri("in")


MADE_UP = [
    "dedup.sentences.enabled=false",
    "tokens.heldout.fraction=0.01",
    "tokens.packing.sequence_length=256",
    "train.global_batch_tokens=16384",
    "train.micro_batch_size=8",
]
MADE_UP_STEPS = 14
"""A MB: a pass over all tokens."""


def made_up_inputs(server: S3Server, shards: int, megabytes: int) -> str:
    """So many JSON Lines files, which have four documents in common."""
    rng = random.Random(0)
    common = made_up(rng, 4)
    for shard in range(shards):
        write_texts(server, f"made-up-{shard:05d}", [*common, *made_up(rng, 290 * megabytes)])
    return server.uri("in")


def counted(shards: int, steps: int | None, megabytes: int | None) -> Iterator[tuple[str, list[Asked], int]]:
    """What a run, and the same command again, ask for; and how many shards there are. `megabytes` of made-up text each,
    or SHARD_BYTES of documentation.
    """
    with tempfile.TemporaryDirectory(prefix="raypt-asked-") as folder, s3_server(Path(folder)) as server:
        if megabytes is None:
            paths, more = inputs(server, Path(folder), shards, SHARD_BYTES), []
            steps = steps or STEPS * shards
        else:
            paths = made_up_inputs(server, shards, megabytes)
            more = [*MADE_UP, f"corpus.shard_bytes={megabytes}M"]
            steps = steps or MADE_UP_STEPS * megabytes * shards
        command = [
            *OPTIONS, *more, f"corpus.sources=[{{name: docs, paths: {paths}}}]", f"run.dir={server.uri('runs', 'a')}",
            f"train.steps={steps}", f"train.checkpoint.every_steps={-(-steps // 4)}",
        ]  # fmt: skip
        for what in ("a run", "the same again"):
            server.requests()
            done = run_job("pretrain.py", *command, cwd=Path(folder), timeout=1500)
            if done.returncode:
                sys.exit(f"{what} ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
            asked = server.asked()
            manifest = storage.read_json(server.uri("runs", "a", "manifest.json"))
            yield what, sorted_out(asked, server.bucket), len(manifest["shards"]["source"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shards", nargs="*", type=int, default=[16])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--made-up", type=int, metavar="MB")
    args = parser.parse_args()
    found: dict[str, list[tuple[list[Asked], int]]] = {}
    for shards in args.shards:
        for what, asked, there in counted(shards, args.steps, args.made_up):
            print(f"== {what}\n{told(asked, there)}\n", flush=True)
            found.setdefault(what, []).append((asked, there))
    if len(args.shards) > 1:
        for what, runs in found.items():
            (few, first), *_, (many, last) = runs
            print(f"== {what}\n{growth(few, many, (first, last))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
