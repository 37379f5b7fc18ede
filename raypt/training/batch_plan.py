"""The batch arithmetic: how many samples a step has, and who takes which."""

from dataclasses import dataclass

import numpy as np

from raypt.errors import UserError


@dataclass(frozen=True)
class BatchPlan:
    """The shape of a step. The global batch is a constant of the run; accumulation follows from the number of workers.

    Data rank r's j-th micro-batch of step s holds samples s*G + (j*n + r)*B and the B-1 after it, n being the number of
    data ranks, so step s is samples [s*G, (s+1)*G) for every n, and a micro-batch is the same rows whoever takes it.
    """

    sequence_length: int
    micro_batch_size: int
    data_size: int
    """Data ranks: replicas of the model, which share a batch."""
    accumulation: int

    @property
    def samples_per_step(self) -> int:
        return self.micro_batch_size * self.data_size * self.accumulation

    def starts(self, first_sample: int) -> np.ndarray:
        """First sample of every micro-batch of the step that begins at `first_sample`: (data ranks, accumulation)."""
        blocks = np.arange(self.accumulation * self.data_size, dtype=np.int64) * self.micro_batch_size
        return first_sample + blocks.reshape(self.accumulation, self.data_size).T


def valid_data_sizes(global_batch_tokens: int, sequence_length: int, micro_batch_size: int) -> list[int]:
    """Numbers of data ranks that divide the global batch into whole micro-batches.

    Raises:
        UserError: it is not a number of micro-batches; the message names the nearest that are.
    """
    unit = sequence_length * micro_batch_size
    blocks, rest = divmod(global_batch_tokens, unit)
    if rest:
        above = (blocks + 1) * unit
        raise UserError(
            f"train.global_batch_tokens={global_batch_tokens} is not a multiple of sequence length {sequence_length} x "
            f"train.micro_batch_size {micro_batch_size} = {unit}; "
            + (f"the nearest are {blocks * unit} and {above}" if blocks else f"the smallest is {above}")
        )
    return [n for n in range(1, blocks + 1) if blocks % n == 0]


def plan_batches(*, global_batch_tokens: int, sequence_length: int, micro_batch_size: int, data_size: int) -> BatchPlan:
    """The plan for `data_size` data ranks; an impossible number is refused with the possible ones named."""
    sizes = valid_data_sizes(global_batch_tokens, sequence_length, micro_batch_size)
    if data_size not in sizes:
        raise UserError(
            f"{data_size} data-parallel workers do not divide train.global_batch_tokens={global_batch_tokens} into "
            f"whole micro-batches of {micro_batch_size} x {sequence_length} tokens; possible numbers of workers: "
            + ", ".join(map(str, sizes))
        )
    return BatchPlan(sequence_length, micro_batch_size, data_size, sizes[-1] // data_size)
