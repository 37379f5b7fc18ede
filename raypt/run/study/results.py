"""The table of a study: what each training showed at each step, and what the held-out documents said at its end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.run.study.compare import bits_per_byte
from raypt.run.study.laws.robust import Array
from raypt.run.study.train import JUDGED, METRICS, Training
from raypt.run.study.variants import Resolved


@dataclass(frozen=True)
class Trial:
    """A variant with a seed, and the training that it is (two that come to the same share one)."""

    variant: Resolved
    seed: int
    training: Training
    parameters: int
    flops_per_token: float
    unique_tokens: int
    documents: int
    """Curated, of the variant's text."""

    @property
    def tokens(self) -> int:
        """Trained on, padding included."""
        train = self.variant.config.train
        return train.steps * train.global_batch_tokens

    @property
    def seen_unique(self) -> int:
        """Different tokens that it trained on."""
        return min(self.unique_tokens, self.tokens)


@dataclass(frozen=True)
class Judged:
    """Nats by variant, seed and held-out document."""

    nats: dict[str, Array]
    """Variant -> (seeds, documents)."""
    bytes_D: Array
    tokens: dict[str, Array]
    """Variant -> tokens of each document under its tokenizer."""
    group_D: list[str]

    def bits_per_byte(self, variant: str) -> float:
        return bits_per_byte(self.nats[variant], self.bytes_D)

    def loss(self, variant: str, seed: int) -> float:
        """Nats a token of one seed's training."""
        return float(self.nats[variant][seed].sum() / self.tokens[variant].sum())


def judged(trials: Sequence[Trial]) -> Judged:
    """The last word on each training, from its files."""
    tables = storage.in_parallel(lambda t: storage.read_parquet(storage.join(t.training.uri, JUDGED)), trials)
    nats: dict[str, list[Array]] = {}
    tokens: dict[str, Array] = {}
    for trial, table in zip(trials, tables, strict=True):
        nats.setdefault(trial.variant.name, []).append(np.asarray(table["nats"], float))
        tokens[trial.variant.name] = np.asarray(table["tokens"], float)
    # A tokenizer that adds no BOS leaves the first token unscored: bytes are those of the first variant's.
    sizes = np.asarray(tables[0]["bytes"], float)
    return Judged({k: np.stack(v) for k, v in nats.items()}, sizes, tokens, tables[0]["group"].to_pylist())


def steps_table(trials: Sequence[Trial]) -> pa.Table:
    """A row a step of each training: variant, seed, step, tokens, flops, and each metric (bits per byte by group of the
    held-out documents under `heldout/<group>`).
    """
    tables = []
    for trial in trials:
        table = storage.read_parquet(storage.join(trial.training.uri, METRICS))
        rows = table.num_rows
        tokens = np.asarray(table["tokens"], float)
        first = pa.table({"variant": [trial.variant.name] * rows, "seed": pa.array([trial.seed] * rows, pa.int64())})
        for name in table.column_names:
            first = first.append_column(name, table[name])
            if name == "tokens":
                first = first.append_column("flops", pa.array(tokens * trial.flops_per_token))
        tables.append(first)
    return pa.concat_tables(tables, promote_options="permissive")


def runs_table(trials: Sequence[Trial], found: Judged) -> pa.Table:
    """A row a training: what the laws are fitted to. `loss` is nats a token of the held-out documents."""
    rows = []
    seen: dict[str, int] = {}
    for trial in trials:
        name = trial.variant.name
        at = seen[name] = seen.get(name, -1) + 1
        row = {
            "variant": name,
            "seed": trial.seed,
            "parameters": trial.parameters,
            "tokens": trial.tokens,
            "unique_tokens": trial.seen_unique,
            "epochs": trial.tokens / trial.seen_unique,
            "flops": trial.tokens * trial.flops_per_token,
            "documents": trial.documents,
            "loss": found.loss(name, at),
            "bits_per_byte": bits_per_byte(found.nats[name][at : at + 1], found.bytes_D),
        }
        weights = trial.variant.weights or {}
        rows.append(row | {f"weight_{group}": share for group, share in weights.items()})
    return pa.Table.from_pylist(rows)
