"""Write the text of a run as the token files of other programs: a task a curated part, an index a format.

`<out>/<format>/train` and `<out>/<format>/heldout` hold the files, `<out>/export.json` is the card of them all: the
tokenizer, its document tokens, and each split's documents and tokens, by source. Files that are there and whole are
kept; damaged ones are made anew.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raypt.artefact import Card, Identity, Output, Verify, hash_of, make
from raypt.collection import Collection
from raypt.tasks import run_tasks
from raypt.tokens.config import TokensConfig
from raypt.tokens.formats import datatrove, litdata, mds, megatron, nanogpt
from raypt.tokens.formats.documents import Documents, of_part
from raypt.tokens.store.shards import TokenAccount, heldout_identity
from raypt.tokens.stream.spec import StorePlan
from raypt.tokens.tokenizer.tokenizer import load_tokenizer

INDEX_FILE, CLAIM_FILE = "export.json", "settings.json"
SPLITS = ("train", "heldout")
FORMAT = 1
"""Raise it when the same text and settings give other files."""


class Format(Protocol):
    """A module of this room that writes one format."""

    def check(self, vocab_size: int) -> None:
        """Raises UserError if ids of that many tokens do not fit the format."""

    def write(
        self, output: Output, at: str, documents: Documents, vocab_size: int, length: int
    ) -> list[dict[str, Any]]:
        """Write the files of one part, named after the path `at`; what `finish` has to know of them."""

    def finish(self, output: Output, at: str, entries: list[dict[str, Any]], parts: list[str]) -> None:
        """Make the files in the directory `at` one data set: `parts` are their `at` of `write`, in order."""


FORMATS: dict[str, Format] = {
    "megatron": megatron,
    "nanogpt": nanogpt,
    "mds": mds,
    "datatrove": datatrove,
    "litdata": litdata,
}


def _part_path(name: str, split: str, part: int) -> str:
    return f"{name}/{split}/shard-{part:05d}"


@dataclass(frozen=True)
class _Write:
    """The task: one part of one split. Picklable; the tokenizer is loaded once a process."""

    plan: StorePlan
    tokenizer_uri: str
    config: TokensConfig
    out_uri: str
    split: str
    made_of: Mapping[str, Any]

    @property
    def collection(self) -> Collection:
        return Collection(self.out_uri, f"cards/{self.split}")

    def identity(self, part: int) -> Identity:
        return Identity("exported tokens", FORMAT, {"curated": self.plan.parts[part].content}, self.made_of)

    def __call__(self, part: int) -> Card:
        def maker(output: Output) -> dict[str, Any]:
            tokenizer = load_tokenizer(self.tokenizer_uri)
            uri, heldout = self.plan.part_uris[part], self.split == "heldout"
            documents = of_part(uri, tokenizer, self.config, self.plan.seed, heldout=heldout)
            length, size = self.config.packing.sequence_length, tokenizer.vocab_size
            entries = {
                name: FORMATS[name].write(output, _part_path(name, self.split, part), documents, size, length)
                for name in self.config.export.formats
            }
            return {
                "documents": len(documents),
                "tokens_by_source": documents.tokens_by_source,
                "entries": {name: found for name, found in entries.items() if found},
            }

        return self.collection.build(part, self.identity(part), maker)

    def all_parts(self, verify: Verify) -> list[Card]:
        """The cards of all parts, made where they are not there."""
        parts = range(len(self.plan.parts))
        cards = self.collection.survey([self.identity(part) for part in parts], verify)
        todo = [part for part in parts if cards[part] is None]
        stream = self.config.stream
        name = f"export tokens ({self.split})"
        made = run_tasks(self, todo, name=name, num_cpus=stream.tokenizer_cpus, labels=stream.labels)
        for part, card in zip(todo, made, strict=True):
            cards[part] = card
        done = [card for card in cards if card is not None]
        self.collection.finish(done)
        return done


def export_tokens(
    plan: StorePlan,
    tokenizer_uri: str,
    config: TokensConfig,
    out_uri: str,
    *,
    accounts: Sequence[TokenAccount] = (),
    verify: Verify = "sizes",
) -> Card:
    """Write the formats of `config.export` into `out_uri`, as Ray tasks where Ray runs; the card of all.

    `accounts` are those of the token store's training shards: each file has its tokens. Raises UserError for a
    vocabulary that a format cannot hold, before anything is written, and for another export in `out_uri`.
    """
    tokenizer, packing = load_tokenizer(tokenizer_uri), config.packing
    for name in config.export.formats:
        FORMATS[name].check(tokenizer.vocab_size)
    made_of = {
        "tokenizer": tokenizer.fingerprint,
        "add_bos": packing.add_bos,
        "add_eos": packing.add_eos,
        "heldout": heldout_identity(config.heldout, plan.seed),
        "formats": sorted(config.export.formats),
        "mds_length": packing.sequence_length if "mds" in config.export.formats else None,
    }
    refuse = "name another directory by tokens.export.out, or delete this one"
    text = {"curated": hash_of([part.content for part in plan.parts])}
    claim = Identity("an export of tokens", FORMAT, text, made_of)
    make(claim, out_uri, CLAIM_FILE, lambda output: None, refuse=refuse)
    cards = {
        split: _Write(plan, tokenizer_uri, config, out_uri, split, made_of).all_parts(verify)
        for split in (SPLITS if config.heldout.fraction else SPLITS[:1])
    }
    for account in accounts:
        written = sum(cards["train"][account.shard].account["tokens_by_source"].values())
        assert written == account.packed_tokens + sum(account.dropped_tokens.values()), (account, written)

    def maker(output: Output) -> dict[str, Any]:
        for name in config.export.formats:
            for split, parts in cards.items():
                entries = [e for card in parts for e in card.account["entries"].get(name, ())]
                paths = [_part_path(name, split, part) for part in range(len(parts))]
                FORMATS[name].finish(output, f"{name}/{split}", entries, paths)
        return {
            "vocabulary": tokenizer.vocab_size,
            "bos": tokenizer.bos_id if packing.add_bos else None,
            "eos": tokenizer.eos_id if packing.add_eos else None,
            "splits": {split: _totals(parts) for split, parts in cards.items()},
        }

    whole = Identity(
        "the index of exported tokens",
        FORMAT,
        {split: hash_of([card.content for card in parts]) for split, parts in cards.items()},
        made_of,
    )
    return make(whole, out_uri, INDEX_FILE, maker, verify=verify)


def _totals(cards: Sequence[Card]) -> dict[str, Any]:
    by_source: dict[str, int] = functools.reduce(_sum, (c.account["tokens_by_source"] for c in cards), {})
    documents = sum(card.account["documents"] for card in cards)
    return {"documents": documents, "tokens_by_source": dict(sorted(by_source.items()))}


def _sum(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {k: a.get(k, 0) + b.get(k, 0) for k in (*a, *(k for k in b if k not in a))}
