"""Why a rank waited for samples: its own seconds, attributed by what the blocks' labels say of their fetcher."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from raypt.tokens.stream.label import Label

CAUSES = ("shards", "reading", "transport")
_NAME_WORDS = 24
"""int64 words for the name of a source, cut to what fits."""


@dataclass(frozen=True)
class Waits:
    """Seconds that a rank has waited for blocks, by cause; they add up to all of its waiting."""

    shards: float = 0.0
    """The fetcher waited for shards that were still being tokenized."""
    reading: float = 0.0
    """The fetcher read from the store."""
    transport: float = 0.0
    """Neither: Ray Data, the object store and the network brought the block."""
    shard: int = -1
    """The last shard behind `shards`, -1 = none; its source; the tokens a second of the task that made it."""
    source: str = ""
    shard_tokens_per_s: float = 0.0

    @property
    def seconds(self) -> float:
        return self.shards + self.reading + self.transport

    def after(self, waited_s: float, label: Label) -> "Waits":
        """With `waited_s` seconds added, for which the rank waited for the block of this label.

        What the fetcher waited and read since the rank's last block explains as much of it as it lasted, waiting for
        shards first; durations alone are compared, since the clocks of two machines may differ.
        """
        shards = min(waited_s, label.waited_s)
        reading = min(waited_s - shards, label.read_s)
        named = (label.shard, label.source, label.shard_tokens_per_s) if shards else ()
        shard, source, rate = named or (self.shard, self.source, self.shard_tokens_per_s)
        transport = self.transport + waited_s - shards - reading
        return Waits(self.shards + shards, self.reading + reading, transport, shard, source, rate)

    def since(self, before: "Waits") -> "Waits":
        """The waiting between two moments of one rank."""
        change = {name: getattr(self, name) - getattr(before, name) for name in CAUSES}
        return replace(self if change["shards"] else Waits(), **change)

    def plus(self, later: "Waits") -> "Waits":
        total = {name: getattr(self, name) + getattr(later, name) for name in CAUSES}
        return replace(later if later.shards else self, **total)

    def to_ints(self) -> npt.NDArray[np.int64]:
        """int64[WORDS], for an exchange between ranks: microseconds, shard, tokens a second, name."""
        figures = [round(1e6 * getattr(self, name)) for name in CAUSES]
        name = np.frombuffer(self.source.encode()[: 8 * _NAME_WORDS].ljust(8 * _NAME_WORDS, b"\0"), np.int64)
        return np.concatenate([np.array([*figures, self.shard, round(self.shard_tokens_per_s)], np.int64), name])

    @classmethod
    def from_ints(cls, words: npt.NDArray[np.int64]) -> "Waits":
        figures = [float(x) / 1e6 for x in words[:3]]
        name = np.ascontiguousarray(words[5:]).tobytes().rstrip(b"\0").decode(errors="replace")
        return cls(figures[0], figures[1], figures[2], int(words[3]), name, float(words[4]))


WORDS = Waits().to_ints().size
