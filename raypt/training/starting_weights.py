"""Weights that a run begins from, as each rank reads its own part of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raypt import storage
from raypt.model import ModelConfig
from raypt.model.hf import check_weights
from raypt.model.llama import parameter_shapes
from raypt.model.weights import BLOCK, WeightFiles, runs
from raypt.parallel.state import MASTER, Box, ShardSource, StateKey, Want
from raypt.training.checkpoint.manifest import CheckpointInfo, read_info
from raypt.training.checkpoint.reader import READS, CheckpointReader

VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
"""Parameters with a row for each token."""


@dataclass(frozen=True)
class StartingWeights:
    """Where the first weights of a run come from. Small and picklable."""

    uri: str
    """A Hugging Face directory, or the directory of one checkpoint."""
    is_checkpoint: bool
    model: ModelConfig
    """The shape that is there."""
    known_tokens: int | None = None
    """Rows of the vocabulary's matrices from this one on are new; None = none is."""
    optimizer: bool = False
    """The optimizer's state is taken too."""
    info: CheckpointInfo | None = None
    """Of a checkpoint, what its manifest says, where that is known: each worker would ask for it."""

    def open(self) -> ShardSource:
        """Raises UserError if nothing usable is there."""
        source: ShardSource
        if self.is_checkpoint:
            info = self.info or read_info(self.uri)
            if info is None:
                raise FileNotFoundError(f"{self.uri}: the checkpoint is gone")
            source = CheckpointReader(info)
        else:
            source = HubState(self.uri, self.model)
        if not self.optimizer:
            source = WeightsAlone(source)
        if self.known_tokens is None:
            return source
        shapes = parameter_shapes(self.model)
        tables = {name: tuple(shapes[name]) for name in VOCABULARY if name in shapes}
        return MoreTokens(source, tables, self.known_tokens)


class HubState:
    """The safetensors of a Hugging Face directory as a `ShardSource`: of each box, its bytes alone are read, but of a
    box of columns whole rows.
    """

    scalars: Mapping[str, float] = {}  # the protocol's property; nobody writes to it

    def __init__(self, uri: str, model: ModelConfig) -> None:
        self.files = check_weights(WeightFiles(uri), model)

    def states(self, name: str) -> set[str]:
        """See ShardSource."""
        return {MASTER}

    def read(self, wants: Sequence[Want]) -> None:
        """See ShardSource."""
        storage.in_parallel(self._fill, wants, workers=READS)

    @torch.no_grad()  # of the thread that calls, not of all
    def _fill(self, want: Want) -> None:
        (name, state, box), out = want
        assert state == MASTER, "there is no other state of weights alone"
        entry = self.files.entries[name]
        assert 1 <= len(entry.shape) <= 2
        block = BLOCK // entry.dtype.itemsize
        if len(entry.shape) == 1 or box.shape[0] == 1 or box.shape[1] == entry.shape[1]:
            first = box.offset[0] if len(entry.shape) == 1 else box.offset[0] * entry.shape[1] + box.offset[1]
            flat = out.view(-1)
            for at, numel in runs(box.numel, block):
                flat[at : at + numel].copy_(self.files.read(name, first + at, numel))
            return
        width = entry.shape[1]
        for at, rows in runs(box.shape[0], max(1, block // width)):
            found = self.files.read(name, (box.offset[0] + at) * width, rows * width).view(rows, width)
            out[at : at + rows].copy_(found[:, box.offset[1] : box.offset[1] + box.shape[1]])


class WeightsAlone:
    """A state less that of the optimizer, which begins anew."""

    scalars: Mapping[str, float] = {}

    def __init__(self, source: ShardSource) -> None:
        self.source = source

    def states(self, name: str) -> set[str]:
        """See ShardSource."""
        return {MASTER}

    def read(self, wants: Sequence[Want]) -> None:
        """See ShardSource."""
        self.source.read(wants)


class MoreTokens:
    """A state whose vocabulary has grown. The row of a new token is the mean of those of the known ones (Hewitt 2021,
    "Initializing New Word Embeddings for Pretrained Language Models": any other point may take all probability from the
    rest); the optimizer's state of new rows is zero.
    """

    def __init__(self, source: ShardSource, tables: Mapping[str, tuple[int, ...]], known: int) -> None:
        """`tables`: shape in `source` of each parameter with a row for each token."""
        self.source, self.tables, self.known = source, tables, known
        self._means: dict[str, Tensor] = {}

    @property
    def scalars(self) -> Mapping[str, float]:
        """See ShardSource."""
        return self.source.scalars

    def states(self, name: str) -> set[str]:
        """See ShardSource."""
        return self.source.states(name)

    @torch.no_grad()
    def read(self, wants: Sequence[Want]) -> None:
        """See ShardSource."""
        known: list[Want] = []
        for key, out in wants:
            first, rows = key.box.offset[0], key.box.shape[0]
            old = min(max(self.known - first, 0), rows) if key.name in self.tables else rows
            if old:
                box = Box(key.box.offset, (old, *key.box.shape[1:]))
                known.append(Want(StateKey(key.name, key.state, box), out[:old]))
            if old < rows and key.state == MASTER:
                columns = slice(key.box.offset[1], key.box.offset[1] + key.box.shape[1])
                out[old:].copy_(self._mean(key.name)[columns].expand(rows - old, -1))
            elif old < rows:
                out[old:].zero_()
        self.source.read(known)

    def _mean(self, name: str) -> Tensor:
        """Of all known rows, which are read for it once, by the ranks that hold new ones."""
        if name not in self._means:
            width = self.tables[name][1]
            total = torch.zeros(width, dtype=torch.float64)
            for first, rows in runs(self.known, max(1, BLOCK // (4 * width))):
                part = torch.empty(rows, width)
                self.source.read([Want(StateKey(name, MASTER, Box((first, 0), (rows, width))), part)])
                total += part.sum(dim=0, dtype=torch.float64)
            self._means[name] = (total / self.known).float()
        return self._means[name]
