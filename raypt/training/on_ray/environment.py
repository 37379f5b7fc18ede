"""What a worker process finds in its environment."""

from raypt import storage
from raypt.training.config import TrainConfig


def worker_environment(train: TrainConfig, threads: int, run_uri: str = "") -> dict[str, str]:
    """Variables for a worker of so many threads; they count from the start of its process only."""
    environment = {"OMP_NUM_THREADS": str(threads)}
    if not train.use_gpu:
        return environment | {"DS_ACCELERATOR": "cpu"} | KEEP_FREED_MEMORY
    local = run_uri and storage.is_local(run_uri)
    trace = storage.join(storage.filesystem(run_uri)[1], "nccl_trace_rank_") if local else "/tmp/raypt_nccl_trace_rank_"
    return environment | FLIGHT_RECORDER | dict.fromkeys(TRACE_FILES, trace)


FLIGHT_RECORDER = {
    "TORCH_FR_BUFFER_SIZE": "2000",
    "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
}
"""NCCL: the last 2,000 collectives of each rank are kept, and written down when one of them times out. The first two
are names of one thing in newer and older versions of torch, as are those of `TRACE_FILES`."""
TRACE_FILES = ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
"""Beginning of the files' names; the rank's number follows. `torchfrtrace` reads them."""


KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}
"""For glibc: what a step frees is what the next step allocates. Large activations and gradients would otherwise go
back to the kernel at each step, to be mapped and zeroed page by page at the next: a sixth of a step in bf16. One arena,
since the backward pass, which frees the activations, has a thread of its own. Elsewhere these have no effect."""
