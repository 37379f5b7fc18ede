"""Pages to text in a child process that outlives them: one that takes too long, or too much, costs itself alone.

Parsers and extractors are written for pages as people make them; made for the purpose, a page of a megabyte can hold
one for minutes. The child gets pages in batches, so that a page pays for its copying only; the first page of a batch
that is not answered in time is given up, and the others go to a new child.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.html import html_to_text
from raypt.corpus.sandbox import ChildDied, ChildTimeout, Sandbox

BATCH_PAGES, BATCH_BYTES = 64, 8 << 20
"""A batch is sent when it has as many pages, or bytes."""
MEMORY_BYTES = 1 << 30
"""What the child may allocate beyond what it needs to start."""
TOO_SLOW, KILLED, BAD_PAGE = "too_slow", "killed_reader", "bad_record"
"""Kinds of faults."""


@dataclass(frozen=True, slots=True)
class Page:
    """Bytes of a page and the charset of its HTTP header."""

    data: bytes
    charset: str | None = None

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Its bytes go to the child as they are, not through the pickle.
        return Page, (pickle.PickleBuffer(self.data) if protocol >= 5 else self.data, self.charset)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a page has no text: a kind of fault, and a message."""

    kind: str
    message: str


def texts_of(pages: Sequence[Page], config: HtmlConfig, seconds: float | None) -> Iterator[str | Failure]:
    """The text of each page, or why it has none. `seconds`: more a page is too long; None: in this process."""
    if seconds is None or not pages:
        yield from _convert(pages, config)
        return
    box = _box()
    done = 0
    while done < len(pages):
        if not box.alive:
            box.call(_warm_up, config)  # compiling, or loading what was compiled, is no page's doing
        try:
            for text in box.stream(_convert, pages[done:], config, seconds=seconds):
                done += 1
                yield text
        except ChildTimeout:
            done += 1
            yield Failure(TOO_SLOW, f"the page has not become text in corpus.max_record_seconds={seconds:g}")
        except ChildDied as e:
            done += 1
            yield Failure(KILLED, f"the process that read the page {e}")


def _convert(pages: Sequence[Page], config: HtmlConfig) -> Iterator[str | Failure]:
    for page in pages:
        try:
            yield html_to_text(page.data, page.charset, config)
        except MemoryError:
            yield Failure(BAD_PAGE, f"the page takes more than {MEMORY_BYTES >> 20} MiB of memory to read")
        except (ValueError, RuntimeError, RecursionError) as e:
            yield Failure(BAD_PAGE, f"{type(e).__name__}: {e}")


def _warm_up(config: HtmlConfig) -> None:
    table = "<table><tr><td>1<td>2<tr><td>3<td>4</table>"
    html_to_text(f"<main><h1>a</h1><p>{'word ' * 40}<ul><li>b</ul>{table}".encode() + b" " * (1 << 17), None, config)


_boxes: dict[int, Sandbox] = {}


def _box() -> Sandbox:
    """This process's child."""
    box = _boxes.get(os.getpid())
    if box is None:
        box = _boxes[os.getpid()] = Sandbox(MEMORY_BYTES)
    return box
