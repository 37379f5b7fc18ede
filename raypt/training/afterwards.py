"""What the workers of a training do with its model before they go: they are a process group, and hold the devices."""

import gc
import logging
from collections.abc import Callable

import torch
import torch.distributed as dist

from raypt.parallel import comm
from raypt.parallel.mesh import Mesh
from raypt.training import sizes
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import TrainConfig
from raypt.training.judging import Judging, hold, judge

log = logging.getLogger("raypt")

Afterwards = Callable[[CheckpointInfo], Judging]
"""What is to be done with the last checkpoint's model; picklable. The number of workers that it names is not looked
at: all that trained take part."""


def judge_trained(afterwards: Afterwards, saved: CheckpointInfo | None, train: TrainConfig) -> bool:
    """Collective, in the process group that has trained, once nothing refers to its engine any more. Whether it was
    done: an error on any rank is a line in the log of that rank, for the training is whole without this.

    What rank 0's work raises ends it on all ranks, as does what a rank meets before the model is there. An error of
    another rank later leaves the others in a collective. Over gloo they see at once that it has left the group, over
    NCCL the collective lasts for `train.collective_timeout_s`, after which torch ends their processes.

    Args:
        saved: of rank 0; the others' is not looked at.
    """
    _free(use_gpu=train.use_gpu)
    try:
        spec = afterwards(comm.broadcast_object(saved))
        comm.set_timeout(train.first_step_timeout_s)
        device = comm.init_process_group(use_gpu=train.use_gpu)
        mesh = Mesh(sizes.topology(spec.train, dist.get_rank(), dist.get_world_size()))
        model = hold(spec, mesh, device)
        comm.set_timeout(train.collective_timeout_s)
        judge(spec, model)
    except Exception as e:
        rank = dist.get_rank()
        log.warning("rank %d: the trained model could not be tried out: %s", rank, str(e) or repr(e))
        if dist.get_backend() == "gloo":
            dist.destroy_process_group()
        return False
    return True


def _free(*, use_gpu: bool) -> None:
    """The memory of what nothing refers to but itself: an engine is full of circles."""
    gc.collect()
    if use_gpu:
        torch.cuda.empty_cache()
