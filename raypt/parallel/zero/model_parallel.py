"""What DeepSpeed asks of those who cut a model before it does: Megatron's "model parallel unit"."""

import torch.distributed as dist
from torch import Tensor

from raypt.parallel.mesh import Mesh


def count_in_norm(parameter: Tensor, counted: bool) -> None:
    """Note whether this rank counts a parameter in the gradient's norm, where DeepSpeed looks for it."""
    parameter.model_parallel = counted  # type: ignore[attr-defined]


def counts_in_norm(parameter: Tensor) -> bool:
    """See `count_in_norm`."""
    return bool(parameter.model_parallel)  # type: ignore[attr-defined]


class ModelParallelUnit:
    """The groups of a mesh under DeepSpeed's names.

    DeepSpeed counts a parameter in the norm where it is marked, and every parameter on the first model-parallel rank;
    here nobody is the first, so that the marks alone decide.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    @classmethod
    def of(cls, mesh: Mesh) -> "ModelParallelUnit | None":
        """None where nothing but ZeRO cuts the model."""
        from deepspeed.utils import groups

        groups.mpu = None  # that of an engine before this one in the process
        return cls(mesh) if mesh.model.size > 1 else None

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        return self._mesh.gradient.handle

    def get_data_parallel_group_ranks(self) -> list[int]:
        return list(self._mesh.gradient.ranks)

    def get_data_parallel_rank(self) -> int:
        return self._mesh.gradient.rank

    def get_data_parallel_world_size(self) -> int:
        return self._mesh.gradient.size

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        return self._mesh.model.handle

    def get_model_parallel_rank(self) -> int:
        return 1

    def get_model_parallel_world_size(self) -> int:
        return self._mesh.model.size

    get_tensor_model_parallel_group = get_model_parallel_group
    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size
