"""A model cut over ranks as those see it who judge it: rank 0 asks, and all ranks together find the answer.

Whatever mesh a model was trained on judges it too, and of its weights no rank holds more than then
(`raypt.parallel.weights`). Replicas share out what is asked; a text is continued by each of them.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from raypt.errors import UserError
from raypt.model.batch import MicroBatch
from raypt.model.generation import continued
from raypt.model.llama import KVCache
from raypt.model.scoring import Pair, Scored, check_pairs, longest_first, scored
from raypt.parallel import comm
from raypt.parallel.weights.engine import WeightsEngine

Result = TypeVar("Result")

_TOGETHER = 16
"""Micro-batches handed to the engine at a time: enough to fill a pipeline."""
_LOGITS_BYTES = 32 << 20
"""Of one micro-batch, unless one continuation alone has more; `_TOGETHER` of them are held."""


class MeshModel:
    """A model that the ranks of a mesh hold between them.

    Rank 0 calls the methods of `Judged`, inside `leading`; the others are in `follow` meanwhile.
    """

    def __init__(
        self, engine: WeightsEngine, vocabulary: int, *, max_length: int, batch_size: int, device: torch.device
    ):
        """`batch_size`: sequences of a micro-batch."""
        self.engine, self.max_length, self.device = engine, max_length, device
        self._vocabulary, self._size = vocabulary, batch_size
        topology = engine.topology
        self._topology = topology
        self._text: list[int] = []
        """That is being continued, and what its tokens have left behind."""
        self._cache: KVCache | None = None
        self._together = False
        """All ranks are at one thing; who fails in it cannot tell the others."""

    def log_probability(self, pairs: Sequence[Pair]) -> float:
        """See Judged."""
        check_pairs(pairs, self.max_length)
        found: float = self._all(self._sum, pairs)
        return found

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """See Judged."""
        check_pairs(pairs, self.max_length)
        found: list[Scored] = self._all(self._score, pairs)
        return found

    def generate(
        self,
        prompt: list[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: int | None = None,
    ) -> list[int]:
        """See Judged. Where positions are cut over ranks, each token is a forward pass over all before it."""
        self._all(self._begin, None)

        def following(new: list[int]) -> Tensor:
            found: Tensor = self._all(self._following, new)
            return found

        return continued(
            following, prompt, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop
        )

    def leading(self, work: Callable[[], Result]) -> Result:
        """`work`, which asks, on rank 0. Then the others are let go, also where it fails in something of its own."""
        try:
            result = work()
        except BaseException as e:
            if not self._together:
                comm.broadcast_object(("", e if isinstance(e, UserError) else RuntimeError(f"rank 0: {e!r}")))
            raise
        comm.broadcast_object(("", None))
        return result

    def follow(self) -> None:
        """What the other ranks do until they are let go. Raises what rank 0 failed in."""
        while (order := comm.broadcast_object(None))[0]:
            getattr(self, order[0])(order[1])
        if order[1] is not None:
            raise order[1]

    def _all(self, part: Callable[[Any], Any], argument: Any) -> Any:
        """Every rank's part of an answer, begun by rank 0."""
        self._together = True
        comm.broadcast_object((part.__name__, argument))
        found = part(argument)
        self._together = False
        return found

    def _sum(self, pairs: Sequence[Pair]) -> float:
        total = 0.0
        for batch in self._turns(pairs, list(self._batches(pairs))):
            losses = self.engine.evaluate([micro for micro, _ in batch])
            total -= sum(loss for loss, (_, members) in zip(losses, batch, strict=True) if members)
        return self._added([total])[0]

    def _score(self, pairs: Sequence[Pair]) -> list[Scored]:
        found = np.zeros((len(pairs), 2))
        engine, most = self.engine, _LOGITS_BYTES // (4 * self._vocabulary)
        for batch in self._turns(pairs, list(self._batches(pairs, most))):
            for logits_NV, (micro, members) in zip(engine.logits([micro for micro, _ in batch]), batch, strict=True):
                if not members:
                    continue
                counts = micro.valid_BS.sum(dim=1).tolist()
                targets_N = micro.targets_BS[micro.valid_BS].to(logits_NV.device)
                for i, own_NV, own_N in zip(members, logits_NV.split(counts), targets_N.split(counts), strict=True):
                    one = scored(own_NV, own_N)
                    found[i] = one.log_probability, one.is_greedy
        rows = np.array(self._added(found.ravel().tolist())).reshape(found.shape)
        # A continuation of nothing is certain, as in one process.
        return [Scored(float(p), bool(g) or not pair[1]) for (p, g), pair in zip(rows, pairs, strict=True)]

    def _begin(self, nothing: None) -> None:
        """Another text."""
        self._text, self._cache = [], self.engine.new_cache()

    def _following(self, new: list[int]) -> Tensor:
        """The logits after the text and some more ids, (V), on every rank: each replica finds them."""
        self._text += new
        ids = self._text if self._cache is None else new
        return self.engine.logits([self._micro_batch([[*ids, 0]], [1])], self._cache)[0][0].cpu()

    def _added(self, values: list[float]) -> list[float]:
        """Element-wise sums over the replicas."""
        own = values if self._topology.leads_replica else [0.0] * len(values)
        return comm.all_reduce_floats(own, self.device)

    def _batches(self, pairs: Sequence[Pair], most: int | None = None) -> Iterator[list[int]]:
        """Which pairs are in one micro-batch; those without a token to score are in none. `most`: scored tokens of a
        micro-batch of several.
        """
        members: list[int] = []
        tokens = 0
        for i in longest_first(pairs):
            count = len(pairs[i][1])
            if members and (len(members) == self._size or (most is not None and tokens + count > most)):
                yield members
                members, tokens = [], 0
            if count:
                members.append(i)
                tokens += count
        if members:
            yield members

    def _turns(
        self, pairs: Sequence[Pair], batches: Sequence[list[int]]
    ) -> Iterator[list[tuple[MicroBatch, list[int]]]]:
        """Those of this rank's replica, some at a time: equally many for each replica, since all must run each forward
        pass together. One that is only there for that is of no pairs.
        """

        def own() -> Iterator[tuple[MicroBatch, list[int]]]:
            for first in range(0, len(batches), self._topology.data_size):
                mine = batches[first : first + self._topology.data_size][self._topology.data_rank :][:1]
                members = mine[0] if mine else batches[0]
                rows = [[*pairs[i][0], *pairs[i][1]][-(self.max_length + 1) :] for i in members]
                yield self._micro_batch(rows, [len(pairs[i][1]) for i in members]), mine[0] if mine else []

        turns = own()
        while batch := list(itertools.islice(turns, _TOGETHER)):
            yield batch

    def _micro_batch(self, rows: Sequence[Sequence[int]], counts: Sequence[int]) -> MicroBatch:
        """Of so many last ids of each row as targets. As long as the longest row, and then as positions can be shared
        out: what comes behind a row is padding that causal attention never looks at.
        """
        longest = max(map(len, rows)) - 1
        cuts = self._topology.context_size
        tokens = np.zeros((len(rows), -(-longest // cuts) * cuts + 1), np.int64)
        valid = np.zeros((len(rows), tokens.shape[1] - 1), bool)
        for b, (row, count) in enumerate(zip(rows, counts, strict=True)):
            tokens[b, : len(row)] = row
            valid[b, len(row) - 1 - count : len(row) - 1] = True
        ids, numbers = torch.from_numpy(tokens), np.zeros(len(rows), np.int64)
        return MicroBatch(ids[:, :-1], ids[:, 1:], torch.from_numpy(valid), None, numbers, tokens)
