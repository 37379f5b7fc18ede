"""Held-out loss by source and language."""

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist

from raypt import storage
from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch
from raypt.parallel.topology import Topology
from raypt.tokens.config import HeldoutConfig, PackingConfig, TokenizerConfig, TokensConfig
from raypt.tokens.store import files
from raypt.tokens.store.files import TokenStore
from raypt.tokens.stream.producer import tokenize_heldout_parts
from raypt.tokens.stream.spec import prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.heldout import Heldout, HeldoutLoss
from raypt.training.heldout_plan import plan_samples

torch.set_num_threads(1)
GROUPS = [("web", "en"), ("web", "fr"), ("books", "en")]


class Whole:
    """A model that is not partitioned, as the evaluation sees an engine."""

    topology = Topology()

    def __init__(self, model: Llama) -> None:
        self.model = model

    @torch.no_grad()
    def evaluate(self, micro_batches: list[MicroBatch]) -> list[float]:
        return [float(self.model(m.tokens_BS, m.segments_BS, targets=m.targets())[0]) for m in micro_batches]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tokenizer]:
    root = tmp_path_factory.mktemp("heldout")
    random = np.random.default_rng(0)
    uris = []
    for part, (source, lang) in enumerate(GROUPS):
        letters = list({"en": "aeiou", "fr": "éàèêô"}[lang] + source)
        texts = ["".join(random.choice(letters, 50)) for _ in range(60)]
        n = len(texts)
        table = {
            "doc_key": pa.array([(part << 32) | i for i in range(n)], pa.int64()),
            "id": pa.nulls(n, pa.string()),
            "source": [source] * n,
            "url": pa.nulls(n, pa.string()),
            "text": texts,
            "lang": [lang] * n,
        }
        uris.append(str(root / f"part-{part:05d}.parquet"))
        storage.write_parquet(uris[-1], pa.table(table))
    config = TokensConfig(
        tokenizer=TokenizerConfig(vocab_size=300),
        packing=PackingConfig(sequence_length=32),
        heldout={"fraction": 0.3},
    )
    uri = str(root / "tokenizer")
    tokenizer = prepare_tokenizer(uris, config.tokenizer, uri, 0)
    plan = prepare_store(uris, tokenizer, config, str(root / "tokens"), 0)
    tokenize_heldout_parts(plan, config, uri)
    return storage.join(plan.uri, "heldout"), tokenizer


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path_factory.mktemp('group')}/store", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def heldout(store: tuple[str, Tokenizer], max_samples: int | None = None) -> Heldout:
    uri, tokenizer = store
    return Heldout(
        uri,
        max_samples=max_samples,
        micro_batch_size=4,
        byte_count=lambda ids: len(tokenizer.decode(ids.tolist()).encode()),
    )


def model_for(store: tuple[str, Tokenizer]) -> Llama:
    config = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_kv_heads=1, init_std=0.2)
    return Llama(config.for_vocabulary(store[1].vocab_size)).initialise(0)


def evaluate(chosen: Heldout, model: Llama) -> HeldoutLoss:
    found = chosen.evaluate(Whole(model), torch.device("cpu"))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_each_source_and_language_has_its_own_loss_and_bits_per_byte(store: tuple[str, Tokenizer], group: None) -> None:
    chosen, model = heldout(store), model_for(store)
    found = evaluate(chosen, model)
    assert set(found.by_group) == {f"{source}/{lang}" for source, lang in GROUPS}
    sums = {name: np.zeros(3) for name in found.by_group}
    for shard, section in chosen.store.sections():
        for row in range(section.first_row, section.first_row + section.rows):
            ids, segments = (x[0] for x in chosen.store.read(np.array([shard]), np.array([row])))
            for segment in set(segments.tolist()) - {0}:
                document = torch.from_numpy(ids[segments == segment].astype(np.int64))
                if len(document) < 2:
                    continue
                with torch.no_grad():
                    logits = model(document[None, :-1])[0]
                nats = torch.nn.functional.cross_entropy(logits, document[1:], reduction="sum").item()
                size = len(store[1].decode(document[1:].tolist()).encode())
                sums[f"{section.source}/{section.lang}"] += nats, len(document) - 1, size
    for name, (nats, count, size) in sums.items():
        figures = found.by_group[name]
        assert figures["tokens"] == count
        assert figures["loss"] == pytest.approx(nats / count, rel=1e-5)
        # Bytes are counted over whole micro-batches: a character cut at a sample's edge is decoded to a replacement.
        assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=0.02)
    total = np.sum(list(sums.values()), axis=0)
    assert found.loss == pytest.approx(total[0] / total[1], rel=1e-5)


def test_a_limit_keeps_every_group_and_the_same_samples_each_time(store: tuple[str, Tokenizer], group: None) -> None:
    chosen, model = heldout(store, max_samples=6), model_for(store)
    first, second = evaluate(chosen, model), evaluate(chosen, model)
    assert len(chosen) == 6
    assert set(first.by_group) == {f"{source}/{lang}" for source, lang in GROUPS}
    assert first.by_group == second.by_group


def test_ranks_share_the_samples_and_run_equally_many_passes(store: tuple[str, Tokenizer]) -> None:
    chosen = heldout(store)
    chosen.load()
    turns = [list(chosen.batches(rank, 3)) for rank in range(3)]
    assert len({len(t) for t in turns}) == 1
    taken = sorted(int(i) for t in turns for _, m in t if m is not None for i in m.sample_index_B)
    assert taken == list(range(len(chosen)))


def test_what_is_evaluated_is_planned_without_opening_a_shard(
    store: tuple[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plan_samples(TokenStore(store[0]), None)
    assert whole.groups == tuple(sorted(f"{source}/{lang}" for source, lang in GROUPS))

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a shard is opened")

    monkeypatch.setattr(files, "StoreShard", refuse)
    few = plan_samples(TokenStore(store[0]), 6)
    total = whole.row.size
    assert few.row.size == 6 < total
    picked = np.arange(6) * total // 6
    for name in ("shard", "row", "group"):
        assert np.array_equal(getattr(few, name), getattr(whole, name)[picked])


def test_an_evaluation_reads_its_samples_once(store: tuple[str, Tokenizer], group: None) -> None:
    chosen, model = heldout(store, max_samples=6), model_for(store)
    first = evaluate(chosen, model)

    def refuse(*args: object) -> None:
        raise AssertionError("samples are read again")

    chosen.store.read = refuse  # type: ignore[method-assign,assignment]
    assert evaluate(chosen, model).by_group == first.by_group


def test_a_hundredth_of_very_many_documents_is_bounded() -> None:
    rule = HeldoutConfig(fraction=0.01, max_documents=100_000)
    assert rule.bounded(1_000_000).fraction == 0.01
    assert rule.bounded(10**10).fraction == 1e-5
    assert HeldoutConfig(fraction=0.01, max_documents=None).bounded(10**10).fraction == 0.01
