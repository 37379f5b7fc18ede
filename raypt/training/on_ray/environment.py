"""What a worker process finds in its environment."""

from raypt.training.config import TrainConfig


def worker_environment(train: TrainConfig, threads: int) -> dict[str, str]:
    """Variables for a worker of so many threads; they count from the start of its process only."""
    environment = {"OMP_NUM_THREADS": str(threads)}
    return environment if train.use_gpu else environment | {"DS_ACCELERATOR": "cpu"} | KEEP_FREED_MEMORY


KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}
"""For glibc: what a step frees is what the next step allocates. Large activations and gradients would otherwise go
back to the kernel at each step, to be mapped and zeroed page by page at the next: a sixth of a step in bf16. One arena,
since the backward pass, which frees the activations, has a thread of its own. Elsewhere these have no effect."""
