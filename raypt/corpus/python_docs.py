"""The embedded corpus: what the Python environment says about itself, as JSON Lines in the run directory.

Docstrings of the standard library and of the installed packages, the README texts in their metadata, and their licence
files: real text with what a pretraining job is for (near-duplicates, licences repeated a hundred times, e-mail
addresses, tables, noise), there without a download. Files are taken in the order of a hash of their names, so a given
environment always gives the same corpus.
"""

import ast
import email
import gc
import gzip
import os
import string
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import xxhash

from raypt import storage
from raypt.corpus.config import BuiltinConfig, SourceConfig
from raypt.corpus.inputs import RUN_SCHEME
from raypt.tasks import run_tasks

NAME = "python-docs"
CORPUS_DIR, REFERENCE_DIR = "input/python-docs", "input/python-docs-reference"

MAX_SHARE = {"licence": 0.15, "readme": 0.3, "docstrings": 1.0}
"""Upper bound of each kind's share of the bytes; filled in this order."""
MAX_FILE_BYTES = 2_000_000
LONG_PROSE_CHARS = 1_000
_LETTERS_AND_SPACE = f"{string.ascii_letters} ".encode()


@dataclass(frozen=True)
class _Task:
    files: tuple[tuple[str, str, str], ...]  # (name, kind, local path), in hash order
    budget: int
    corpus_uri: str
    reference_uri: str


def environment_files() -> Iterator[tuple[str, str, Path]]:
    """(name, kind, path) of every file the corpus may take; the name does not depend on where Python is installed."""
    standard, installed = sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")
    for folder, file in _walk(standard):
        if file.endswith(".py") and "site-packages" not in f"{standard}/{folder}".split("/"):
            yield f"stdlib/{folder}{file}", "docstrings", Path(standard, folder, file)
    for folder, file in _walk(installed):
        name, path = f"packages/{folder}{file}", f"{installed}/{folder}{file}"
        in_metadata = ".dist-info/" in f"{path}/"
        if file.endswith(".py") and file != ".py" and not in_metadata:
            yield name, "docstrings", Path(path)
        elif in_metadata and file == "METADATA":
            yield name, "readme", Path(path)
        elif in_metadata and file.upper().startswith(("LICEN", "COPYING", "NOTICE")) and os.path.isfile(path):
            yield name, "licence", Path(path)


def _walk(top: str) -> Iterator[tuple[str, str]]:
    """(folder below `top`, "" or with a slash at its end; file in it). Path.rglob takes six times as long."""
    for folder, _, files in os.walk(top):
        below = os.path.relpath(folder, top).replace(os.sep, "/")
        for file in files:
            yield "" if below == "." else f"{below}/", file


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the collector of cycles, which walks the nodes of a syntax tree again and again while it grows: they have
    none, and parsing takes less than half the time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def docstrings(source: str, module: str) -> str:
    """Docstrings of a module's source, in order, each under the name of what it documents; "" if it does not parse."""
    with _no_collection():
        return _docstrings(source, module)


def _docstrings(source: str, module: str) -> str:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    parts = []

    def visit(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> None:
        text = ast.get_docstring(node)
        if text and text.strip():
            parts.append(f"{name}\n\n{text.strip()}")
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                visit(child, child.name if isinstance(node, ast.Module) else f"{name}.{child.name}")

    visit(tree, module)
    return "\n\n".join(parts)


def is_long_prose(text: str) -> bool:
    """Whether a text reads like connected prose rather than a list of names, a table or an example session.

    At least LONG_PROSE_CHARS long, 6.5 words a line on average, at most 15 % of the lines begin with markup, and at
    least 85 % letters and spaces. (Of the texts of that length in a fresh environment the median has 6.2 words a line,
    14 % marked lines and 87 % letters and spaces.)
    """
    if len(text) < LONG_PROSE_CHARS:
        return False
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = sum(len(line.split()) for line in lines)
    marked = sum(
        line.startswith((">>>", "...", "|", "+-", ":", "-", "*", "#", "=", "[", "!", "<", "`")) for line in lines
    )
    letters = _letters_and_spaces(text)
    return words >= 6.5 * len(lines) and marked <= 0.15 * len(lines) and letters >= 0.85 * len(text)


def _letters_and_spaces(text: str) -> int:
    """`sum(c.isalpha() or c == " " for c in text)`, which took a tenth of making the corpus."""
    plain = text.encode("ascii", errors="ignore")
    others = len(plain) < len(text) and sum(c.isalpha() for c in text if c > "\x7f")
    return len(plain) - len(plain.translate(None, _LETTERS_AND_SPACE)) + others


def _text_of(name: str, kind: str, path: Path) -> str:
    if path.stat().st_size > MAX_FILE_BYTES:
        return ""
    raw = path.read_text("utf-8", errors="replace")
    if kind == "docstrings":
        module = name.split("/", 1)[1].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return docstrings(raw, module)
    if kind == "readme":
        return str(email.message_from_string(raw).get_payload()).strip()
    return raw.strip()


def _write(task: _Task) -> dict[str, int]:
    """Fill one pair of files; nothing is done where both exist."""
    if storage.exists(task.corpus_uri) and storage.exists(task.reference_uri):
        return {}
    rows: list[dict[str, Any]] = []
    total = 0
    for kind, share in MAX_SHARE.items():
        used = 0
        for name, file_kind, path in task.files:
            if file_kind != kind:
                continue
            if used >= share * task.budget or total >= task.budget:
                break
            text = _text_of(name, kind, Path(path))
            if text:
                rows.append({"id": name, "text": text, "subset": kind})
                used += len(text.encode())
                total += len(text.encode())
    rows.sort(key=lambda row: row["id"])
    _write_gzip(task.corpus_uri, rows)
    prose = [r for r in rows if r["subset"] != "licence" and is_long_prose(r["text"])]
    _write_gzip(task.reference_uri, prose)
    return {"documents": len(rows), "bytes": total, "reference": len(prose)}


def _write_gzip(uri: str, rows: list[dict[str, Any]]) -> None:
    with storage.atomic_write(uri) as f, gzip.GzipFile(fileobj=f, mode="wb", mtime=0, filename="") as zipped:
        for row in rows:
            zipped.write(orjson.dumps(row) + b"\n")


def materialize(config: BuiltinConfig, run_uri: str) -> None:
    """Write the corpus under `<run>/input/python-docs` and its long prose under `<run>/input/python-docs-reference`."""
    done = storage.listdir(storage.join(run_uri, CORPUS_DIR)), storage.listdir(storage.join(run_uri, REFERENCE_DIR))
    if all(len(names) == config.files for names in done):
        return
    groups: list[list[tuple[str, str, str]]] = [[] for _ in range(config.files)]
    ordered = sorted(environment_files(), key=lambda entry: xxhash.xxh3_64_intdigest(entry[0].encode()))
    for name, kind, path in ordered:
        groups[xxhash.xxh3_64_intdigest(name.encode(), seed=1) % config.files].append((name, kind, str(path)))
    tasks = [
        _Task(
            files=tuple(group),
            budget=config.max_bytes // config.files,
            corpus_uri=storage.join(run_uri, CORPUS_DIR, f"part-{i:03d}.jsonl.gz"),
            reference_uri=storage.join(run_uri, REFERENCE_DIR, f"part-{i:03d}.jsonl.gz"),
        )
        for i, group in enumerate(groups)
    ]
    run_tasks(_write, tasks, name="python docs")


def resolve(source: SourceConfig) -> SourceConfig:
    """A source with its `builtin:` path replaced by the files `materialize` writes."""
    return source.model_copy(
        update={
            "name": source.name or NAME,
            "paths": (f"{RUN_SCHEME}{CORPUS_DIR}/*.jsonl.gz",),
            "format": "jsonl",
            "columns": {"subset": "subset", **source.columns},
        }
    )


def is_embedded(source: SourceConfig) -> bool:
    """Whether a resolved source reads what `materialize` writes."""
    return any(p.startswith((f"{RUN_SCHEME}{CORPUS_DIR}/", f"{RUN_SCHEME}{REFERENCE_DIR}/")) for p in source.paths)


def reference_source() -> SourceConfig:
    """The long prose of the embedded corpus, as a reference set for the quality classifier."""
    return SourceConfig(name=f"{NAME}-reference", paths=(f"{RUN_SCHEME}{REFERENCE_DIR}/*.jsonl.gz",), format="jsonl")
