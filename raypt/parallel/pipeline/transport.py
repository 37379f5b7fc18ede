"""What passes between the stages of a pipeline: activations to the stage after, gradients to the one before.

Each message has a tag of its own, since with several parts a rank two ranks exchange both, in orders that differ.
Sending does not wait. What the next action needs is asked for while the present one runs.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group
from raypt.parallel.pipeline.schedule import Kind


class Key(NamedTuple):
    """A tensor on its way: the action that needs it."""

    kind: Kind
    part: int
    micro: int


class Transport:
    """One rank's ends of the links."""

    def __init__(self, group: Group, parts: int) -> None:
        self.group, self.parts = group, parts
        self._sent: list[tuple[dist.Work | None, Tensor]] = []
        self._coming: dict[Key, tuple[dist.Work | None, Tensor]] = {}

    def send(self, tensor: Tensor, key: Key) -> None:
        """To the rank of the part that the key names."""
        self._sent = [(work, x) for work, x in self._sent if work is not None and not work.is_completed()]
        tensor = tensor.contiguous()  # gloo sends nothing else
        work = dist.isend(tensor, dst=self._rank(key.part), group=self.group.handle, tag=self._tag(key))
        self._sent.append((work, tensor))

    def expect(self, key: Key, source: int, empty: Callable[[], Tensor]) -> None:
        """Begin to receive what part `source` sends under a key, into what `empty` makes; more than once is once."""
        if key not in self._coming:
            tensor = empty()
            work = dist.irecv(tensor, src=self._rank(source), group=self.group.handle, tag=self._tag(key))
            self._coming[key] = (work, tensor)

    def received(self, key: Key) -> Tensor:
        """What was expected under a key."""
        work, tensor = self._coming.pop(key)
        with CLOCK:
            if work is not None:
                work.wait()
        return tensor

    def settle(self) -> None:
        """Wait until all is sent."""
        assert not self._coming
        with CLOCK:
            for work, _ in self._sent:
                if work is not None:
                    work.wait()
        self._sent = []

    def _rank(self, part: int) -> int:
        return self.group.ranks[part % self.group.size]

    def _tag(self, key: Key) -> int:
        return 2 * (key.micro * self.parts + key.part) + (key.kind == "backward")
