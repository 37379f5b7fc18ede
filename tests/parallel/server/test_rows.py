"""Micro-batches on their way to workers."""

import numpy as np
import pytest
import torch

from raypt.model.batch import micro_batch
from raypt.parallel.server.rows import received, sent

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("documents", [1, 3])
def test_a_micro_batch_arrives_as_it_was_sent(documents: int) -> None:
    random = np.random.default_rng(documents)
    segments = np.sort(random.integers(1, documents + 1, (4, 17)), axis=1).astype(np.int32)
    segments[2, 12:] = 0  # padding
    if documents == 1:
        segments[:] = 1
    tokens = random.integers(0, 2**31 - 1, (4, 17))
    micro = micro_batch({"tokens": tokens, "segments": segments, "sample_index": np.arange(2**40, 2**40 + 4)})
    found = received(sent(micro))
    assert (micro.segments_BS is None) == (found.segments_BS is None) == (documents == 1)
    for name in ("tokens_BS", "targets_BS", "valid_BS", "segments_BS"):
        want, got = getattr(micro, name), getattr(found, name)
        assert want is None or (torch.equal(want, got) and want.dtype == got.dtype)
    assert np.array_equal(found.sample_index_B, micro.sample_index_B)
    assert np.array_equal(found.rows, micro.rows)
