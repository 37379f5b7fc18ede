"""Meshes by name, for the benchmark that holds them against each other."""

import pytest

from raypt.bench.meshes import parsed
from raypt.errors import UserError


def test_a_mesh_is_named_by_its_sizes_schedule_and_layers() -> None:
    assert parsed("dp2") == {}
    assert parsed("tp2") == {"tensor": 2}
    assert parsed("pp2tp4:zero_bubble") == {"pipeline": 2, "tensor": 4, "schedule": "zero_bubble"}
    assert parsed("pp2:1f1b:6-2") == {"pipeline": 2, "schedule": "1f1b", "stages": [6, 2]}


@pytest.mark.parametrize("name", ["pp", "2pp", "pp2x", "pp2:1f1b:6-x", "pp2:1f1b:6-2:7", ""])
def test_what_is_no_mesh_is_refused_with_how_one_is_written(name: str) -> None:
    with pytest.raises(UserError, match="pp2:1f1b:6-2"):
        parsed(name)
