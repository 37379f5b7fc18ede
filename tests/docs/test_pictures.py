"""The course's pictures are what the code draws."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "course" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["minhash", "scaling", "zero", "tensor", "pipeline", "servers", "collectives"])
def test_a_picture_is_the_one_that_is_drawn_now(name: str, pictures: ModuleType, tmp_path: Path) -> None:
    # The others are of the docstrings of whatever Python is installed.
    pictures.HERE = tmp_path
    pictures.main([name])
    assert (tmp_path / f"{name}.svg").read_text() == (ROOT / "docs" / "course" / f"{name}.svg").read_text()


def test_a_ring_ends_with_every_chunk_whole_on_every_rank(pictures: ModuleType) -> None:
    for ranks in (2, 3, 4, 7):
        *_, half, last = pictures.ring_steps(ranks)[:: ranks - 1]
        assert sorted(max(row) for row in half) == [ranks] * ranks
        assert last == [[ranks] * ranks] * ranks
