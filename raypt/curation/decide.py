"""From attributes and thresholds to keep or drop: cheap, reads attribute columns only."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.curation.config import CurationConfig


def decide(tagged: pa.Table, config: CurationConfig, settled: Mapping[str, Any] | None = None) -> pa.Array:
    """string[n]: `"<stage>.<rule>"` of the first rule that fails, in the configured order; null: kept.

    `tagged` is what a `Tagger` with the same stages returned (thresholds may differ). `settled`: what was settled for
    stages once for the whole run, by name (`quality`: a `QualityThreshold`). Raises ValueError if a stage's attributes
    are missing.
    """
    reasons: list[str] = []
    chosen = np.full(len(tagged), -1, np.int64)
    for stage in config.plan():
        for reason, fails in stage.failures(tagged, settled or {}):
            chosen[fails & (chosen < 0)] = len(reasons)
            reasons.append(reason)
    return pa.array(reasons, pa.string()).take(pa.array(chosen, mask=chosen < 0))
