"""Footers of Parquet files: many at a time, in a child process that a hostile one may kill."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from raypt.corpus.formats.parquet import Footer, footer_of
from raypt.corpus.sandbox import ChildDied, borrowed_sandbox

THREADS = 64
"""Footers read at a time: each is two requests to the storage and a third of a millisecond of work."""
CHUNK = 1024
SECONDS = 600.0


def _footer(uri: str) -> Footer | Exception:
    try:
        return footer_of(uri)
    except Exception as e:
        return RuntimeError(f"{type(e).__name__}: {e}")


def _footers(uris: list[str]) -> list[Footer | Exception]:
    """In the child: an exception stands for a file that is not readable."""
    with ThreadPoolExecutor(min(THREADS, len(uris))) as pool:
        return list(pool.map(_footer, uris))


def read_footers(uris: Sequence[str], memory_bytes: int | None) -> list[Footer | Exception]:
    """The footers of Parquet files, in order; an exception for one that cannot be read, or kills its reader."""
    out: list[Footer | Exception] = []
    todo = [list(uris[i : i + CHUNK]) for i in reversed(range(0, len(uris), CHUNK))]
    with borrowed_sandbox(memory_bytes) as box:
        while todo:
            chunk = todo.pop()
            try:
                out += box.call(_footers, chunk, seconds=SECONDS)
            except ChildDied as e:
                if len(chunk) == 1:
                    out.append(e)
                else:
                    half = len(chunk) // 2
                    todo += [chunk[half:], chunk[:half]]
    return out
