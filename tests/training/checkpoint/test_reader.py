"""What a reader reads: the bytes that are wanted, at most a chunk more at each end, of the files that hold them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from raypt import storage
from raypt.parallel.state import MASTER, Box, StateKey, StateShard, Want
from raypt.training.checkpoint import pieces, reader, writer
from raypt.training.checkpoint.manifest import CheckpointInfo, Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig

ROWS, COLUMNS = 64, 48
MATRIX = torch.arange(ROWS * COLUMNS, dtype=torch.float32).view(ROWS, COLUMNS)
VECTOR = torch.arange(100, 116, dtype=torch.float32)


def flat_cut(world: int) -> list[list[tuple[str, Box]]]:
    """As ZeRO cuts: runs of the flattened parameters."""
    out = []
    for rank in range(world):
        boxes = []
        for name, shape in (("matrix", (ROWS, COLUMNS)), ("vector", (16,))):
            whole = Box.whole(shape)
            low, high = (whole.numel * r // world for r in (rank, rank + 1))
            boxes += [(name, box) for box in whole.run(low, high - low)]
        out.append(boxes)
    return out


def column_cut(world: int) -> list[list[tuple[str, Box]]]:
    """As tensor parallelism cuts: columns of the matrix; the vector is whole on the first rank."""
    width = COLUMNS // world
    out = [[("matrix", Box((0, rank * width), (ROWS, width)))] for rank in range(world)]
    out[0].append(("vector", Box.whole((16,))))
    return out


def grid_cut(world: int) -> list[list[tuple[str, Box]]]:
    rows, columns = world // 2, 2
    cells = itertools.product(range(rows), range(columns))
    out = [[("matrix", Box((r * ROWS // rows, c * 24), (ROWS // rows, 24)))] for r, c in cells]
    out[-1].append(("vector", Box.whole((16,))))
    return out


CUTS = {"flat": flat_cut, "columns": column_cut, "grid": grid_cut}


def value(name: str, box: Box) -> torch.Tensor:
    whole = MATRIX if name == "matrix" else VECTOR
    return whole[box.inside(Box.whole(whole.shape))]


def write(uri: Path, cut: list[list[tuple[str, Box]]]) -> CheckpointInfo:
    shapes = {"matrix": (ROWS, COLUMNS), "vector": (16,)}
    writers = [CheckpointWriter(str(uri), CheckpointConfig(), rank=r, world=len(cut), meta={}) for r in range(len(cut))]
    for rank, boxes in enumerate(cut):
        tensors = {
            StateKey(name, state, box): sign * value(name, box).contiguous()
            for name, box in boxes
            for state, sign in ((MASTER, 1), ("exp_avg", -1))
        }
        writers[rank].save("step-00000001-x", StateShard(tensors, shapes), Progress(step=1))
    infos = [w.wait() for w in writers]
    assert infos[0] is not None
    return infos[0]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that boxes have many chunks, reads many blocks, and gaps are not worth bridging."""
    for module in (pieces, writer, reader):
        monkeypatch.setattr(module, "CHUNK", 256, raising=False)
    monkeypatch.setattr(reader, "BLOCK", 1024)
    monkeypatch.setattr(reader, "GAP", 0)


class Reads:
    """The reads of rank files, as (file, start, length)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[tuple[str, int, int]] = []
        real = storage.read_range

        def counted(uri: str, start: int, length: int) -> bytes:
            self.all.append((uri.rsplit("/", 1)[-1], start, length))
            return real(uri, start, length)

        monkeypatch.setattr(storage, "read_range", counted)

    @property
    def files(self) -> set[str]:
        return {file for file, _, _ in self.all}

    @property
    def bytes(self) -> int:
        return sum(length for _, _, length in self.all)


PAIRS = [
    (saved, ranks, wanted, readers)
    for (saved, wanted), (ranks, readers) in itertools.product(
        itertools.product(CUTS, CUTS), [(1, 4), (4, 1), (4, 6), (8, 4)]
    )
    if ("grid", 1) not in ((saved, ranks), (wanted, readers))  # a grid has two columns
]


@pytest.mark.parametrize(("saved", "ranks", "wanted", "readers"), PAIRS)
def test_any_cut_is_read_by_any_other(saved: str, ranks: int, wanted: str, readers: int, tmp_path: Path) -> None:
    source = CheckpointReader(write(tmp_path, CUTS[saved](ranks)))
    for boxes in CUTS[wanted](readers):
        wants = [
            Want(StateKey(name, state, box), torch.full(box.shape, torch.nan))
            for name, box in boxes
            for state in (MASTER, "exp_avg")
        ]
        source.read(wants)
        for (name, state, box), out in wants:
            assert torch.equal(out, value(name, box) * (1 if state == MASTER else -1)), (name, state, box)


def test_a_rank_on_the_same_mesh_reads_its_own_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = CheckpointReader(write(tmp_path, flat_cut(4)))
    reads = Reads(monkeypatch)
    boxes = flat_cut(4)[2]
    source.read([Want(StateKey(n, s, b), torch.empty(b.shape)) for n, b in boxes for s in (MASTER, "exp_avg")])
    assert reads.files == {"rank-00002.safetensors"}
    assert reads.bytes == source.info.files["rank-00002.safetensors"]["size"], "each byte once"
    assert len(reads.all) <= reads.bytes / (1024 - 256) + 1, "what lies together is read together"


def test_little_is_read_beside_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header, and a chunk at most at each end of a run."""
    source = CheckpointReader(write(tmp_path, flat_cut(2)))
    reads = Reads(monkeypatch)
    boxes = Box.whole((ROWS, COLUMNS)).run(100, 700)
    outs = [torch.empty(box.shape) for box in boxes]
    source.read([Want(StateKey("matrix", MASTER, box), out) for box, out in zip(boxes, outs, strict=True)])
    assert torch.equal(torch.cat([out.reshape(-1) for out in outs]), MATRIX.reshape(-1)[100:800])
    assert reads.files == {"rank-00000.safetensors"}
    header = source.info.files["rank-00000.safetensors"]["header"]
    assert reads.bytes <= header + 4 * 700 + 2 * 256


def test_no_file_stays_open(tmp_path: Path) -> None:
    info = write(tmp_path, flat_cut(8))
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = CheckpointReader(info)
    source.full("matrix", torch.Size([ROWS, COLUMNS]))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_view_with_strides_of_its_own_is_filled(tmp_path: Path) -> None:
    source = CheckpointReader(write(tmp_path, flat_cut(3)))
    out = torch.zeros(COLUMNS, ROWS)
    source.read([Want(StateKey("matrix", MASTER, Box.whole((ROWS, COLUMNS))), out.T)])
    assert np.array_equal(out.numpy(), MATRIX.T.numpy())
