"""What one forward pass of training is fed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raypt.model.llama import Targets


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass of one worker."""

    tokens_BS: Tensor
    targets_BS: Tensor
    valid_BS: Tensor
    segments_BS: Tensor | None
    """None where every row is one document without padding: plain causal attention, which is faster."""
    sample_index_B: np.ndarray
    rows: np.ndarray
    """The packed tokens as they came, (B, S+1): what the audit trail hashes."""

    @property
    def tokens(self) -> int:
        return int(self.valid_BS.sum())

    def to(self, device: torch.device) -> "MicroBatch":
        if device.type == "cpu":
            return self
        return replace(
            self,
            tokens_BS=self.tokens_BS.to(device, non_blocking=True),
            targets_BS=self.targets_BS.to(device, non_blocking=True),
            valid_BS=self.valid_BS.to(device, non_blocking=True),
            segments_BS=None if self.segments_BS is None else self.segments_BS.to(device, non_blocking=True),
        )

    def targets(self, z_loss: float = 0.0, chunk_tokens: int = 2048) -> Targets:
        return Targets(self.targets_BS, self.valid_BS, z_loss, chunk_tokens)


def micro_batch(rows: Mapping[str, Any], *, cross_document_targets: bool = False) -> MicroBatch:
    """From packed samples: `tokens` and `segments` (B, S+1), `sample_index` (B). A target is valid inside a document;
    with `cross_document_targets`, wherever it is not padding.
    """
    tokens = np.ascontiguousarray(rows["tokens"]).astype(np.int64)
    segments = torch.from_numpy(np.ascontiguousarray(rows["segments"]).astype(np.int32))
    here, following = segments[:, :-1], segments[:, 1:]
    valid = following != 0 if cross_document_targets else (here == following) & (here != 0)
    ids = torch.from_numpy(tokens)
    plain = bool((here == here[:, :1]).all())
    return MicroBatch(
        tokens_BS=ids[:, :-1],
        targets_BS=ids[:, 1:],
        valid_BS=valid,
        segments_BS=None if plain else here,
        sample_index_B=np.asarray(rows["sample_index"], dtype=np.int64),
        rows=tokens,
    )
