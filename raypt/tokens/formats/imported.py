"""A token store of Megatron-LM's .bin/.idx files: ids as they are, packed and held out as the configuration says.

A shard is a run of documents of one pair of files, read by ranges. Documents keep the end token that they were written
with; none is added.
"""

import itertools
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from raypt import storage
from raypt.artefact import Card, Identity, Output, Verify
from raypt.collection import Collection
from raypt.corpus.formats.raw import etag_of
from raypt.errors import UserError
from raypt.tasks import run_tasks
from raypt.tokens.config import TokensConfig
from raypt.tokens.formats import megatron
from raypt.tokens.parts import PartSummary, is_heldout
from raypt.tokens.store.shards import SectionIds, SectionKey, TokenAccount
from raypt.tokens.stream.producer import StoreWork
from raypt.tokens.stream.spec import StorePlan, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer, load_tokenizer

SHARD_TOKENS = 1 << 25
FORMAT = 1


@dataclass(frozen=True)
class Run:
    """Documents first..last - 1 of a pair of files: what a shard is made of."""

    source: str
    prefix: str
    stamp: str
    """Sizes and times of change of the two files."""
    first: int = 0
    last: int = 0


def _keys(shard: int, documents: int) -> npt.NDArray[np.int64]:
    """doc_keys, as a curated part of the same number would have them."""
    return (np.int64(shard) << 32) + np.arange(documents, dtype=np.int64)


@dataclass(frozen=True)
class _Read:
    """Reads the documents of a shard's run, as `raypt.tokens.store.shards` reads those of a curated part."""

    runs: tuple[Run, ...]

    def __call__(
        self, prefix: str, tokenizer: Tokenizer, config: TokensConfig, seed: int, *, heldout: bool, ledger: TokenAccount
    ) -> dict[SectionKey, SectionIds]:
        if heldout and not config.heldout.fraction:
            return {}
        run = self.runs[ledger.shard]
        documents = megatron.Index.of(prefix).read(run.source, run.first, run.last)
        if documents.ids.size and int(documents.ids.max()) >= tokenizer.vocab_size:
            raise UserError(
                f"{prefix}.bin: holds the token {int(documents.ids.max())}, and the vocabulary of "
                f"tokens.tokenizer.path has {tokenizer.vocab_size}: name the tokenizer that the file was made with"
            )
        held = is_heldout(_keys(ledger.shard, len(documents)), config.heldout.fraction, seed)
        chosen = held if heldout else ~held
        ledger.heldout_documents = int(held.sum())
        lengths = documents.lengths[chosen]
        ledger.documents, ledger.text_tokens = lengths.size, int(lengths.sum())
        if not lengths.size:
            return {}
        ids = documents.ids[np.repeat(chosen, documents.lengths)].astype(tokenizer.dtype)
        ledger.by_source = {run.source: {"text": int(ids.size), "unknown": 0, "byte_fallback": 0}}
        section = SectionIds()
        section.add(ids, lengths)
        return {(run.source, None): section}


@dataclass(frozen=True)
class _Cut:
    """Where to cut the pair of files that it is called with; kept as a card without files."""

    pairs: tuple[Run, ...]
    collection: Collection

    def identity(self, pair: int) -> Identity:
        settings = {"tokens": SHARD_TOKENS}
        return Identity("cuts of token files", FORMAT, {self.pairs[pair].prefix: self.pairs[pair].stamp}, settings)

    def __call__(self, pair: int) -> Card:
        def maker(output: Output) -> list[int]:
            return megatron.Index.of(self.pairs[pair].prefix).cuts(SHARD_TOKENS)

        return self.collection.build(pair, self.identity(pair), maker)


@dataclass(frozen=True)
class _Measure:
    """Measures the run of documents that it is called with; kept as a card without files."""

    runs: tuple[Run, ...]
    collection: Collection
    heldout: float
    seed: int

    def identity(self, shard: int) -> Identity:
        run = self.runs[shard]
        settings = {"documents": [run.first, run.last], "source": run.source, "shard": shard}
        settings |= {"heldout": self.heldout, "seed": self.seed}
        return Identity("measured token files", FORMAT, {run.prefix: run.stamp}, settings)

    def __call__(self, shard: int) -> Card:
        def maker(output: Output) -> dict[str, Any]:
            run = self.runs[shard]
            documents = megatron.Index.of(run.prefix).read(run.source, run.first, run.last)
            held = int(is_heldout(_keys(shard, len(documents)), self.heldout, self.seed).sum())
            size = int(documents.ids.nbytes)
            content = xxhash.xxh3_64()
            content.update(np.ascontiguousarray(documents.ids).data)
            content.update(documents.offsets.data)
            counts, training = {run.source: len(documents)}, {run.source: len(documents) - held}
            languages = {run.source: {"": size}}
            return asdict(PartSummary(counts, {run.source: size}, languages, training, content.hexdigest()))

        return self.collection.build(shard, self.identity(shard), maker)


def _made(task: _Cut | _Measure, count: int, name: str, config: TokensConfig, verify: Verify) -> list[Any]:
    """The accounts of the cards 0..count - 1, made by tasks where they are not there."""
    cards = task.collection.survey([task.identity(i) for i in range(count)], verify)
    todo = [i for i, card in enumerate(cards) if card is None]
    made = run_tasks(task, todo, name=name, num_cpus=config.stream.tokenizer_cpus, labels=config.stream.labels)
    for i, card in zip(todo, made, strict=True):
        cards[i] = card
    done = [card for card in cards if card is not None]
    task.collection.finish(done)
    return [card.account for card in done]


def find_pairs(prefixes: Mapping[str, Sequence[str]]) -> tuple[Run, ...]:
    """The pairs of files of each source, by one listing a directory. Raises UserError, naming the key, for absent ones.

    `prefixes`: source -> paths of .bin and .idx without their ending.
    """
    named = [(source, prefix) for source in sorted(prefixes) for prefix in prefixes[source]]
    directories = sorted({posixpath.dirname(prefix) for _, prefix in named})

    def listed(directory: str) -> dict[str, str]:
        fs, path = storage.filesystem(directory or ".")
        try:
            found = fs.ls(path, detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {posixpath.basename(e["name"]): f"{e['size']} {etag_of(e)}" for e in found if e["type"] == "file"}

    files = dict(zip(directories, storage.in_parallel(listed, directories), strict=True))
    pairs = []
    for source, prefix in named:
        directory, name = posixpath.split(prefix)
        stamps = [files[directory].get(f"{name}.{kind}") for kind in ("idx", "bin")]
        if None in stamps:
            missing = " and ".join(f"{prefix}.{k}" for k, s in zip(("idx", "bin"), stamps, strict=True) if s is None)
            raise UserError(f"tokens.megatron.{source}: there is no {missing}; name the two files without their ending")
        pairs.append(Run(source, prefix, " ".join(s for s in stamps if s is not None)))
    return tuple(pairs)


def import_megatron(
    prefixes: Mapping[str, Sequence[str]],
    tokenizer_uri: str,
    config: TokensConfig,
    store_uri: str,
    seed: int,
    work_uri: str,
    *,
    verify: Verify = "sizes",
    replace: bool = False,
) -> tuple[StorePlan, list[TokenAccount]]:
    """Make the token store of pairs of files (source -> prefixes), as Ray tasks where Ray runs.

    Returns its plan, from which `plan_stream` makes a stream, and the accounts of its training shards. What was
    measured is kept under `work_uri`. Raises UserError for files that are none, ids that the tokenizer lacks, and a
    store there of other inputs unless `replace`.
    """
    pairs = find_pairs(prefixes)
    cuts = _made(_Cut(pairs, Collection(work_uri, "cuts")), len(pairs), "find documents of token files", config, verify)
    runs = tuple(
        Run(pair.source, pair.prefix, pair.stamp, first, last)
        for pair, at in zip(pairs, cuts, strict=True)
        for first, last in itertools.pairwise(at)
    )
    measure = _Measure(runs, Collection(work_uri, "measured"), config.heldout.fraction, seed)
    parts = [PartSummary(**found) for found in _made(measure, len(runs), "measure token files", config, verify)]
    uris = [run.prefix for run in runs]
    plan = prepare_store(uris, load_tokenizer(tokenizer_uri), config, store_uri, seed, parts, replace=replace)
    accounts: list[TokenAccount] = []
    for heldout in (True, False):
        work = StoreWork(plan, config, tokenizer_uri, heldout=heldout, verify=verify, read=_Read(runs))
        work.make(work.groups, "import token files")
        accounts = work.finish()
    return plan, accounts
