"""The data of a study: curated texts, held-out documents, tokenizers and token stores, each made once.

Everything lies under the study's directory by the hash of what it is made of:

    data/<key>/           a run's data side; two that read and tag alike share that (`sharing`)
    heldout/<key>/        the documents that all variants are judged on
    tokenizers/<key>/     trained on the base's text unless a variant says otherwise
    stores/<key>/         packed samples
"""

import functools
import json
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import xxhash

from raypt import storage
from raypt.artefact import Card, Identity, Output, hash_of, make
from raypt.collection import Collection
from raypt.corpus.config import CorpusConfig
from raypt.dedup.config import ContaminationConfig, DedupConfig, ExactConfig, FuzzyConfig
from raypt.dedup.tokenise import tokenise
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.curate import Curated, curate
from raypt.run.stream import config_as_used
from raypt.run.study.config import HeldoutSet
from raypt.run.study.sharing import share_inputs, share_tagged
from raypt.run_dir import RunDir
from raypt.tasks import run_tasks
from raypt.tokens.config import HeldoutConfig, MixtureConfig, TokenizerConfig, TokensConfig
from raypt.tokens.order import hash_array, key_of
from raypt.tokens.parts import PartSummary, group_names
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.spec import StorePlan, measure_parts, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer

log = logging.getLogger("raypt")

HELDOUT_FORMAT = 1
PART, SAMPLES, CARD = "part-00000.parquet", "heldout.jsonl", "card.json"


@dataclass(frozen=True)
class DataSide:
    """A curated text."""

    key: str
    run: RunDir
    curated: Curated
    contaminated: int
    """Documents that went because they hold a held-out one."""

    @property
    def parts(self) -> list[str]:
        return [self.run.curated(shard.index) for shard in self.curated.manifest.shards]


@dataclass(frozen=True)
class Heldout:
    """The held-out documents."""

    uri: str
    card: Card

    @property
    def part(self) -> str:
        return storage.join(self.uri, PART)

    @property
    def samples(self) -> str:
        """The same as an evaluation set, for decontamination."""
        return storage.join(self.uri, SAMPLES)

    def groups(self, mixture: MixtureConfig) -> list[str]:
        """Of the mixture, by document."""
        names: list[str] = _groups(storage.read_parquet(self.part), mixture, self.part).to_pylist()
        return names


@dataclass(frozen=True)
class Tokens:
    """A token store and its tokenizer."""

    plan: StorePlan
    tokenizer_uri: str
    tokenizer: Tokenizer
    config: TokensConfig
    """As the store was packed."""
    tokens: int
    """Packed to train on: what a study of repetition calls unique."""
    heldout_uri: str
    """Store of the held-out documents, packed in the same way."""


@dataclass
class Workshop:
    """Makes what the variants of a study ask for, and each thing once."""

    uri: str
    seed: int
    """Of classifiers, packing and samples of text: the base's. A study's seeds are those of trainings."""
    sides: dict[str, DataSide] = field(default_factory=dict)
    stores: dict[str, Tokens] = field(default_factory=dict)
    read: dict[str, RunDir] = field(default_factory=dict)
    """By hash of what decides it: a data side that has read its inputs."""
    tagged: dict[str, RunDir] = field(default_factory=dict)
    """The same of tagged documents."""
    documents: dict[str, int] = field(default_factory=dict)
    """The same: documents that were tagged, which is what costs."""

    def side(self, config: RunConfig, heldout: Heldout | None = None) -> DataSide:
        """The curated text of a configuration, without what holds a held-out document."""
        config = config.model_copy(update={"dedup": decontaminated(config.dedup, heldout)})
        settings = {
            "corpus": _words(config.corpus),
            "curation": config.curation.model_dump(mode="json"),
            "dedup": config.dedup.model_dump(mode="json", exclude={"contamination"}),
            "heldout": None if heldout is None else heldout.card.content,
            "seed": self.seed,
        }
        key = hash_of(settings)
        if key not in self.sides:
            run = RunDir(storage.join(self.uri, "data", key))
            reading = hash_of(settings["corpus"])
            tagging = hash_of([reading, config.curation.tagging_settings(), _words(config.curation.quality), self.seed])
            if tagging in self.tagged:
                share_tagged(self.tagged[tagging], run)
            elif reading in self.read:
                share_inputs(self.read[reading], run)
            curated = curate(config, run, in_process=not ray.is_initialized())
            self.read.setdefault(reading, run)
            self.tagged.setdefault(tagging, run)
            entered = next(iter(curated.ledger.stages.values())).kept.documents
            self.documents.setdefault(tagging, entered)
            dedup = curated.ledger.stages.get("dedup")
            gone = 0 if dedup is None else sum(
                a.documents for reason, a in dedup.removed.items() if "contamination" in reason
            )  # fmt: skip
            self.sides[key] = DataSide(key, run, curated, gone)
            if heldout is not None:
                self._check_disjoint(self.sides[key], heldout)
        return self.sides[key]

    def heldout(self, side: DataSide, config: HeldoutSet, mixture: MixtureConfig) -> Heldout:
        """The documents that are set aside of a curated text. Raises UserError if there are fewer than two."""
        inputs = {"curated": hash_of([card.content for card in side.curated.cards])}
        settings = config.model_dump(mode="json") | {"seed": self.seed} | _named(mixture)
        identity = Identity("heldout", HELDOUT_FORMAT, inputs, settings)
        root = identity.place(self.uri)

        def maker(output: Output) -> dict[str, int]:
            task = functools.partial(_candidates, config=config, seed=self.seed, mixture=mixture)
            found = pa.concat_tables(run_tasks(task, side.parts, name="set aside"), promote_options="default")
            chosen = np.argsort(_hashes(found, self.seed), kind="stable")
            if config.balanced:
                chosen = _of_each(chosen, _groups(found, mixture, root), config.max_documents)
            chosen = chosen[: config.max_documents]
            table = found.take(np.sort(chosen))
            if table.num_rows < 2:
                raise UserError(
                    f"heldout: {table.num_rows} documents are set aside of {side.curated.documents}; raise "
                    "heldout.fraction, or lower heldout.min_words"
                )
            output.write_parquet(PART, table)
            lines = [json.dumps({"id": str(k), "text": t}, ensure_ascii=False) for k, t in _texts(table)]
            output.write_bytes(SAMPLES, "".join(f"{line}\n" for line in lines).encode())
            return {"documents": table.num_rows}

        return Heldout(root, make(identity, root, CARD, maker))

    def tokens(self, config: RunConfig, side: DataSide, base: DataSide, heldout: Heldout) -> Tokens:
        """The store of a variant's text, with a tokenizer that saw the base's."""
        contents = [card.content for card in base.curated.cards]
        own = {"text": hash_of(contents), "settings": config.tokens.tokenizer.model_dump(mode="json")}
        tokenizer_uri = Identity("tokenizers", 1, {}, own | {"seed": self.seed}).place(self.uri)
        tokenizer = self._tokenizer(config.tokens.tokenizer, tokenizer_uri, base)
        config = config_as_used(config, tokenizer)
        tokens = config.tokens
        bounded = tokens.heldout.bounded(side.curated.documents)
        tokens = tokens.model_copy(update={"heldout": bounded})
        settings = {
            "packing": tokens.packing.model_dump(mode="json"),
            "heldout": bounded.model_dump(mode="json"),
            "seed": self.seed,
            **_named(tokens.mixture),
        }
        inputs = {"data": side.key, "tokenizer": tokenizer.fingerprint}
        identity = Identity("stores", 1, inputs, settings)
        if identity.key not in self.stores:
            summaries = self._measure(side.parts, side.curated.cards, tokens, side.run.uri)
            plan = prepare_store(side.parts, tokenizer, tokens, identity.place(self.uri), self.seed, summaries)
            accounts = tokenize_parts(plan, tokens, tokenizer_uri)
            judged = self._heldout_store(heldout, tokens, tokenizer, tokenizer_uri)
            packed = sum(a.packed_tokens for a in accounts)
            self.stores[identity.key] = Tokens(plan, tokenizer_uri, tokenizer, tokens, packed, judged)
        return self.stores[identity.key]

    def _tokenizer(self, config: TokenizerConfig, uri: str, base: DataSide) -> Tokenizer:
        summaries = self._measure(base.parts, base.curated.cards, TokensConfig(heldout=NONE), base.run.uri)
        return prepare_tokenizer(base.parts, config, uri, self.seed, summaries, "sizes", replace=True)

    def _measure(self, parts: list[str], cards: list[Card], tokens: TokensConfig, root: str) -> list[PartSummary]:
        what = hash_of([tokens.heldout.model_dump(mode="json"), _named(tokens.mixture)])
        return measure_parts(parts, cards, tokens, self.seed, Collection(root, f"work/measured-{what}"), "sizes")

    def _heldout_store(self, heldout: Heldout, tokens: TokensConfig, tokenizer: Tokenizer, tokenizer_uri: str) -> str:
        tokens = tokens.model_copy(update={"heldout": NONE})
        settings = {"packing": tokens.packing.model_dump(mode="json"), **_named(tokens.mixture)}
        inputs = {"heldout": heldout.card.content, "tokenizer": tokenizer.fingerprint}
        uri = Identity("heldout-stores", 1, inputs, settings).place(self.uri)
        plan = prepare_store([heldout.part], tokenizer, tokens, uri, self.seed)
        tokenize_parts(plan, tokens, tokenizer_uri)
        return uri

    def _check_disjoint(self, side: DataSide, heldout: Heldout) -> None:
        known = frozenset(xxhash.xxh3_128_intdigest(t.encode()) for _, t in _texts(storage.read_parquet(heldout.part)))
        task = functools.partial(_count_equal, known=known)
        equal = sum(run_tasks(task, side.parts, name="held-out documents in training text"))
        if equal:
            raise UserError(
                f"{equal} of {len(known)} held-out documents are in the training text {side.run.path('curated')}: "
                "decontamination missed them (dedup.contamination.ngram is more than their words?)"
            )


NONE = HeldoutConfig(fraction=0, max_documents=None)


def decontaminated(dedup: DedupConfig, heldout: Heldout | None) -> DedupConfig:
    """The same deduplication, which also removes what holds a held-out document; that alone where it was off."""
    if heldout is None:
        return dedup
    if not dedup.enabled:
        dedup = DedupConfig(exact=ExactConfig(enabled=False), fuzzy=FuzzyConfig(enabled=False))
    paths = (*dedup.contamination.paths, heldout.samples)
    contamination = ContaminationConfig(**{**dedup.contamination.model_dump(), "paths": paths})
    return dedup.model_copy(update={"contamination": contamination})


def _words(config: Any) -> dict[str, Any]:
    """Settings that decide what is read and tagged: sources' weights and priorities come later."""
    words: dict[str, Any] = config.model_dump(mode="json")
    if isinstance(config, CorpusConfig):
        words["sources"] = [s.model_dump(mode="json", exclude={"weight"}) for s in config.sources]
    return words


def _hashes(table: pa.Table, seed: int) -> np.ndarray:
    return hash_array(np.asarray(table["doc_key"].cast(pa.int64())), key_of("study-heldout", seed))


def _texts(table: pa.Table) -> list[tuple[int, str]]:
    return list(zip(table["doc_key"].to_pylist(), table["text"].to_pylist(), strict=True))


def _candidates(uri: str, *, config: HeldoutSet, seed: int, mixture: MixtureConfig) -> pa.Table:
    """The documents of a curated part that may be held out, cut to `max_chars`."""
    table = storage.read_parquet(uri)
    chosen = _hashes(table, seed) < np.uint64(int(config.fraction * (1 << 64)))
    chosen &= tokenise(table["text"]).counts >= config.min_words
    if config.groups is not None:
        chosen &= np.asarray(pc.is_in(_groups(table, mixture, uri), pa.array(config.groups, pa.string())))
    table = table.filter(pa.array(chosen))
    cut = pc.utf8_slice_codeunits(table["text"], 0, config.max_chars)
    return table.set_column(table.column_names.index("text"), "text", cut)


def _groups(table: pa.Table, mixture: MixtureConfig, uri: str) -> pa.ChunkedArray:
    names = [group_names(batch, mixture.by, uri, mixture.edges) for batch in table.to_batches()]
    return pa.chunked_array(names, pa.string())


def _named(mixture: MixtureConfig) -> dict[str, Any]:
    """What decides the names of groups."""
    edges = {name: list(of) for name, of in mixture.edges.items()}
    return {"by": list(mixture.by)} | ({"edges": edges} if edges else {})


def _of_each(order: np.ndarray, groups: pa.ChunkedArray, most: int) -> np.ndarray:
    """Of documents in `order`, the first of each group: equally many, `most` together."""
    names = np.asarray(groups.combine_chunks().dictionary_encode().indices)[order]
    each = max(1, most // (int(names.max()) + 1)) if names.size else 0
    taken = np.zeros(names.size, bool)
    for name in np.unique(names):
        taken[np.flatnonzero(names == name)[:each]] = True
    return order[taken]


def _count_equal(uri: str, *, known: frozenset[int]) -> int:
    texts = storage.read_parquet(uri, columns=["text"])["text"].to_pylist()
    return sum(xxhash.xxh3_128_intdigest(t.encode()) in known for t in texts)
