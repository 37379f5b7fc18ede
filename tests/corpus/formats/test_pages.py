"""Pages become text in a child process: one that takes too long, or dies, costs itself alone."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats import pages
from raypt.corpus.formats.pages import KILLED, TOO_SLOW, Failure, Page, texts_of
from tests.corpus.html.measure import hand_made
from tests.corpus.warc.archives import faults, gz, read, response, texts

GOOD = b"<p>The river bends twice before it reaches the old mill, and then it runs straight to the lake.</p>"
TEXT = "The river bends twice before it reaches the old mill, and then it runs straight to the lake."


def _slow_or_deadly(batch: list[Page], config: HtmlConfig) -> Iterator[str | Failure]:
    """Stands for pages that the parser hangs or dies on: such pages are mended as they are found."""
    for page in batch:
        if bytes(page.data) == b"hang":
            time.sleep(60)
        if bytes(page.data) == b"die":
            os.kill(os.getpid(), signal.SIGSEGV)
        yield from pages._convert([page], config)


def test_a_page_that_hangs_or_kills_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_convert", _slow_or_deadly)
    batch = [Page(x) for x in (GOOD, b"hang", GOOD, GOOD, b"die", GOOD, b"hang")]
    found = list(texts_of(batch, HtmlConfig(), 1.0))
    kinds = [f.kind if isinstance(f, Failure) else f for f in found]
    assert kinds == [TEXT, TOO_SLOW, TEXT, TEXT, KILLED, TEXT, TOO_SLOW]


def test_in_a_child_and_in_this_process_pages_become_the_same_text() -> None:
    batch = [Page(page.html) for page in hand_made()]
    assert list(texts_of(batch, HtmlConfig(), 10.0)) == list(texts_of(batch, HtmlConfig(), None))


def test_an_archive_of_many_pages_keeps_their_order(tmp_path: Path) -> None:
    parts = [response(n, GOOD + b"<p>%d" % n, "Content-Type: text/html") for n in range(300)]
    items = read(tmp_path, gz(parts), "x.warc.gz", max_record_seconds=10.0)
    assert [t.rsplit(None, 1)[1] for t in texts(items)] == [str(n) for n in range(300)]
    assert not faults(items)


def test_damaged_pages_are_text_or_a_fault_and_never_another_error() -> None:
    source = random.Random(3)
    originals = [page.html for page in hand_made()]
    pieces = [
        b"<",
        b">",
        b"</",
        b"<table>",
        b"<td>",
        b"</p>",
        b"\0",
        b"\xff",
        b'"',
        b"<svg>",
        b"<math>",
        b"<template>",
        b"&",
    ]
    for _ in range(300):
        page = bytearray(source.choice(originals))
        for _ in range(source.randrange(1, 30)):
            at = source.randrange(len(page))
            page[at : at + source.randrange(8)] = source.choice(pieces)
        [text] = texts_of([Page(bytes(page))], HtmlConfig(), None)
        assert isinstance(text, str)
        text.encode()  # no lone surrogates
