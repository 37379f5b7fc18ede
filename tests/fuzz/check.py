"""One fuzzed input, read as a run reads it: what is wrong with the outcome, if anything."""

import random
import resource
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from raypt.corpus.account import ReadAccount
from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.reader import read_shard
from raypt.errors import UserError
from tests.fuzz.inputs import BINARY, DAMAGE, FORMATS, PACK, TAKES_AWAY, WHOLE_FILE, documents

SECONDS = 10.0
MEMORY_BYTES = 1 << 30


def _arrow_schema(path: Path) -> pa.Schema:
    opened = pa.ipc.open_file if path.read_bytes()[:6] == b"ARROW1" else pa.ipc.open_stream
    return opened(path.read_bytes()).schema


COLUMNAR = {"parquet": pq.read_schema, "arrow": _arrow_schema}
"""The schema that a file of a format says it has."""


@dataclass(frozen=True)
class Case:
    """An input: what it was and what was done to it."""

    seed: int
    format: str
    packed: str
    damage: tuple[str, ...]
    nbytes: int


@dataclass(frozen=True)
class Result:
    """What reading it came to; `problem` is "" if that is right."""

    case: Case
    problem: str
    seconds: float
    peak_bytes: int


def peak_memory() -> int:
    """Peak resident memory of this process and of its children, added."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    for child in psutil.Process().children(recursive=True):
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
        except OSError:
            continue
        peak += next((int(x.split()[1]) << 10 for x in status.splitlines() if x.startswith("VmHWM:")), 0)
    return peak


def check(seed: int, formats: tuple[str, ...] = tuple(FORMATS)) -> Result:
    """Make the input of a seed in one of `formats`, read it, and judge the outcome."""
    rng = random.Random(seed)
    name = rng.choice(formats)
    suffix, kind, make = FORMATS[name]
    docs = documents(rng)
    plain = make(docs, rng)
    damage = [rng.choice(DAMAGE) for _ in range(rng.choice((1, 1, 2, 3)))]
    packed = "" if name in BINARY or rng.random() < 0.5 else rng.choice(list(PACK))
    inside = bool(packed) and rng.random() < 0.3  # damaged before it was packed
    data = plain if inside or not packed else PACK[packed](plain)
    for step in damage:
        data = step(data, rng) if data else data
    unchanged = data == (plain if inside or not packed else PACK[packed](plain))
    empty = data in (b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")  # nothing, or a byte order mark alone
    data = PACK[packed](data) if inside else data
    case = Case(seed, name, packed, tuple(d.__name__ for d in damage), len(data))
    folder = Path(tempfile.mkdtemp(prefix="raypt-fuzz-"))
    start = time.monotonic()
    try:
        path = folder / f"x{suffix}{packed}"
        path.write_bytes(data)
        problem = _problem(path, kind, name, [] if empty else docs, unchanged, damage, bool(packed) and not inside)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(case, problem, time.monotonic() - start, peak_memory())


def _problem(
    path: Path, kind: str, name: str, docs: list[tuple[str, str]], unchanged: bool, damage: list, checksummed: bool
) -> str:
    source = SourceConfig(name="s", paths=(str(path),), format=kind)
    config = CorpusConfig(sources=(source,), broken_files="quarantine", max_document_bytes=2_000_000)
    account = ReadAccount()
    kept: list[str] = []
    try:
        manifest = build_manifest(config, str(path.parent / "run"))
        for shard in range(len(manifest.shards)):
            for batch in read_shard(manifest, shard, config, str(path.parent / "run")):
                account.add(batch)
                kept += batch.documents["text"].to_pylist()
    except UserError as e:
        # A name that is damaged in a file's own schema cannot be told from a wrong `text_field`: it is refused.
        if name in COLUMNAR and "has no column 'text'" in str(e) and "text" not in COLUMNAR[name](path).names:
            return ""
        return f"UserError for damaged data: {e}"
    counted = len(kept) + account.quarantined.total() + account.not_documents.total()
    if counted != account.records:
        return f"{account.records} records, {counted} accounted for"
    size = path.stat().st_size
    if account.stored_bytes != size:
        return f"{account.stored_bytes} stored bytes in the account, the file has {size}"
    if account.lost_bytes["broken_file"] > size:
        return f"{account.lost_bytes['broken_file']} bytes unread of {size}"
    said = account.quarantined.total() + account.not_documents.total() + account.unfinished_bytes
    if name in WHOLE_FILE:
        return "" if counted == (1 if docs else 0) or said else f"{counted} outcomes of one file"
    if not docs:
        return f"{counted} outcomes of an empty file" if counted else ""
    missing = Counter(t for _, t in docs) - Counter(t.removesuffix("\nsecond line") for t in kept)
    altered = Counter(t.removesuffix("\nsecond line") for t in kept) - Counter(t for _, t in docs)
    if unchanged and (missing or said):
        return f"an undamaged file: {missing.total()} documents missing, {dict(account.quarantined)}"
    # A file without checksums can lose whole records without a trace in it.
    may_be_silent = not checksummed and name not in BINARY and any(d in TAKES_AWAY for d in damage)
    if missing and not said and not altered and not may_be_silent:
        return f"{missing.total()} of {len(docs)} documents are missing and nothing is said"
    if checksummed and altered and not said:
        return f"{altered.total()} documents are altered in a checksummed file and nothing is said"
    return ""
