"""DeepSpeed stays in its room."""

import ast
from pathlib import Path

import raypt

ROOT = Path(raypt.__file__).parent


def imported(file: Path) -> set[str]:
    out: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            out |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            out.add(node.module.split(".")[0])
    return out


def test_deepspeed_is_imported_by_the_engine_over_it_alone() -> None:
    users = {file.relative_to(ROOT) for file in ROOT.rglob("*.py") if "deepspeed" in imported(file)}
    assert users
    assert all(file.is_relative_to("parallel/zero") for file in users)
