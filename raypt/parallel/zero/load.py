"""DeepSpeed, loaded and joined to the process group that is already there."""

import importlib
import os
from types import ModuleType

from raypt.parallel.comm_clock import CLOCK


def load_deepspeed(*, use_gpu: bool) -> ModuleType:
    """The module; the second time at no cost. The environment's RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
    MASTER_PORT are DeepSpeed's own condition.
    """
    if not use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    # The shared-memory extension serves inference_all_reduce alone, and compiling it takes a minute at the first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if use_gpu else "gloo", auto_mpi_discovery=False, verbose=False)
    CLOCK.watch(deepspeed.comm.comm.cdb)
    _spare_the_compiler()
    module: ModuleType = deepspeed
    return module


def _spare_the_compiler() -> None:
    """DeepSpeed, whatever the optimizer, imports its Muon, whose functions are decorated with torch.compile, and that
    loads Dynamo and Inductor: a second of each worker's start. raypt never calls them, so they are left undecorated.
    """
    from deepspeed.runtime import compiler

    real = compiler.compile
    compiler.compile = lambda: compiler.dummy_decorator
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    finally:
        compiler.compile = real
