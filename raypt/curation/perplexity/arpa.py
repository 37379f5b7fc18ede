"""ARPA files (the text form of back-off n-gram models; SRILM, KenLM) read in blocks, and written.

    \\data\\
    ngram 1=<entries> ...
    \\1-grams:
    <log10 probability> TAB <words between blanks> [TAB <log10 back-off>]
    ...
    \\end\\
"""

import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.retries import StorageError

BLOCK = 16 << 20
MAX_ORDER = 10
HEAD = 1 << 16
_LINES = 1 << 16
_MARK = re.compile(rb"(?m)^\\[^\n]*\n")
_SECTION = re.compile(rb"\\(\d+)-grams:\s*\Z")
_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)\s*\Z")


class MalformedArpa(Exception):
    """The file is no ARPA file; the message says where it stops being one."""


def read(uri: str) -> Iterator[tuple[int, pa.Array, np.ndarray, np.ndarray]]:
    """`(order, words large_string[n], log10 probability float32[n], log10 back-off float32[n])` block by block.

    Memory: some ten times a block of 16 MB. A back-off that is not there is 0.

    Raises:
        MalformedArpa: it is none, or ends early.
    """
    with storage.open_read(uri) as f:
        stream: IO[bytes] = pa.CompressedInputStream(f, "gzip") if uri.endswith(".gz") else f
        yield from _parse(stream)


def check_head(uri: str) -> None:
    """Read the first 64 KiB of a file, up to the first words and their probabilities.

    Raises:
        MalformedArpa: it does not begin as an ARPA file.
        FileNotFoundError: it is not there.
    """
    with storage.open_read(uri) as f:
        try:
            stream: IO[bytes] = pa.CompressedInputStream(f, "gzip") if uri.endswith(".gz") else f
            data = stream.read(HEAD)
        except (OSError, pa.ArrowInvalid) as e:
            if isinstance(e, StorageError) or not uri.endswith(".gz"):
                raise
            raise MalformedArpa("it is not compressed by gzip") from None
    data = data[: data.rfind(b"\n") + 1]
    sections = list(_sections(data))
    heads = [head for head, _ in sections if head]
    if not heads or heads[0] != rb"\data" + b"\\" or sections[0][1].strip():
        raise MalformedArpa(r"it does not begin with \data" + "\\")
    counts = [line for line in map(bytes.strip, sections[1][1].split(b"\n")) if line]
    for line in counts:
        if not _COUNT.match(line):
            raise MalformedArpa(f"its head has the line {line[:60].decode(errors='replace')!r}")
    section = _SECTION.match(heads[1]) if len(heads) > 1 else None
    if not counts or section is None or int(section[1]) != 1 or _entries(1, sections[2][1]) is None:
        raise MalformedArpa(r"its head announces no n-grams, or no \1-grams: follow it")


def _parse(stream: IO[bytes]) -> Iterator[tuple[int, pa.Array, np.ndarray, np.ndarray]]:
    order, rest, ended = -1, b"", False
    expected: dict[int, int] = {}
    seen: dict[int, int] = {}
    while not ended:
        block = stream.read(BLOCK)
        data = rest + block
        if not block and data and not data.endswith(b"\n"):
            data += b"\n"
        end = data.rfind(b"\n") + 1
        data, rest = data[:end], data[end:]
        for head, body in _sections(data):
            if head == rb"\data" + b"\\" and order == -1:
                order = 0
            elif head == rb"\end" + b"\\" and order > 0:
                ended = True
                break
            elif head:
                section = _SECTION.match(head)
                if section is None or int(section[1]) != order + 1 or order < 0:
                    raise MalformedArpa(f"it has the line {head[:60].decode(errors='replace')!r} where none may be")
                order = int(section[1])
            if order == 0:
                for line in filter(None, map(bytes.strip, body.split(b"\n"))):
                    count = _COUNT.match(line)
                    if count is None or not 1 <= int(count[1]) <= MAX_ORDER:
                        raise MalformedArpa(f"its head has the line {line[:60].decode(errors='replace')!r}")
                    expected[int(count[1])] = int(count[2])
            elif order > 0:
                found = _entries(order, body)
                if found is not None:
                    seen[order] = seen.get(order, 0) + len(found[0])
                    yield order, *found
            elif body.strip():
                raise MalformedArpa(r"it does not begin with \data" + "\\")
        if not block and not ended:
            raise MalformedArpa(r"it ends before \end" + "\\")
    if not expected or {n: c for n, c in expected.items() if c} != seen:
        raise MalformedArpa(f"its head announces {expected} n-grams by order, and it holds {seen}")


def _sections(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    r"""`(line that begins with '\', lines after it)`; the first has no such line (b"")."""
    at, head = 0, b""
    for mark in _MARK.finditer(data):
        yield head, data[at : mark.start()]
        head, at = mark.group().strip(), mark.end()
    yield head, data[at:]


def _entries(order: int, body: bytes) -> tuple[pa.Array, np.ndarray, np.ndarray] | None:
    """Words, probabilities and back-offs of the lines of a section; None if all are blank."""
    try:
        whole = pa.array([body.decode()], pa.large_string())
    except UnicodeDecodeError:
        raise MalformedArpa("it is not UTF-8") from None
    lines = pc.split_pattern(whole, "\n").flatten()
    lines = lines.filter(pc.not_equal(pc.utf8_trim_whitespace(lines), ""))
    if not len(lines):
        return None
    fields = pc.split_pattern(lines, "\t")
    width = pc.list_value_length(fields)
    least, most = int(pc.min(width).as_py()), int(pc.max(width).as_py())
    if least < 2 or most > 3:
        wrong = lines[int(pc.index(width, least if least < 2 else most).as_py())].as_py()
        raise MalformedArpa(f"its {order}-grams hold the line {wrong[:60]!r}")
    flat, starts = fields.flatten(), np.asarray(fields.offsets)[:-1] - fields.offsets[0].as_py()
    has = width.to_numpy() == 3
    try:
        probability = pc.cast(flat.take(pa.array(starts)), pa.float32()).to_numpy()
        backoff = np.zeros(len(lines), np.float32)
        backoff[has] = pc.cast(flat.take(pa.array(starts[has] + 2)), pa.float32()).to_numpy()
    except pa.ArrowInvalid as e:
        raise MalformedArpa(f"its {order}-grams hold what is no number ({e})") from None
    if not (np.isfinite(probability).all() and np.isfinite(backoff).all() and (probability <= 0).all()):
        raise MalformedArpa(f"its {order}-grams hold a number that is no log10 probability")
    words = flat.take(pa.array(starts + 1))
    if pc.any(pc.not_equal(pc.count_substring(words, " "), order - 1)).as_py():
        raise MalformedArpa(f"its {order}-grams hold an entry that has not {order} words between single blanks")
    return words, probability, backoff


def write(f: IO[bytes], grams: Sequence[tuple[pa.Array, np.ndarray, np.ndarray]]) -> None:
    """Write the n-grams of order 1, 2, ...: `(words, log10 probability, log10 back-off)` each."""
    head = "".join(f"ngram {n}={len(words)}\n" for n, (words, _, _) in enumerate(grams, 1))
    f.write(("\\data\\\n" + head).encode())
    for n, (words, probability, backoff) in enumerate(grams, 1):
        f.write(f"\n\\{n}-grams:\n".encode())
        for start in range(0, len(words), _LINES):
            part = slice(start, start + _LINES)
            columns: list[Any] = [_text(probability[part]), words[part]]
            if n < len(grams):
                columns.append(_text(backoff[part]))
            lines = pc.binary_join_element_wise(*columns, pa.scalar("\t", pa.large_string()))
            f.write("\n".join(lines.to_pylist()).encode() + b"\n")
    f.write(b"\n\\end\\\n")


def _text(values: np.ndarray) -> pa.Array:
    return pc.cast(pa.array(values.astype(np.float32)), pa.large_string())
