"""Where a run stands in the stream of samples."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cursor:
    """Where the stream goes on; saved with every model checkpoint."""

    next_sample: int
    """Global index of the first sample not trained on."""
    fingerprint: str
    """What the order of samples depends on (manifest, tokenizer, packing, mixture, seed)."""
