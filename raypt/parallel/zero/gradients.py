"""The sum of the micro-batches' gradients, in float32 whatever the model computes in.

DeepSpeed adds up in the model's type: in bf16, of 512 equal terms the last ones are rounded away almost wholly. Here a
hook takes each gradient as autograd finishes it, adds it to a float32 buffer laid out as ZeRO's flat partitions are,
and frees it. Between ranks the sums travel in float32 too, or in what `train.zero.communication_dtype` says.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group

BLOCK = 2**18
"""Elements converted at a time on a CPU, where torch's addition of two types is ten times slower than a conversion in
the cache and an addition of one."""


@dataclass(frozen=True)
class Flat:
    """Parameters laid end to end in a flat buffer of `numel` elements, each with the place of its first element."""

    numel: int
    parameters: tuple[tuple[nn.Parameter, int], ...]

    def overlaps(self, start: int, end: int) -> list[tuple[nn.Parameter, int, int]]:
        """What of each parameter lies in [start, end) of the buffer: (parameter, from, to), in the buffer."""
        found = [(p, max(start, at), min(end, at + p.numel())) for p, at in self.parameters]
        return [(p, low, high) for p, low, high in found if low < high]


class Gradients(ABC):
    """The gradients of one step on this rank, taken from the parameters of some flat buffers as they come."""

    def __init__(self, flats: Sequence[Flat], group: Group, travel: torch.dtype) -> None:
        """`group`: the ranks whose gradients are added up; `travel`: the type in which they are sent."""
        self.flats, self.group, self.travel = flats, group, travel
        self._hooks = [
            p.register_post_accumulate_grad_hook(partial(self._taken, i, at))
            for i, flat in enumerate(flats)
            for p, at in flat.parameters
        ]

    def close(self) -> None:
        """Take no more gradients."""
        for hook in self._hooks:
            hook.remove()

    def _taken(self, flat: int, at: int, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.add(flat, at, parameter.grad.reshape(-1))
        parameter.grad = None

    @abstractmethod
    def add(self, flat: int, at: int, grad: Tensor) -> None:
        """Add a gradient to the elements from `at` on of a flat buffer."""

    @abstractmethod
    def end_micro_batch(self) -> None:
        """All gradients of a micro-batch have come."""

    @abstractmethod
    def finish(self) -> list[Tensor]:
        """After the last micro-batch, collective: the sum over all ranks, float32, for each flat buffer."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything, and give the memory back."""


class WholeGradients(Gradients):
    """Stages 0 and 1: a rank adds up the gradients of all its parameters, and the ranks meet once a step. With
    `scatter`, `finish` gives this rank's part of each buffer, else the whole.
    """

    def __init__(self, flats: Sequence[Flat], group: Group, travel: torch.dtype, *, scatter: bool) -> None:
        super().__init__(flats, group, travel)
        self.scatter = scatter
        self._sums: list[Tensor | None] = [None] * len(flats)
        self._begun: set[tuple[int, int]] = set()
        """Places that hold this step's gradients; the rest is memory as it was found."""

    def add(self, flat: int, at: int, grad: Tensor) -> None:
        """See Gradients."""
        whole = self._sums[flat]
        if whole is None:
            whole = torch.empty(self.flats[flat].numel, dtype=torch.float32, device=grad.device)
            self._sums[flat] = whole
        into = whole[at : at + grad.numel()]
        if (flat, at) in self._begun:
            _add(into, grad)
        else:
            into.copy_(grad)
            self._begun.add((flat, at))

    def end_micro_batch(self) -> None:
        """See Gradients."""

    def finish(self) -> list[Tensor]:
        """See Gradients."""
        out = []
        for i, flat in enumerate(self.flats):
            whole = self._sums[i]
            if whole is None:
                device = flat.parameters[0][0].device
                whole = torch.zeros(flat.numel, dtype=torch.float32, device=device)
            else:
                self._clear_gaps(i, whole)
            out.append(self._summed(whole))
            self._sums[i] = None
        self._begun.clear()
        return out

    def _clear_gaps(self, index: int, whole: Tensor) -> None:
        """Zero what no gradient came for: padding between and after the parameters, and unused parameters."""
        end = 0
        for p, at in self.flats[index].parameters:
            whole[end:at].zero_()
            if (index, at) not in self._begun:
                whole[at : at + p.numel()].zero_()
            end = at + p.numel()
        whole[end:].zero_()

    def _summed(self, whole: Tensor) -> Tensor:
        size, rank = self.group.size, self.group.rank
        part = whole.numel() // size
        if size > 1 and self.scatter and whole.device.type != "cpu" and self.travel == torch.float32:
            out = torch.empty(part, dtype=torch.float32, device=whole.device)
            with CLOCK:
                dist.reduce_scatter_tensor(out, whole, group=self.group.handle)
            return out
        if size > 1:  # gloo scatters by way of more copies than it saves
            for chunk in whole.split(_CHUNK):
                sent = chunk.to(self.travel)
                with CLOCK:
                    dist.all_reduce(sent, group=self.group.handle)
                if sent is not chunk:
                    chunk.copy_(sent)
        return whole[rank * part : (rank + 1) * part] if self.scatter else whole

    def clear(self) -> None:
        """See Gradients."""
        self._sums = [None] * len(self.flats)
        self._begun.clear()


_CHUNK = 2**25
"""Elements reduced at a time where the whole would otherwise be copied."""


class PartGradients(Gradients):
    """Stage 2: a rank adds up its part only. Each micro-batch's gradients are summed over the ranks, a bucket at a
    time, while the backward pass goes on.
    """

    def __init__(
        self, flats: Sequence[Flat], group: Group, travel: torch.dtype, *, bucket: int, devices: Sequence[torch.device]
    ) -> None:
        """`bucket`: elements sent at once; `devices`: where each buffer's part is kept."""
        super().__init__(flats, group, travel)
        self.bucket, self.devices = bucket, devices
        self._parts: list[Tensor | None] = [None] * len(flats)
        self._filling = _Bucket()
        self._sent: _Bucket | None = None

    def add(self, flat: int, at: int, grad: Tensor) -> None:
        """See Gradients."""
        if self.group.size == 1:
            _add(self._part(flat)[at : at + grad.numel()], grad)
            return
        if self._filling.filled and self._filling.filled + grad.numel() > self.bucket:
            self._send()
        self._filling.put(flat, at, grad, self.travel, self.bucket)

    def end_micro_batch(self) -> None:
        """See Gradients."""

    def finish(self) -> list[Tensor]:
        """See Gradients."""
        if self._filling.filled:
            self._send()
        self._receive()
        out = [self._part(i) for i in range(len(self.flats))]
        self.clear()
        return out

    def clear(self) -> None:
        """See Gradients."""
        if self._sent is not None:
            self._sent.wait()
        self._parts = [None] * len(self.flats)
        self._filling, self._sent = _Bucket(), None

    def _part(self, flat: int) -> Tensor:
        part = self._parts[flat]
        if part is None:
            numel = self.flats[flat].numel // self.group.size
            part = torch.zeros(numel, dtype=torch.float32, device=self.devices[flat])
            self._parts[flat] = part
        return part

    def _send(self) -> None:
        """Send the bucket that is full, and take in the one before it: one is under way at a time."""
        self._receive()
        sent, self._filling = self._filling, _Bucket(spare=self._filling.spare)
        sent.spare = None  # else a third buffer lives on where the next one has to be larger
        sent.send(self.group)
        self._sent = sent

    def _receive(self) -> None:
        if self._sent is None:
            return
        bucket, self._sent = self._sent, None
        bucket.wait()
        for flat, at, got in bucket.contents():
            numel = self.flats[flat].numel // self.group.size
            first = self.group.rank * numel
            low, high = max(at, first), min(at + got.numel(), first + numel)
            if low < high:
                mine = got[low - at : high - at].to(self.devices[flat], torch.float32)
                self._part(flat)[low - first : high - first].add_(mine)
        self._filling.spare = bucket.buffer


class _Bucket:
    """Gradients on their way to the other ranks, end to end in one buffer."""

    def __init__(self, spare: Tensor | None = None) -> None:
        self.spare = spare
        """Memory that this or a later bucket may use."""
        self.buffer: Tensor | None = None
        self.filled = 0
        self._places: list[tuple[int, int, int]] = []
        self._work: dist.Work | None = None

    def put(self, flat: int, at: int, grad: Tensor, dtype: torch.dtype, least: int) -> None:
        if self.buffer is None:
            numel = max(least, grad.numel())
            fits = self.spare is not None and self.spare.numel() >= numel
            self.buffer = self.spare if fits else torch.empty(numel, dtype=dtype, device=grad.device)
            self.spare = None
        assert self.buffer is not None
        self.buffer[self.filled : self.filled + grad.numel()].copy_(grad)
        self._places.append((flat, at, grad.numel()))
        self.filled += grad.numel()

    def send(self, group: Group) -> None:
        assert self.buffer is not None
        with CLOCK:
            self._work = dist.all_reduce(self.buffer[: self.filled], group=group.handle, async_op=True)

    def wait(self) -> None:
        if self._work is not None:
            with CLOCK:
                self._work.wait()
            self._work = None

    def contents(self) -> list[tuple[int, int, Tensor]]:
        """(flat buffer, place in it, values)."""
        assert self.buffer is not None
        out, start = [], 0
        for flat, at, numel in self._places:
            out.append((flat, at, self.buffer[start : start + numel]))
            start += numel
        return out


def _add(into: Tensor, grad: Tensor) -> None:
    if into.device.type != "cpu" or grad.dtype == into.dtype:
        into.add_(grad)
        return
    buffer = torch.empty(min(BLOCK, grad.numel()), dtype=into.dtype)
    for low, high in zip(into.split(BLOCK), grad.split(BLOCK), strict=True):
        low.add_(buffer[: high.numel()].copy_(high))
