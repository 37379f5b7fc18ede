"""What is kept on a machine for the processes to come."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raypt import kept as module
from raypt import kernel_place
from raypt.dedup.minhash import permutations
from raypt.kept import kept_array
from raypt.tokens.tokenizer import byte_level


class Maker:
    """Makes an array, and counts."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.made = array, 0

    def __call__(self) -> np.ndarray:
        self.made += 1
        return self.array.copy()


@pytest.fixture
def make() -> Maker:
    return Maker(np.arange(6, dtype=np.uint32).reshape(2, 3))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "cache_root", lambda: tmp_path)
    return tmp_path


def file(root: Path) -> Path:
    (found,) = (root / "kept").iterdir()
    return found


def test_it_is_made_once_and_the_same_each_time(make: Maker) -> None:
    first, second = kept_array("a", make), kept_array("a", make)
    assert make.made == 1
    assert first.dtype == second.dtype == np.uint32
    assert first.tolist() == second.tolist() == make.array.tolist()
    assert not first.flags.writeable and not second.flags.writeable


def test_another_name_has_its_own(make: Maker) -> None:
    kept_array("a-1.0", make)
    kept_array("a-1.1", make)
    assert make.made == 2


@pytest.mark.parametrize("at", [0, 16, -1])
def test_one_with_a_changed_byte_is_made_anew(make: Maker, root: Path, at: int) -> None:
    kept_array("a", make)
    data = bytearray(file(root).read_bytes())
    data[at] ^= 1
    file(root).write_bytes(data)
    assert kept_array("a", make).tolist() == make.array.tolist()
    assert make.made == 2
    kept_array("a", make)
    assert make.made == 2


@pytest.mark.parametrize("size", [0, 10, 40])
def test_one_that_was_cut_is_made_anew(make: Maker, root: Path, size: int) -> None:
    kept_array("a", make)
    file(root).write_bytes(file(root).read_bytes()[:size])
    assert kept_array("a", make).tolist() == make.array.tolist()
    assert make.made == 2


def test_without_a_place_it_is_made_each_time(make: Maker, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").touch()
    monkeypatch.setattr(module, "cache_root", lambda: root / "file")
    assert kept_array("a", make).tolist() == kept_array("a", make).tolist() == make.array.tolist()
    assert make.made == 2


def test_a_user_without_a_home_has_no_place(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")  # as for a number that no user has

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("RAYPT_KERNEL_CACHE", raising=False)
    monkeypatch.setattr(module, "cache_root", kernel_place.cache_root.__wrapped__)
    assert kept_array("a", make).tolist() == make.array.tolist()


def test_what_a_run_keeps_is_what_the_libraries_say() -> None:
    from datasketch import MinHash

    for _ in range(2):
        permutations.cache_clear()
        byte_level.character_classes.cache_clear()
        expected = MinHash(num_perm=30, seed=7, scheme="affine32").permutations
        assert (permutations(30, 7) == np.array(expected)).all()
        assert (byte_level.character_classes() == byte_level._character_classes()).all()


def test_permutations_that_are_kept_load_no_datasketch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom raypt.dedup.minhash import permutations\npermutations(20, 3)\n"
        "print('datasketch' in sys.modules)"
    )
    cache = tmp_path / "cache"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"RAYPT_KERNEL_CACHE": str(cache), "PATH": "", "PYTHONPATH": str(Path(module.__file__).parents[1])},
        ).stdout.strip()
        for _ in range(2)
    ]  # fmt: skip
    assert said == ["True", "False"]
