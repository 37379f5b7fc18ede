"""Reading and tagging the shards of a manifest with Ray Data actors: one artefact a shard.

What is tagged does not depend on thresholds (contract 2: tag, then decide), so neither does its identity.
"""

import functools
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from raypt import metrics, storage
from raypt.artefact import Card, Identity, Output, Verify
from raypt.collection import Collection
from raypt.corpus.account import ReadAccount
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest
from raypt.corpus.reader import NOTHING, Poison, read_shard
from raypt.curation.attempts import begin, begin_together, finish, finish_together, watched, watched_items
from raypt.curation.config import CurationConfig
from raypt.curation.poison import find_poison
from raypt.curation.quality.model import QualityModel
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from raypt.progress import TaskProgress
from raypt.ray_session import RaySection
from raypt.run_dir import RunDir
from raypt.tasks import cluster_cpus, run_tasks, together, user_error_in

log = logging.getLogger("raypt")

FORMAT = 5
"""Raise it when reading or tagging gives another result."""
NOT_READING = {"sources", "builtin", "shard_bytes", "max_quarantined_fraction", "broken_files"}
"""Settings of `corpus` that do not decide what is read of a shard, or are part of the shard's own key."""


Made: TypeAlias = tuple[str | None, str]
"""URI of what was made for a stage (None: nothing), and the fingerprint of what it works with."""
NO_MODELS: Mapping[str, Made] = {}
ByShard: TypeAlias = dict[int, pa.Table]
"""By shard, its tagged documents without their text."""
Decide: TypeAlias = Callable[[Mapping[int, tuple[Card, pa.Table]]], list[Card]]
"""Decides on shards by number, from the card and the attributes of each, in the task that tagged them: on an object
store reading attributes again costs a request or more a shard. Returns the cards of what it made, in the same order."""


@dataclass(frozen=True)
class Tagged:
    """What was tagged."""

    cards: list[Card]
    """In shard order."""
    decided: dict[int, Card]
    """By shard, of the decisions that were made at once (`Decide`)."""


def collection(run: RunDir) -> Collection:
    return Collection(run.uri, "work/tagged", new=run.new)


def tagged_uri(run: RunDir, shard: int, card: Card) -> str:
    """Where the tagged documents of a shard are read."""
    return card.uri(run.uri, run.relative(run.tagged(shard)))


def identities(
    manifest: Manifest,
    corpus: CorpusConfig,
    curation: CurationConfig,
    quality: QualityModel | None,
    made: Mapping[str, Made] = NO_MODELS,
) -> list[Identity]:
    """Of each shard's tagged documents. `made`: the models of other stages, by name of the stage."""
    settings = {
        "corpus": corpus.model_dump(mode="json", exclude=NOT_READING),
        "curation": curation.tagging_settings(),
    }
    model = {} if quality is None else {"quality": quality.card.fingerprint}
    model |= {stage: fingerprint for stage, (_, fingerprint) in made.items()}
    return [
        Identity("tagged", FORMAT, {"shard": manifest.shard_key(s.index), **model}, settings) for s in manifest.shards
    ]


def tag_shard(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    tagger: Tagger,
    shard: int,
    identity: Identity,
    factory: Callable[[], Tagger] | None = None,
    decide: Decide | None = None,
) -> Tagged:
    """Read and tag one shard; write its documents, its quarantine and, last, its card, whose account says what became
    of every record. Then decides on it, if it is told how. `factory` makes the same tagger in another process: with it,
    a worker that hangs is ended, and a shard that ended workers is looked through for the reason.
    """
    poison = NOTHING
    if factory is not None:
        poison = begin(run, shard, functools.partial(find_poison, manifest, shard, corpus, run.uri, factory))
    attributes: ByShard | None = None if decide is None else {}
    maker = _maker(run, manifest, corpus, tagger, shard, poison, factory, attributes)
    tagged = _decided({shard: collection(run).build(shard, identity, maker)}, attributes, decide)
    if factory is not None:
        finish(run, shard)
    return tagged


def tag_together(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    tagger: Tagger,
    shards: Sequence[int],
    wanted: Sequence[Identity],
    factory: Callable[[], Tagger] | None = None,
    decide: Decide | None = None,
) -> Tagged:
    """`tag_shard` of several, whose identities are in `wanted`: with joint cards and one marker of the attempt, or one
    by one if an attempt ended its worker.
    """
    joint = len(shards) > 1 and factory is not None
    if len(shards) > 1 and (factory is None or begin_together(run, shards)):
        attributes: ByShard | None = None if decide is None else {}
        makers = {s: _maker(run, manifest, corpus, tagger, s, NOTHING, factory, attributes) for s in shards}
        work = {s: (wanted[s], maker) for s, maker in makers.items()}
        cards = collection(run).build_together(work, pack_up_to=storage.TAIL_BYTES)
        tagged = _decided(dict(zip(shards, cards, strict=True)), attributes, decide)
    else:
        alone = [tag_shard(run, manifest, corpus, tagger, s, wanted[s], factory, decide) for s in shards]
        decided = {s: card for one in alone for s, card in one.decided.items()}
        tagged = Tagged([card for one in alone for card in one.cards], decided)
    if joint:
        finish_together(run, shards)
    return tagged


def _decided(cards: Mapping[int, Card], attributes: ByShard | None, decide: Decide | None) -> Tagged:
    """Within the attempt at the shards: decisions that end their worker are not tried for ever either."""
    made = [] if decide is None or attributes is None else decide({s: (c, attributes[s]) for s, c in cards.items()})
    return Tagged(list(cards.values()), dict(zip(cards, made, strict=False)))


def _maker(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    tagger: Tagger,
    shard: int,
    poison: Poison,
    factory: Callable[[], Tagger] | None,
    attributes: ByShard | None,
) -> Callable[[Output], dict[str, Any]]:
    seconds = None if factory is None else corpus.max_batch_seconds

    def maker(output: Output) -> dict[str, Any]:
        start, cpu = time.time(), time.process_time()
        quarantined: list[dict[str, Any]] = []
        read = ReadAccount()
        documents, source_bytes, label = 0, 0, metrics.label_of(run.uri)
        kept: list[pa.Table] = []
        with output.open(run.relative(run.tagged(shard))) as f:
            writer = None
            for batch in watched_items(read_shard(manifest, shard, corpus, run.uri, poison), seconds):
                with watched(seconds):
                    tagged = tagger.tag(batch.documents)
                if writer is None:
                    writer = storage.parquet_writer(f, tagged.schema)
                tagged = tagged.cast(writer.schema)
                writer.write_table(tagged)
                if attributes is not None:
                    kept.append(tagged.drop_columns(["text"]))
                documents += tagged.num_rows
                source_bytes += int(pc.sum(tagged["source_bytes"]).as_py() or 0)
                quarantined += batch.quarantined
                read.add(batch)
                metrics.put("raypt_read_documents", tagged.num_rows, label)
                metrics.put("raypt_read_bytes", int(pc.sum(tagged["source_bytes"]).as_py() or 0), label)
                metrics.put("raypt_read_quarantined", sum(q.get("records", 1) for q in batch.quarantined), label)
            assert writer is not None
            writer.close()
        if attributes is not None:
            attributes[shard] = pa.concat_tables(kept)
        if quarantined:
            lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in quarantined)
            output.write_bytes(run.relative(run.quarantine(shard)), lines.encode(), apart=True)
        return {
            "shard": shard,
            "source": manifest.shards[shard].source,
            "documents": documents,
            "bytes": source_bytes,
            **read.to_json(),
            "cpu_s": time.process_time() - cpu,
            "seconds": time.time() - start,
        }

    return maker


class TagShards:
    """A Ray Data actor around `tag_together`: models are loaded and kernels compiled once, at the first shard. It
    returns the cards of what is tagged and decided, or the user's mistake that ended the work.
    """

    def __init__(
        self,
        run_uri: str,
        manifest: Any,
        corpus: CorpusConfig,
        curation: CurationConfig,
        artefacts: dict[str, str],
        wanted: Any,
        decide: Decide | None,
    ) -> None:
        self._run, self._corpus, self._decide = RunDir(run_uri), corpus, decide
        self._manifest: Manifest = ray.get(manifest[0])
        self._wanted: list[Identity] = ray.get(wanted[0])
        self._make_tagger = functools.partial(Tagger, curation, artefacts)
        self._tagger: Tagger | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        try:
            self._tagger = self._tagger or self._make_tagger()
            tagged = tag_together(
                self._run,
                self._manifest,
                self._corpus,
                self._tagger,
                [shard for shards in batch["shards"].tolist() for shard in json.loads(shards)],
                self._wanted,
                self._make_tagger,
                self._decide,
            )
        except UserError as e:  # as a value: Ray Data wraps an exception, and the wrapped one is lost on the way
            return {"card": [""], "decided": [""], "mistake": [str(e)]}
        cards = [_text(card) for card in tagged.cards]
        # One of shards that are each decided on, or not.
        decided = [_text(card) for card in tagged.decided.values()] or [""] * len(cards)
        return {"card": cards, "decided": decided, "mistake": [""] * len(cards)}


def _text(card: Card) -> str:
    return json.dumps(card.to_json(), ensure_ascii=False)


def tag(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    curation: CurationConfig,
    quality: QualityModel | None,
    actors: RaySection | None,
    verify: Verify,
    made: Mapping[str, Made] = NO_MODELS,
    decide: Decide | None = None,
    ahead: Callable[[], object] | None = None,
) -> Tagged:
    """Tag every shard that is not whole, and decide on those that are tagged now, if it is told how. `actors`: settings
    of the autoscaling pool of Ray Data actors that does it; None: this process. `made`: what was made or looked at for
    other stages, by name of the stage. `ahead` is called before actors are started.
    """
    wanted = identities(manifest, corpus, curation, quality, made)
    cards = collection(run).survey(wanted, verify)
    todo = [s for s, card in enumerate(cards) if card is None]
    artefacts = {} if quality is None else {"quality": quality.uri}
    artefacts |= {stage: uri for stage, (uri, _) in made.items() if uri is not None}
    decided: dict[int, Card] = {}
    if todo and actors is None:
        tagger = Tagger(curation, artefacts)
        work = functools.partial(_tag_here, run, manifest, corpus, tagger, wanted, decide)
        for tagged in run_tasks(work, together(todo, _sizes(manifest), run.uri), name="curate"):
            decided |= tagged.decided
            for card in tagged.cards:
                cards[card.account["shard"]] = card
    elif todo and actors is not None:
        if ahead is not None:
            ahead()
        for card, decision in _on_actors(run, manifest, corpus, curation, artefacts, wanted, todo, actors, decide):
            number = card.account["shard"]
            cards[number] = card.holding(wanted[number])
            if decision is not None:
                # 10^6 cards share their settings, of which each has its own when it comes from another process.
                decided[number] = decision.like(next(iter(decided.values()), decision))
    whole = [card for card in cards if card is not None]
    assert len(whole) == len(wanted), "a shard was not tagged"
    collection(run).finish(whole)
    return Tagged(whole, decided)


def _tag_here(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    tagger: Tagger,
    wanted: list[Identity],
    decide: Decide | None,
    shards: Sequence[int],
) -> Tagged:
    return tag_together(run, manifest, corpus, tagger, shards, wanted, decide=decide)


def _sizes(manifest: Manifest) -> list[int]:
    """Stored bytes of each shard."""
    return [sum(piece.size for piece in shard.pieces) for shard in manifest.shards]


AT_AN_ACTOR, BYTES_AT_AN_ACTOR = (2, 6), 6 << 20
"""Tasks that an actor has, at work or waiting: two, and of small ones as many as come to some bytes. With two of 0.8
MB, 60 ms each, it waited a quarter of its time until the driver had noticed that it was done with one."""


def _at_an_actor(sizes: Sequence[int], groups: Sequence[Sequence[int]]) -> int:
    """Of tasks that each have the shards of a group; `sizes` has the bytes of every shard there is."""
    least, most = AT_AN_ACTOR
    nbytes = sum(sizes[shard] for group in groups for shard in group) / len(groups)
    return max(least, min(most, round(BYTES_AT_AN_ACTOR / max(nbytes, 1.0))))


def _on_actors(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    curation: CurationConfig,
    artefacts: dict[str, str],
    wanted: list[Identity],
    todo: list[int],
    actors: RaySection,
    decide: Decide | None,
) -> Iterator[tuple[Card, Card | None]]:
    import ray.data  # a third of a second that the tasks of other stages, which import this module, are spared

    sizes = _sizes(manifest)
    groups = together(todo, sizes, run.uri)
    there = len(groups) if actors.autoscaling else max(1, int(cluster_cpus() / actors.actor_cpus))
    most = max(actors.min_actors, actors.max_actors or there)
    least = min(actors.min_actors, len(groups))
    # Where nodes do not come by themselves, all that will have work begin at once: a pool that grows as work piles up
    # has its second actor seconds later.
    first = least if actors.autoscaling else max(least, min(most, there, len(groups)))
    # In a list each: Ray would replace a bare reference by its value, and pickle that for every actor.
    shared = [ray.put(manifest)], [ray.put(wanted)]
    items = [{"shards": json.dumps(group)} for group in groups]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        TagShards,
        fn_constructor_args=(run.uri, shared[0], corpus, curation, artefacts, shared[1], decide),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=least, max_size=most, initial_size=first, max_tasks_in_flight_per_actor=_at_an_actor(sizes, groups)
        ),
        num_cpus=actors.actor_cpus,
        label_selector=actors.labels or None,
    )
    dataset.set_name("curate")
    progress = TaskProgress("curate", len(todo))
    try:
        for row in dataset.iter_rows():
            if row["mistake"]:
                raise UserError(row["mistake"])
            progress.add()
            decided = Card.from_json(json.loads(row["decided"])) if row["decided"] else None
            yield Card.from_json(json.loads(row["card"])), decided
    except ray.exceptions.RayTaskError as e:
        raise user_error_in(e) or e from None
