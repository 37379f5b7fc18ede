"""The process groups of a mesh of ranks, made once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.distributed as dist

from raypt.parallel.topology import Axis, Topology


@dataclass(frozen=True)
class Group:
    """Ranks that communicate with each other, and this process's place among them."""

    ranks: tuple[int, ...]
    rank: int
    handle: dist.ProcessGroup
    """What torch.distributed's functions take as `group`."""

    @property
    def size(self) -> int:
        return len(self.ranks)


class Mesh:
    """A topology with its groups. Making one is collective; the process group of all ranks must exist."""

    def __init__(self, topology: Topology) -> None:
        assert (dist.get_rank(), dist.get_world_size()) == (topology.rank, topology.world_size)
        self.topology = topology
        self._made: dict[tuple[int, ...], dist.ProcessGroup] = {}
        self.tensor = self._group("tensor")
        """Ranks that a matrix is cut over."""
        self.context = self._group("context")
        """Ranks that a sequence is cut over."""
        self.pipeline = self._group("pipeline")
        """Ranks that the layers are cut over, in the layers' order."""
        self.gradient = self._group("data", "context")
        """Ranks that hold the same part of the model, and add up its gradients: what ZeRO partitions over."""
        self.model = self._group("pipeline", "tensor")
        """Ranks that hold different parts of the model, between them all of it."""
        self.replica = self._group("pipeline", "context", "tensor")
        """Ranks that train on the same samples."""
        self.stage = self._group("data", "context", "tensor")
        """Ranks that hold the same layers."""

    @classmethod
    def of_data_ranks(cls) -> "Mesh":
        """Every rank a replica of its own."""
        return cls(Topology(dist.get_rank(), data_size=dist.get_world_size()))

    def holders(self, tensor_ranks: Sequence[int]) -> Group:
        """Some of this rank's tensor group, itself among them. Collective over those."""
        return self._made_of(tuple(self.tensor.ranks[r] for r in tensor_ranks))

    def _group(self, *axes: Axis) -> Group:
        return self._made_of(tuple(self.topology.group(*axes)))

    def _made_of(self, ranks: tuple[int, ...]) -> Group:
        if ranks not in self._made:
            whole = len(ranks) == self.topology.world_size
            # Only the members meet: a rank of a big mesh makes its own few groups, not everyone's.
            handle = dist.group.WORLD if whole else dist.new_group(list(ranks), use_local_synchronization=True)
            assert isinstance(handle, dist.ProcessGroup)
            self._made[ranks] = handle
        return Group(ranks, ranks.index(self.topology.rank), self._made[ranks])
