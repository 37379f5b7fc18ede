"""Readers of one's own, `tests.corpus.killers:read`, and a tagger, that some records kill or hang."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from raypt.corpus.formats.jsonl import read_jsonl
from raypt.corpus.formats.lines import untouched
from raypt.corpus.records import Item, ReadRequest, Record


def read(request: ReadRequest) -> Iterator[Item]:
    """JSON Lines; reading a record with `"kill": true` kills the process, one with `"hang": true` hangs it."""
    for item in read_jsonl(request):
        if item.row in request.skip:
            yield untouched(item.row, None, 0)
            continue
        if isinstance(item, Record) and item.fields.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(item, Record) and item.fields.get("hang"):
            time.sleep(3600)
        yield item


def read_without_skipping(request: ReadRequest) -> Iterator[Item]:
    """The same for a reader that cannot leave a record out."""
    for item in read_jsonl(replace(request, skip=frozenset())):
        if isinstance(item, Record) and item.fields.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


class KillingTagger:
    """Ends its process on a text that says so."""

    def tag(self, docs: pa.Table) -> pa.Table:
        for text in docs["text"].to_pylist():
            if "kill the tagger" in text:
                os.kill(os.getpid(), signal.SIGKILL)
            if "hang the tagger" in text:
                time.sleep(3600)
        return docs
