"""What the ranks of the saving and resuming tests do: runs whose checkpoints fail or are damaged on the way."""

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raypt import storage
from raypt.parallel import comm
from raypt.training.checkpoint import sealed
from raypt.training.checkpoint.directory import latest_checkpoint, list_checkpoints
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import CheckpointConfig
from raypt.training.loop import Hooks
from raypt.training.records import read_metrics
from tests.training import scenarios, tiny_run
from tests.training.scenarios import Scenario

KEEP = CheckpointConfig(every_steps=6, keep_last=9)
AT_ONCE = KEEP.model_copy(update={"background": False})
"""A write in the background of such short steps may fail a step later than it was begun."""


class Heard(logging.Handler):
    """What the log says, with the number of steps on record by then."""

    def __init__(self, run: Path) -> None:
        super().__init__(logging.ERROR)
        self.run, self.lines = run, list[tuple[int, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((len(read_metrics(str(self.run))), record.getMessage()))


@contextmanager
def full_disk(rank: int, attempts: int) -> Iterator[None]:
    """The first so many files of rank 1 find no space."""
    real, left = storage.atomic_write, [attempts]

    @contextmanager
    def failing(uri: str) -> Iterator[Any]:
        with real(uri) as f:
            yield f
            if rank == 1 and uri.endswith("rank-00001.safetensors") and left[0] > 0:
                left[0] -= 1
                raise OSError(errno.ENOSPC, "No space left on device")

    storage.atomic_write = failing
    try:
        yield
    finally:
        storage.atomic_write = real


def damage(info: CheckpointInfo, file: str) -> None:
    """Flip a bit of the file's last tensor, which is part of what the rank of that number reads."""
    path = Path(info.uri) / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def error_of(act: Callable[[], None]) -> tuple[str, str]:
    try:
        act()
    except Exception as e:
        return type(e).__name__, str(e)
    return "", ""


def everything(data: str, root: str) -> dict[str, Any]:
    """On two ranks."""
    sealed.PAUSES_S = (0.0, 0.0, 0.0)
    s, base, out = Scenario(data), Path(root), {}

    heard = Heard(base / "once")
    logging.getLogger("raypt").addHandler(heard)
    with full_disk(s.rank, 1):
        s.run(base / "once", last=12 * tiny_run.BATCH, checkpoint=AT_ONCE)
    logging.getLogger("raypt").removeHandler(heard)
    out["once_heard"] = heard.lines
    out["once_steps"] = [info.step for info in list_checkpoints(str(base / "once" / "checkpoints"))]
    out["once_there"] = [n for n in storage.listdir(str(base / "once" / "checkpoints")) if n.startswith("step-")]

    with full_disk(s.rank, 1):
        s.run(base / "end", last=6 * tiny_run.BATCH, checkpoint=CheckpointConfig(every_steps=None))
    out["end_steps"] = [info.step for info in list_checkpoints(str(base / "end" / "checkpoints"))]

    stubborn = AT_ONCE.model_copy(update={"max_failed_saves": 2})
    with full_disk(s.rank, 99):
        out["always"] = error_of(lambda: s.run(base / "always", checkpoint=stubborn))
    out["always_steps"] = len(read_metrics(str(base / "always")))

    s.run(base / "damaged", last=12 * tiny_run.BATCH, checkpoint=KEEP)
    run, uri = base / "damaged", str(base / "damaged" / "checkpoints")
    if s.rank == 0:
        newest = latest_checkpoint(uri)
        assert newest is not None
        damage(newest, "rank-00001.safetensors")
    comm.barrier()
    out["back"] = error_of(lambda: s.run(run, first=12 * tiny_run.BATCH, checkpoint=KEEP))
    out["back_sample"] = s.resume_sample(run)
    s.run(run, first=6 * tiny_run.BATCH, last=12 * tiny_run.BATCH, checkpoint=KEEP)
    if s.rank == 0:
        for info in list_checkpoints(uri):
            damage(info, "rank-00000.safetensors")
    comm.barrier()
    before = kept_files(run)
    out["none"] = [error_of(lambda: s.run(run, first=12 * tiny_run.BATCH, checkpoint=KEEP)) for _ in range(3)]
    out["none_changed"] = [name for name, content in kept_files(run).items() if before.get(name) != content]
    out["none_gone"] = [name for name in before if name not in kept_files(run)]

    out["rewound"] = rewound(s, base / "rewound")
    return out


def kept_files(run: Path) -> dict[str, bytes]:
    """Metrics, samples and checkpoints, by path, but for the marks of rejection."""
    files = [p for p in run.rglob("*") if p.is_file() and p.name != "rejected.json"]
    return {str(p.relative_to(run)): p.read_bytes() for p in files}


def rewound(s: Scenario, out: Path) -> list[str]:
    """A spike at step 14, when the checkpoint of step 12 has been damaged after it was reported: the warnings."""

    def committed(metrics: dict[str, Any], info: CheckpointInfo | None) -> None:
        if info is not None and info.step == 12:
            damage(info, "rank-00001.safetensors")

    class Warnings(logging.Handler):
        lines: list[str] = []  # noqa: RUF012 (one handler)

        def emit(self, record: logging.LogRecord) -> None:
            self.lines.append(record.getMessage())

    handler = Warnings(logging.WARNING)
    logging.getLogger("raypt").addHandler(handler)
    scenarios.spike(s, out, "rewind", hooks=Hooks(committed=committed), checkpoint=AT_ONCE)
    logging.getLogger("raypt").removeHandler(handler)
    return handler.lines
