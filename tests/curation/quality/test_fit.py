"""raypt.curation.quality.fit: the same bytes at every training, whatever the process has allocated before."""

import ctypes
from pathlib import Path

import pytest

from raypt.curation.quality import fit

OPTIONS = {"dim": 8, "epoch": 2, "wordNgrams": 2, "bucket": 20_000, "minCount": 1, "seed": 1}
"""A matrix of 640 kB: far below the size from which malloc maps fresh pages."""


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    lines = [f"__label__{'ab'[i % 2]} w{i % 17} x{i * i % 13}" for i in range(400)]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "train.txt")


def dirty_the_heap() -> None:
    """Leave free memory of many sizes behind, full of NaN."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for _ in range(2):  # freeing a mapped block raises the size up to which the next ones come from the heap
        blocks = [(libc.malloc(size), size) for size in (1 << 16, 640_000, 1 << 20, 8 << 20, 30 << 20)]
        for at, size in blocks:
            ctypes.memset(at, 0xFF, size)
            libc.free(at)


def test_training_gives_equal_bytes_with_a_clean_and_with_a_dirty_heap(text_file: str, tmp_path: Path) -> None:
    models = []
    for i in range(3):
        fit.fit(text_file, str(tmp_path / f"{i}.bin"), **OPTIONS)
        models.append((tmp_path / f"{i}.bin").read_bytes())
        dirty_the_heap()
    assert models[0] == models[1] == models[2]


def test_quantising_gives_equal_bytes(text_file: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit.fit(text_file, str(tmp_path / name), quantize={"cutoff": 1000, "retrain": True}, **OPTIONS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_process_whose_new_memory_is_not_zeroed_is_recognised() -> None:
    assert not fit._new_memory_is_zero()  # this one: nothing told its allocator


def test_a_nan_has_an_error_of_its_own_and_other_failures_say_what_fasttext_said(
    text_file: str, tmp_path: Path
) -> None:
    with pytest.raises(fit.MetNaN):
        fit.fit(text_file, str(tmp_path / "m"), **{**OPTIONS, "lr": 1e20})
    with pytest.raises(RuntimeError, match="Empty vocabulary"):
        fit.fit(text_file, str(tmp_path / "m"), **{**OPTIONS, "minCount": 1000, "minCountLabel": 1000})
    assert not (tmp_path / "m").exists()
