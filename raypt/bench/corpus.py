"""A corpus of a wanted size from a smaller one: its documents again and again, each copy with words of its own."""

import itertools
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.reader import read_shard

WORD = re.compile(r"[^\W\d_]{2,}")
OTHER = 0.25
"""Of the words of a copy, that are others than in the original: of five words on end, all are the same in 0.75^5, a
quarter, so that no copy is a near duplicate of another (0.8) and none is removed for it."""
FILES = 8


def texts(paths: list[str]) -> list[str]:
    """The documents of files, in order."""
    config = CorpusConfig(sources=(SourceConfig(name="text", paths=tuple(paths)),))
    with tempfile.TemporaryDirectory() as run:
        manifest = build_manifest(config, run)
        batches = (b for shard in range(len(manifest.shards)) for b in read_shard(manifest, shard, config, run))
        return [text for batch in batches for text in batch.documents["text"].to_pylist()]


def copies(originals: list[str], seed: int = 0) -> Iterator[str]:
    """The originals, then without end their copies, in which each word may be another of the same corpus."""
    yield from originals
    words = [word for text in originals for word in WORD.findall(text)[:200]]
    for number in itertools.count(1):
        for i, text in enumerate(originals):
            rng = Random(f"{seed}/{number}/{i}")
            yield WORD.sub(lambda found: rng.choice(words) if rng.random() < OTHER else found[0], text)  # noqa: B023


def enlarge(paths: list[str], out: Path, nbytes: int) -> int:
    """Write JSON Lines files of `nbytes` of text, or a document more, to `out`; the number of documents."""
    out.mkdir(parents=True, exist_ok=True)
    originals = [text for text in texts(paths) if text.strip()]
    taken, size = [], 0
    for text in copies(originals):
        if size >= nbytes:
            break
        taken.append(text)
        size += len(text.encode())
    for part in range(FILES):
        lines = (json.dumps({"id": f"{i}", "text": text}) for i, text in list(enumerate(taken))[part::FILES])
        (out / f"part-{part}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return len(taken)
