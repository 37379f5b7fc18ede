"""Families of trainings under WSD: what branches off is what the training would have been alone."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt import storage
from raypt.artefact import Card
from raypt.config_io import validate
from raypt.run.config import RunConfig
from raypt.run.study.branches import branching, families, train_family, warmup
from raypt.run.study.data import NONE, Heldout, Tokens
from raypt.run.study.stability import SPIKE, WINDOW, ratios
from raypt.run.study.train import JUDGED, METRICS, Training, branched_at, plan_training
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.spec import prepare_store
from raypt.tokens.tokenizer.trainer import prepare_tokenizer

WORDS = ("the", "old", "river", "carries", "a", "small", "boat", "past", "stone", "bridges", "and", "new", "fields")


def text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, 200)) + "."


@pytest.fixture(scope="module")
def family_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """(study's directory, steps, ...) -> trainings that differ in their steps."""
    root = tmp_path_factory.mktemp("branches")
    rng = np.random.default_rng(0)
    parts = []
    for name in ("part-00000.parquet", "heldout.parquet"):
        texts = [text(rng) for _ in range(80)]
        table = pa.table({"doc_key": pa.array(range(80), pa.int64()), "source": ["a"] * 80, "text": texts})
        pq.write_table(table.append_column("lang", pa.array(["en"] * 80)), root / name)
        parts.append(str(root / name))
    said = {
        "tokens": {"tokenizer": {"vocab_size": 300}, "packing": {"sequence_length": 32}},
        "model": {"hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1},
        "train": {
            "global_batch_tokens": 256,
            "micro_batch_size": 8,
            "workers": 1,
            "tensorboard": False,
            "schedule": {"kind": "wsd", "warmup_steps": 3},
            "evaluation": {"every_steps": None, "max_samples": 4},
        },
    }
    config = validate(RunConfig, said)
    tokens = config.tokens.model_copy(update={"heldout": NONE})
    tokenizer_uri = str(root / "tokenizer")
    tokenizer = prepare_tokenizer(parts[:1], tokens.tokenizer, tokenizer_uri, 0)
    stores = []
    for name, part in zip(("store", "judged"), parts, strict=True):
        plan = prepare_store([part], tokenizer, tokens, str(root / name), 0)
        packed = sum(a.packed_tokens for a in tokenize_parts(plan, tokens, tokenizer_uri))
        stores.append((plan, packed))
    store = Tokens(stores[0][0], tokenizer_uri, tokenizer, tokens, stores[0][1], str(root / "judged"))

    class At(Heldout):
        @property
        def part(self) -> str:
            return parts[1]

    heldout = At(str(root), Card({}, "", {}, None))

    def make(uri: Path, *steps: int, **schedule: object) -> list[Training]:
        out = []
        for n in steps:
            train = config.train.model_copy(
                update={"steps": n, "schedule": config.train.schedule.model_copy(update=schedule)}
            )
            out.append(plan_training(config.model_copy(update={"train": train}), store, heldout, 0, str(uri)))
        return out

    yield make
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def test_what_differs_in_its_steps_alone_is_a_family(family_of, tmp_path: Path) -> None:
    trainings = family_of(tmp_path, 20, 40, 10)
    assert [[t.steps for t in f] for f in families(trainings)] == [[10, 20, 40]]
    assert len(families(family_of(tmp_path, 20, 40, kind="cosine"))) == 2
    assert len(families(family_of(tmp_path, 20, 40, steps=40))) == 2
    # Unsaid, the warm-up of a run of 30 steps is 15 and of longer ones 20.
    assert [len(f) for f in families(family_of(tmp_path, 30, 50, 60, warmup_steps=None))] == [1, 2]
    other = dataclasses.replace(trainings[0], identity=dataclasses.replace(trainings[0].identity, inputs={"x": "y"}))
    assert len(families([*trainings, other])) == 2


def test_branches_are_bit_for_bit_what_they_would_be_alone(family_of, tmp_path: Path) -> None:
    (family,) = families(family_of(tmp_path / "together", 10, 20))
    cards = train_family(family)
    short = family[0]
    assert branched_at(short) == branching(short) == 8
    assert [c.account["made_steps"] for c in cards] == [2, 20]
    alone = family_of(tmp_path / "alone", 10, 20)
    for one in alone:
        train_family((one,))
    for one, other in zip(family, alone, strict=True):
        metrics, same = (
            storage.read_parquet(storage.join(t.uri, METRICS)).drop_columns("step_s") for t in (one, other)
        )
        assert metrics.num_rows == one.steps
        assert metrics.equals(same)
        assert storage.read_parquet(storage.join(one.uri, JUDGED)).equals(
            storage.read_parquet(storage.join(other.uri, JUDGED))
        )


def test_a_branch_thought_of_too_late_is_trained_from_its_beginning(family_of, tmp_path: Path) -> None:
    short, long = family_of(tmp_path, 10, 20)
    train_family((long,))
    cards = train_family((short, long))
    assert branched_at(short) == 0
    assert [c.account["made_steps"] for c in cards] == [10, 20]
    assert warmup(short) == 3


def test_a_spike_is_far_above_the_median_before_it_and_hides_no_other() -> None:
    norms = np.r_[np.full(WINDOW + 8, 1.0), 9.0, 1.0, 5.0, np.nan, 1.0]
    found = ratios(norms)
    assert np.flatnonzero(found > SPIKE).tolist() == [8, 10, 11]
    assert found[8] == 9.0
    assert len(ratios(norms[:WINDOW])) == 0
