"""Write the text of a run as the token files of other programs: a task a curated part, an index a format.

`<out>/<format>/train` and `<out>/<format>/heldout` hold the files, `<out>/export.json` says what they are: the
tokenizer, its document tokens, and each file's documents and tokens, by source.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import xxhash

from raypt import storage
from raypt.errors import UserError
from raypt.tasks import run_tasks
from raypt.tokens.config import TokensConfig
from raypt.tokens.formats import datatrove, litdata, mds, megatron, nanogpt
from raypt.tokens.formats.documents import Documents, of_part
from raypt.tokens.store.shards import TokenAccount, packing_identity
from raypt.tokens.tokenizer.tokenizer import load_tokenizer

INDEX_FILE = "export.json"
SPLITS = ("train", "heldout")


class Format(Protocol):
    """A module of this room that writes one format."""

    def check(self, vocab_size: int) -> None:
        """Raises UserError if ids of that many tokens do not fit the format."""

    def write(
        self, out_uri: str, name: str, documents: Documents, vocab_size: int, length: int
    ) -> list[dict[str, Any]]:
        """Write the files of one part, named after `name`; what `finish` has to know of them."""

    def finish(self, out_uri: str, entries: list[dict[str, Any]]) -> None:
        """Make the files of all parts one data set."""


FORMATS: dict[str, Format] = {
    "megatron": megatron,
    "nanogpt": nanogpt,
    "mds": mds,
    "datatrove": datatrove,
    "litdata": litdata,
}


@dataclass(frozen=True)
class _Part:
    """What one task has written."""

    documents: int
    tokens_by_source: dict[str, int]
    entries: dict[str, list[dict[str, Any]]]
    """Format -> what its `finish` has to know."""


@dataclass(frozen=True)
class _Write:
    """The task: one part of one split. Picklable; the tokenizer is loaded once a process."""

    part_uris: tuple[str, ...]
    tokenizer_uri: str
    config: TokensConfig
    seed: int
    out_uri: str
    identity: str

    def __call__(self, item: tuple[str, int]) -> _Part:
        split, shard = item
        done = storage.join(self.out_uri, "parts", f"{split}-{shard:05d}.json")
        if storage.exists(done) and (was := storage.read_json(done))["identity"] == self.identity:
            return _Part(**was["part"])
        tokenizer = load_tokenizer(self.tokenizer_uri)
        documents = of_part(self.part_uris[shard], tokenizer, self.config, self.seed, heldout=split == "heldout")
        length = self.config.packing.sequence_length
        entries: dict[str, list[dict[str, Any]]] = {
            name: FORMATS[name].write(
                storage.join(self.out_uri, name, split), f"shard-{shard:05d}", documents, tokenizer.vocab_size, length
            )
            for name in self.config.export.formats
        }
        part = _Part(len(documents), documents.tokens_by_source, entries)
        storage.write_json(done, {"identity": self.identity, "part": asdict(part)})
        return part


def export_tokens(
    part_uris: Sequence[str],
    tokenizer_uri: str,
    config: TokensConfig,
    out_uri: str,
    seed: int,
    *,
    content: str = "",
    accounts: Sequence[TokenAccount] | None = None,
) -> dict[str, Any]:
    """Write the formats of `config.export` into `out_uri`, as Ray tasks where Ray runs; returns `export.json`.

    `content` is the hash of the text, `accounts` those of the token store's training shards: each file has its tokens.
    Does nothing if the same export is there. Raises UserError for a vocabulary that a format cannot hold, before
    anything is written.
    """
    tokenizer = load_tokenizer(tokenizer_uri)
    for name in config.export.formats:
        FORMATS[name].check(tokenizer.vocab_size)
    made_of = {
        "tokenizer": tokenizer.fingerprint,
        "packing": packing_identity(config.packing),
        "heldout": f"{config.heldout.fraction} {seed}",
        "formats": list(config.export.formats),
        "content": content,
    }
    identity = xxhash.xxh3_128_hexdigest(repr(made_of).encode())
    index_uri = storage.join(out_uri, INDEX_FILE)
    if storage.exists(index_uri):
        if (was := storage.read_json(index_uri))["made_of"] == made_of:
            return dict(was)
        raise UserError(
            f"{out_uri} holds an export of other text or settings; name another directory by tokens.export.out, or "
            "delete this one"
        )
    splits = SPLITS if config.heldout.fraction else SPLITS[:1]
    items = [(split, shard) for split in splits for shard in range(len(part_uris))]
    task: Callable[[tuple[str, int]], _Part] = _Write(tuple(part_uris), tokenizer_uri, config, seed, out_uri, identity)
    stream = config.stream
    parts = dict(zip(items, run_tasks(task, items, name="export tokens", num_cpus=stream.tokenizer_cpus), strict=True))
    for account in accounts or ():
        written = sum(parts["train", account.shard].tokens_by_source.values())
        assert written == account.packed_tokens + sum(account.dropped_tokens.values()), (account, written)
    for name in config.export.formats:
        for split in splits:
            entries = [e for (s, _), part in parts.items() if s == split for e in part.entries[name]]
            FORMATS[name].finish(storage.join(out_uri, name, split), entries)
    index = {
        "made_of": made_of,
        "vocabulary": tokenizer.vocab_size,
        "bos": tokenizer.bos_id if config.packing.add_bos else None,
        "eos": tokenizer.eos_id if config.packing.add_eos else None,
        "splits": {split: _totals([p for (s, _), p in parts.items() if s == split]) for split in splits},
        "files": {f"{split}/shard-{shard:05d}": parts[split, shard].tokens_by_source for split, shard in items},
    }
    storage.write_json(index_uri, index)
    storage.remove(storage.join(out_uri, "parts"))
    return index


def _totals(parts: Sequence[_Part]) -> dict[str, Any]:
    by_source: dict[str, int] = functools.reduce(_sum, (p.tokens_by_source for p in parts), {})
    return {"documents": sum(p.documents for p in parts), "tokens_by_source": dict(sorted(by_source.items()))}


def _sum(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {k: a.get(k, 0) + b.get(k, 0) for k in (*a, *(k for k in b if k not in a))}
