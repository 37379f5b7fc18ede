"""From curated parts and configuration to the plan of a stream: what is in the store, who comes when, a fingerprint.

The fingerprint travels with every model checkpoint. It is a list of named components, so that a resumed run whose
inputs changed can say what differs instead of training on something else.
"""

import functools
import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from raypt import storage
from raypt.artefact import Card, Identity, Output, Verify, make
from raypt.collection import Collection
from raypt.errors import UserError
from raypt.tasks import few_together, run_tasks, together
from raypt.tokens.config import HeldoutConfig, MixtureConfig, StreamConfig, TokensConfig
from raypt.tokens.parts import HELDOUT_SCHEMA, PartSummary, summarize_part
from raypt.tokens.shares import own_shares
from raypt.tokens.store.packing import segment_type
from raypt.tokens.store.shards import groups_identity, heldout_identity, packing_identity
from raypt.tokens.stream.blocks import BlockPlan, plan_blocks
from raypt.tokens.stream.clock import ClockSource, RowsOf, SampleClock
from raypt.tokens.stream.mixture import Phase
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.upsampling import factors

log = logging.getLogger("raypt")

PLAN_FILE = "store.json"


@dataclass(frozen=True)
class StorePlan:
    """The inputs of a token store: the curated parts, in shard order, and the settings that turn them into samples."""

    uri: str
    part_uris: tuple[str, ...]
    parts: tuple[PartSummary, ...]
    identity: dict[str, str]
    """Named components: manifest, tokenizer, packing, heldout."""
    dtype: str
    """Type of the stored ids: uint16 or uint32."""
    seed: int
    new: bool = False
    """Whether nothing was there when this start of a job began: no shard is looked for."""

    @property
    def bytes_by_source(self) -> dict[str, int]:
        """Source -> UTF-8 bytes, of the sources that have documents to train on."""
        out: dict[str, int] = {}
        for part in self.parts:
            for source, n in part.bytes.items():
                if part.training_documents.get(source):
                    out[source] = out.get(source, 0) + n
        return dict(sorted(out.items()))

    @functools.cached_property
    def together(self) -> list[list[int]]:
        """The shards by who is made together, ascending: known to readers too, before the first is there."""
        sizes = [sum(part.bytes.values()) for part in self.parts]
        return together(range(len(sizes)), sizes, self.uri, as_now=False)

    @property
    def heldout_together(self) -> list[list[int]]:
        """The same of the held-out documents, which are few."""

        def held(part: PartSummary) -> int:
            shares = (
                part.bytes.get(source, 0) * (1 - part.training_documents.get(source, 0) / n)
                for source, n in part.documents.items()
                if n
            )
            return int(sum(shares))

        return few_together(range(len(self.parts)), [held(part) for part in self.parts], self.uri)

    def shards_of(self, source: str) -> tuple[int, ...]:
        return tuple(i for i, part in enumerate(self.parts) if part.training_documents.get(source))


MEASURE_FORMAT = 1


def summarize_parts(part_uris: Sequence[str], config: TokensConfig, seed: int) -> list[PartSummary]:
    """One pass over the curated text, as Ray tasks where Ray runs."""
    mixture = config.mixture
    task = functools.partial(summarize_part, heldout=config.heldout, seed=seed, by=mixture.by, edges=mixture.edges)
    return run_tasks(task, part_uris, name="measure curated text")


@dataclass(frozen=True)
class Measure:
    """Measures curated parts, and keeps the results as cards. On an object store the held-out documents are kept beside
    them, so that the parts need not be read again for them.
    """

    collection: Collection
    heldout: HeldoutConfig
    seed: int
    by: tuple[str, ...]
    edges: dict[str, tuple[float, ...]]

    def identities(self, curated: Iterable[Card]) -> list[Identity]:
        """Of what is measured of these parts."""
        settings = {"heldout": self.heldout.model_dump(mode="json"), "seed": self.seed, "by": list(self.by)}
        settings |= {"edges": {name: list(of) for name, of in self.edges.items()}} if self.edges else {}
        return [Identity("measured", MEASURE_FORMAT, {"curated": card.content}, settings) for card in curated]

    def __call__(self, parts: Mapping[int, tuple[str, Card]]) -> list[Card]:
        """The cards of what is measured of parts by number, from the URI and the card of each."""
        wanted = self.identities(card for _, card in parts.values())
        work = {
            part: (identity, functools.partial(self._of, part, uri))
            for identity, (part, (uri, _)) in zip(wanted, parts.items(), strict=True)
        }
        pack_up_to = 0 if storage.is_local(self.collection.root) else storage.LITTLE_BYTES
        return self.collection.build_together(work, pack_up_to=pack_up_to)

    def _of(self, part: int, uri: str, output: Output) -> dict[str, Any]:
        held: list[pa.RecordBatch] | None = None if storage.is_local(self.collection.root) else []
        summary = summarize_part(uri, self.heldout, self.seed, self.by, self.edges, held)
        if held:
            table = pa.Table.from_batches(held, HELDOUT_SCHEMA)
            output.write_parquet(_heldout_path(self.collection, part), table)
        return asdict(summary)


def measure_of(config: TokensConfig, seed: int, collection: Collection) -> Measure:
    """How the parts of a run are measured."""
    return Measure(collection, config.heldout, seed, config.mixture.by, dict(config.mixture.edges))


def _heldout_path(collection: Collection, part: int) -> str:
    return f"{collection.cards}/heldout-{part:05d}.parquet"


def _summary(collection: Collection, part: int, card: Card) -> PartSummary:
    path, account = _heldout_path(collection, part), dict(card.account)
    account["heldout_uri"] = card.uri(collection.root, path) if path in card.files else ""
    return PartSummary(**account)


def measure_parts(
    part_uris: Sequence[str],
    curated: Sequence[Card],
    config: TokensConfig,
    seed: int,
    collection: Collection,
    verify: Verify,
    made_now: Mapping[int, Card] | None = None,
) -> list[PartSummary]:
    """The summaries of parts, whose cards (`curated`) vouch for their bytes: each is read once in the life of a run.
    `made_now`: the cards of those that were measured when they were written, in this start.
    """
    measure = measure_of(config, seed, collection)
    wanted = measure.identities(curated)
    cards = collection.survey(wanted, verify, made_now)
    todo = [i for i, card in enumerate(cards) if card is None]
    groups = together(todo, [card.account["bytes"] for card in curated], collection.root)
    items = [{i: (part_uris[i], curated[i]) for i in group} for group in groups]
    made = itertools.chain.from_iterable(run_tasks(measure, items, name="measure curated text"))
    for part, card in zip(todo, made, strict=True):
        cards[part] = card.holding(wanted[part])
    done = [card for card in cards if card is not None]
    collection.finish(done)
    return [_summary(collection, part, card) for part, card in enumerate(done)]


def prepare_store(
    part_uris: Sequence[str],
    tokenizer: Tokenizer,
    config: TokensConfig,
    store_uri: str,
    seed: int,
    summaries: Sequence[PartSummary] | None = None,
    *,
    replace: bool = False,
    new: bool = False,
) -> StorePlan:
    """The plan of the store at `store_uri`, written there; tokenizes nothing yet. `new`: nothing is there.

    Raises UserError, naming what differs, if the store there was made of other inputs, unless `replace`: then it is
    given over to the new ones, and its shards are made anew.
    """
    parts = tuple(summaries if summaries is not None else summarize_parts(part_uris, config, seed))
    documents = sum(sum(p.documents.values()) for p in parts)
    content = xxhash.xxh3_64_hexdigest("".join(p.content for p in parts).encode())
    identity = {
        "manifest": f"shards={len(parts)} documents={documents} content={content}",
        "tokenizer": f"vocabulary={tokenizer.vocab_size} hash={tokenizer.fingerprint}",
        "packing": packing_identity(config.packing),
        "heldout": heldout_identity(config.heldout, seed),
        **groups_identity(config.mixture.by, config.mixture.edges),
    }
    plan = StorePlan(store_uri, tuple(part_uris), parts, identity, tokenizer.dtype.name, seed, new)
    if not plan.bytes_by_source:
        raise UserError(
            "tokens: there is no document to train on (the curated text is empty, or all of it is held out)"
        )
    refuse = "use another run.dir, or restore what differs"
    settings = Identity("token store", 1, {}, identity | {"seed": seed})
    make(settings, store_uri, PLAN_FILE, lambda output: None, refuse=None if replace else refuse, new=new)
    return plan


def _differences(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    keys = [k for k in dict.fromkeys([*was, *now]) if was.get(k) != now.get(k)]
    return "\n".join(f"  {k}: was {was.get(k, 'absent')!r}, is {now.get(k, 'absent')!r}" for k in keys)


def check_fingerprint(saved: str, current: str) -> None:
    """Raises UserError, naming each differing component, if a checkpoint's stream is not the present one."""
    if saved == current:
        return
    differences = _differences(json.loads(saved), json.loads(current))
    raise UserError(
        "the checkpoint was trained on another stream of samples; to continue, restore what differs, or start under "
        f"another run.name:\n{differences}"
    )


@dataclass(frozen=True)
class StreamSpec:
    """All that a worker needs to compute and read any sample of the run; small and picklable."""

    store_uri: str
    sources: tuple[ClockSource, ...]
    phases: tuple[Phase, ...]
    seed: int
    width: int
    """S + 1."""
    dtype: str
    """Type of the stored ids."""
    samples: int
    """The stream is asked for this many samples in all; it ends earlier only if every source has a limit."""
    global_batch: int
    """Samples of one optimizer step, over all ranks."""
    blocks: BlockPlan
    """How the samples of a batch are dealt to the ranks, and how many travel together."""
    together: Mapping[int, int]
    """Of a shard that is made together with others, the lowest of them: where its card is (`files.joint_uri`)."""
    config: StreamConfig
    fingerprint: str

    def clock(self, rows_of: RowsOf) -> SampleClock:
        return SampleClock(self.sources, self.phases, rows_of, seed=self.seed, window_shards=self.config.window_shards)


def mixture_of(
    plan: StorePlan, config: MixtureConfig, sequence_length: int, weights: Mapping[str, float] | None = None
) -> tuple[tuple[ClockSource, ...], tuple[Phase, ...]]:
    """The sources and the phases of the mixture. `weights` stands in where `config.weights` is None."""
    sizes = plan.bytes_by_source
    own = config.weights
    shares = (own_shares(own, sizes) if isinstance(own, str) else own) or weights
    for where, named in [
        ("weights", shares or {}),
        ("limits", config.limits),
        *((f"curriculum[{i}].weights", s.weights) for i, s in enumerate(config.curriculum)),
    ]:
        unknown = sorted(set(named) - set(sizes))
        if unknown:
            raise UserError(
                f"tokens.mixture.{where}: no such group in the curated text: {unknown}; it has {list(sizes)}"
            )
    if shares is None:
        shares = _natural_shares(sizes, config)
    if config.upsample:
        times = factors(sizes, config)
        shares = {s: share * times[s] for s, share in shares.items()}
    left_out = [s for s in sizes if not shares.get(s) and not any(step.weights.get(s) for step in config.curriculum)]
    if left_out:
        log.warning("tokens.mixture: sources %s have no weight: none of their text is trained on", left_out)
    names = [s for s in sizes if s not in left_out]
    phases = [Phase(0, _tempered([shares.get(s, 0.0) for s in names], config.temperature))]
    for step in config.curriculum:
        start = max(1, step.at_tokens // sequence_length)
        phases.append(Phase(start, _tempered([step.weights.get(s, 0.0) for s in names], config.temperature)))
    if not any(phases[0].weights):
        raise UserError("tokens.mixture.weights: no source with text has a weight above 0")
    sources = []
    for name in names:
        limit = config.limits.get(name)
        tokens = limit.tokens if limit else None
        sources.append(
            ClockSource(
                name,
                plan.shards_of(name),
                _least(limit.epochs if limit else None, config.max_repeats),
                tokens // sequence_length if tokens is not None else None,
            )
        )
    return tuple(sources), tuple(phases)


def _least(a: float | None, b: float | None) -> float | None:
    """The smaller of two limits, of which None is none."""
    return min((x for x in (a, b) if x is not None), default=None)


def _natural_shares(sizes: Mapping[str, int], config: MixtureConfig) -> dict[str, float]:
    """By size; a source's epochs or token budget, where given, set its share so that all end together."""
    limits = config.limits
    budgets = {s: limits[s].tokens for s in sizes if s in limits and limits[s].tokens is not None}
    if budgets and len(budgets) < len(sizes):
        raise UserError(
            "tokens.mixture.limits: some sources have a token budget and some not, so their shares are unknown; give "
            "all of them `tokens`, or set tokens.mixture.weights"
        )
    if budgets:
        return {s: float(n or 0) for s, n in budgets.items()}
    return {s: n * ((limits[s].epochs if s in limits else None) or 1.0) for s, n in sizes.items()}


def _tempered(weights: Sequence[float], temperature: float) -> tuple[float, ...]:
    total = sum(weights)
    return tuple((w / total) ** (1 / temperature) if w else 0.0 for w in weights)


def plan_stream(
    plan: StorePlan,
    config: TokensConfig,
    *,
    samples: int,
    global_batch: int,
    ranks: Sequence[int],
    weights: Mapping[str, float] | None = None,
    micro_batch: int | None = None,
) -> StreamSpec:
    """The stream of a run: `samples` in all, `global_batch` a step, for any number of workers in `ranks`.

    `weights` (source -> share) is used where tokens.mixture.weights is None. With `micro_batch`, the samples that a
    trainer takes at a time, micro-batch g holds the same samples whoever trains on it.
    """
    length = config.packing.sequence_length
    sources, phases = mixture_of(plan, config.mixture, length, weights)
    identity = plan.identity | {
        "seed": str(plan.seed),
        "mixture": "; ".join(
            f"from {p.start}: " + " ".join(f"{s.name}={w:.9g}" for s, w in zip(sources, p.weights, strict=True))
            for p in phases
        ),
        "limits": " ".join(f"{s.name}={s.max_epochs}/{s.max_samples}" for s in sources),
        "window": str(config.stream.window_shards),
    }
    return StreamSpec(
        store_uri=plan.uri,
        sources=sources,
        phases=phases,
        seed=plan.seed,
        width=length + 1,
        dtype=plan.dtype,
        samples=samples,
        global_batch=global_batch,
        blocks=plan_blocks(
            global_batch,
            ranks,
            sample_bytes=(length + 1) * (np.dtype(plan.dtype).itemsize + segment_type(length + 1).itemsize),
            target_bytes=config.stream.block_bytes,
            most_steps=max(1, config.stream.ahead_steps // 4),
            unit=micro_batch,
        ),
        together={shard: group[0] for group in plan.together if len(group) > 1 for shard in group},
        config=config.stream,
        fingerprint=json.dumps(identity, sort_keys=True, ensure_ascii=False),
    )
