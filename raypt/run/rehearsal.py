"""The first run on a machine compiles its kernels while it starts: processes beside it go its way with a few documents.

A kernel is compiled at its first call, a minute of CPU for those of a run, and each actor would compile what it needs
when it needs it, the same as the others. Here three processes call them as soon as the job is sure to start, while Ray
does and the inputs are looked at: two curate, with the stages of the job that need no model, the third deduplicates,
trains a tokenizer and packs. Whoever needs a kernel that is being compiled waits for it (`raypt.kernel_cache`). A
machine rehearses once, and again when kernels have changed. Nothing depends on it: a rehearsal that fails has compiled
what it has.
"""

import contextlib
import functools
import json
import os
import pydoc
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from raypt import plugins
from raypt.kernel_place import COMPILING, PACKAGE, cache_root
from raypt.lines import say_once
from raypt.packages import package_version
from raypt.run.config import RunConfig

PARTS = ("pii", "curation", "tokens")
JOBS = {"curate": PARTS[:2], "tokenize": PARTS, "pretrain": PARTS}
"""What of them each job needs."""
OF_MODELS = ("classify", "perplexity")
"""Stages that are left out: what they need would have to be trained or loaded. For quality scores any model does."""
SETTINGS = "settings.json"
TEXTS = (
    *("argparse", "bisect", "colorsys", "copy", "decimal", "email", "glob", "heapq", "json", "keyword", "logging"),
    *("shlex", "socket", "string", "subprocess", "tarfile", "textwrap", "typing", "unittest.mock", "zipfile"),
)
"""Modules whose documentation it is: of half of it a tokenizer's fast encoder is worth its tables."""
CHINESE = "第一次运行时要编译内核。文档在这里被读取、过滤、去重，然后分词。每个句子都有自己的长度。" * 8


def settings_of(config: RunConfig, part: str) -> dict[str, Any]:
    """What decides the kernels of a part: sections of a configuration, as JSON has them."""
    stages = [stage.name for stage in config.curation.plan()]
    mine = [s for s in stages if s.partition("@")[0] not in OF_MODELS and not plugins.is_plugin(s)]
    if part != "tokens":
        # Half of curation's kernels are those of personal data: two processes are done sooner than one.
        mine = [s for s in mine if (s.partition("@")[0] == "pii") == (part == "pii")]
        curation = config.curation.model_dump(mode="json", exclude={"stages", "quality", "perplexity", "classify"})
        return {"curation": {**curation, "preset": None, "stages": mine}, "dedup": {"enabled": False}}
    dedup = config.dedup.model_dump(mode="json", exclude={"contamination", "index"})
    return {
        "curation": {"stages": [], "language": {"assume": "en"}},
        "dedup": {**dedup, "max_removed_fraction": None},
        "tokens": {
            "tokenizer": {"vocab_size": 400},
            "packing": config.tokens.packing.model_dump(mode="json") | {"sequence_length": 64},
            "heldout": {"fraction": 0.2},
        },
        "train": {"global_batch_tokens": 512, "micro_batch_size": 2, "workers": 1, "steps": 4},
    }


def mark(part: str) -> Path:
    """The file that says that a part was rehearsed on this machine with the kernels as they are, whatever the stages
    were: those of another job are compiled when they are called."""
    return cache_root() / f"rehearsed-{part}-{_kernels_hash()}"


@functools.cache
def _kernels_hash() -> str:
    digest = xxhash.xxh3_128(f"{package_version('numba')} {sys.version}".encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        code = path.read_bytes()
        if b"raypt.kernels import" in code:
            digest.update(code)
    return digest.hexdigest()


@contextlib.contextmanager
def rehearsed(job: str, config: RunConfig) -> Iterator[None]:
    """For the length of the block, what the job will need and has not been rehearsed on this machine is compiled beside
    it. Not for a cluster that is joined: its nodes have caches of their own."""
    if config.ray.address or os.environ.get("RAY_ADDRESS"):
        todo = []
    else:
        try:
            todo = [part for part in JOBS.get(job, ()) if not mark(part).exists()]
        except OSError:
            todo = []  # no place for a cache: what is compiled stays with its process
    if not todo:
        yield
        return
    say_once(COMPILING)
    with tempfile.TemporaryDirectory(prefix="raypt-rehearsal-", ignore_cleanup_errors=True) as place:
        started = [_started(part, settings_of(config, part), Path(place, part)) for part in todo]
        try:
            yield
        finally:
            for process in started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what trains a classifier for it
                process.wait()


def _started(part: str, settings: dict[str, Any], folder: Path) -> "subprocess.Popen[bytes]":
    """The rehearsal of a part, in a folder of its own."""
    folder.mkdir()
    (folder / SETTINGS).write_text(json.dumps(settings))
    return subprocess.Popen(
        [sys.executable, "-m", __name__, part, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is the job's
    )


def main(argv: list[str]) -> int:
    """`python -m raypt.run.rehearsal PART FOLDER`: with the settings there, as JSON; leaves there what it makes."""
    from raypt.config_io import validate
    from raypt.curation.quality.fit import fit

    part, folder = argv[0], Path(argv[1])
    settings = json.loads((folder / SETTINGS).read_text())
    texts = write_texts(folder / "in")
    if "quality" in settings["curation"]["stages"]:
        examples, model = folder / "examples.txt", str(folder / "model.bin")
        examples.write_text("".join(f"__label__{k} {t[:500].split()}\n" for t in texts for k in ("ref", "raw")))
        fit(str(examples), model, dim=16, wordNgrams=2, bucket=1000)
        threshold = {"percentile": None, "minimum": 0.0}
        settings["curation"]["quality"] = {"model": model, "normalisation": "words-v1", "threshold": threshold}
    where = {"run": {"dir": str(folder / "run")}, "corpus": {"sources": [{"paths": f"{folder}/in/*.jsonl"}]}}
    go(validate(RunConfig, {**settings, **where}), tokens=part == "tokens")
    mark(part).touch()
    return 0


def go(config: RunConfig, *, tokens: bool) -> None:
    """The data side in this process, and with `tokens` the way on to the first batch."""
    from raypt.run.curate import curate
    from raypt.run_dir import RunDir

    run = RunDir(config.run_uri)
    curated = curate(config, run, in_process=True)
    if not tokens:
        return
    from raypt.collection import Collection
    from raypt.tokens.stream.producer import tokenize_parts
    from raypt.tokens.stream.reader import SampleReader
    from raypt.tokens.stream.spec import measure_parts, plan_stream, prepare_store
    from raypt.tokens.tokenizer.trainer import prepare_tokenizer

    parts, of, train = [run.curated(shard.index) for shard in curated.manifest.shards], config.tokens, config.train
    summaries = measure_parts(parts, curated.cards, of, 0, Collection(run.uri, "work/measured"), "sizes")
    tokenizer = prepare_tokenizer(parts, of.tokenizer, run.tokenizer, 0, summaries, "sizes", replace=True)
    plan = prepare_store(parts, tokenizer, of, run.token_store, 0, summaries)
    tokenize_parts(plan, of, run.tokenizer)
    batch = train.global_batch_tokens // of.packing.sequence_length
    spec = plan_stream(
        plan, of, samples=train.steps * batch, global_batch=batch, ranks=[1], micro_batch=train.micro_batch_size
    )
    next(SampleReader(spec).rank_blocks(0, 1))


def write_texts(folder: Path) -> list[str]:
    """Some documents, with copies and near copies among them, in two files."""
    folder.mkdir()
    texts = [pydoc.plain(pydoc.render_doc(name)) for name in TEXTS] + [CHINESE]
    texts += [texts[0], f"{texts[1]}\nOne line more.", *(t[: len(t) // 2] for t in texts)]
    for i in range(2):
        lines = (json.dumps({"text": text}) + "\n" for text in texts[i::2])
        (folder / f"{i}.jsonl").write_text("".join(lines))
    return texts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
