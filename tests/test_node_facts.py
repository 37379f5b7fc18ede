"""raypt.node_facts: what makes a node unfit for a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raypt.node_facts import facts, problems


def test_the_same_machine_is_fit(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    here = facts(str(tmp_path / "config.yaml"), ["s3://a/b"])
    assert here.run_dir is None
    assert here.packages["ray"]
    assert problems(here, facts(str(tmp_path / "config.yaml"), ["s3://a/b"])) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"python": "3.10"}, "Python: 3.10, the driver has 3."),
        ({"raypt": "0.0.9 (abc)"}, "raypt 0.0.9 (abc), the driver has"),
        ({"packages": {}}, "torch: not installed"),
        ({"missing": ("s3: s3:// needs a package",)}, "needs a package"),
        ({"run_dir": "it is not there"}, "run.dir cannot be seen: it is not there"),
    ],
)
def test_what_differs_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "config.yaml").write_text("")
    here = facts(str(tmp_path / "config.yaml"), [])
    assert any(line.startswith(said) or said in line for line in problems(here, replace(here, **change)))


def test_a_package_that_the_run_needs_is_compared(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    driver = facts(str(tmp_path / "config.yaml"), [], ["pyarrow", "pytest"])
    node = replace(driver, packages={k: v for k, v in driver.packages.items() if k != "pytest"})
    assert problems(driver, node) == [f"pytest: not installed, the driver has {driver.packages['pytest']}"]


def test_a_directory_that_is_not_there_and_a_package_that_is_not_are_found(tmp_path: Path) -> None:
    found = facts(str(tmp_path / "none" / "config.yaml"), [])
    assert found.run_dir is not None and "all nodes see" in found.run_dir
    assert "oss" in facts(str(tmp_path), ["oss://a/b"]).missing[0]
