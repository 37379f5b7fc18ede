"""Train fastText in a process of its own, so that the same text and options give the same model wherever they run.

fastText 0.9.3 on one thread initialises the first tenth of its input matrix and takes the rest as the allocator left
it: in a process that has allocated and freed before, that is whatever lay there (NaN, or another model at each run).
The child's glibc is told to hand out zeroed memory (glibc.malloc.perturb, which fills new memory with the complement
of its value), and the child proves it before it trains.
"""

import ctypes
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from raypt.errors import UserError

log = logging.getLogger("raypt")

MAX_ATTEMPTS = 6
_NAN, _NOT_ZEROED = 3, 4
_PERTURB = 0xFF
"""New memory is filled with its complement, 0."""
_PROBE = 1 << 20


class MetNaN(Exception):
    """fastText gave up: it met a NaN."""


def fit(text_file: str, model_file: str, *, quantize: dict[str, Any] | None = None, **options: Any) -> None:
    """Train a supervised model on `text_file` and save it as `model_file`.

    `options` are those of `fasttext.train_supervised`, `quantize` those of its `quantize` (None: not quantised). One
    thread unless told otherwise. Raises MetNaN if training met one, RuntimeError with fastText's words if it failed in
    another way.
    """
    task = {"text": text_file, "model": model_file, "options": {"thread": 1, "verbose": 0, **options}, "ftz": quantize}
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}  # another allocator would not listen
    environment |= {
        "MALLOC_PERTURB_": str(_PERTURB),
        "GLIBC_TUNABLES": f"glibc.malloc.perturb={_PERTURB}",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(task), env=environment, capture_output=True, text=True
    )
    if done.returncode == _NAN:
        raise MetNaN(f"fastText met a NaN with {options}")
    if done.returncode == _NOT_ZEROED:
        raise RuntimeError("training fastText reproducibly needs glibc's allocator, which this system lacks")
    if done.returncode != 0:
        last = done.stderr.strip().rsplit("\n", 1)[-1] or f"exit status {done.returncode}"
        raise RuntimeError(f"training fastText failed: {last}")


def fit_at_some_rate(text_file: str, model_file: str, rate: float, key: str, **options: Any) -> float:
    """`fit` at a learning rate, halved and tried again at each NaN, up to five times; the rate that worked.

    Raises:
        UserError: none did. `key`: of the settings, for the message.
    """
    first = rate
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            fit(text_file, model_file, lr=rate, **options)
            return rate
        except MetNaN:
            log.warning("%s: NaN at learning rate %g (attempt %d of %d)", key, rate, attempt, MAX_ATTEMPTS)
            rate /= 2
    raise UserError(
        f"{key}.learning_rate: training met a NaN at {first:g} and at every rate down to {rate * 2:g}; set a lower one"
    )


def _new_memory_is_zero() -> bool:
    """Whether memory that was used and freed comes back as zeros."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for size in (_PROBE // 64, _PROBE):  # from the heap, and mapped
        for _ in range(2):
            at = libc.malloc(size)
            if ctypes.string_at(at, size).count(0) != size:
                return False
            ctypes.memset(at, 0xA5, size)
            libc.free(at)
    return True


def _main() -> int:
    import fasttext

    task = json.load(sys.stdin)
    if not _new_memory_is_zero():
        return _NOT_ZEROED
    try:
        model = fasttext.train_supervised(input=task["text"], **task["options"])
    except RuntimeError as e:
        if "NaN" in str(e):
            return _NAN
        raise
    if task["ftz"] is not None:
        model.quantize(input=task["text"], **task["ftz"])
    temporary = f"{task['model']}.part"
    model.save_model(temporary)
    Path(temporary).replace(task["model"])
    return 0


if __name__ == "__main__":
    sys.exit(_main())
