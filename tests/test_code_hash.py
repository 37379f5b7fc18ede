"""raypt.code_hash: what a function uses, and nothing else, is in its hash."""

import subprocess
import sys
from pathlib import Path

import pytest

from raypt.code_hash import uses_hash
from raypt.kernel_place import PACKAGE

KERNEL = ("raypt.text.hashing", "hash_bytes")


def hash_in_copy(tmp_path: Path, file: str, old: str, new: str, kernel: tuple[str, str]) -> str:
    """The key of a kernel in a copy of the package in which one place of a file is another."""
    for source in PACKAGE.rglob("*.py"):
        copy = tmp_path / "raypt" / source.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    changed = tmp_path / "raypt" / file
    text = changed.read_text()
    assert old in text
    changed.write_text(text.replace(old, new))
    code = f"from raypt.code_hash import uses_hash; print(uses_hash(*{kernel!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_comment_and_a_docstring_change_no_key(tmp_path: Path) -> None:
    here = uses_hash(*KERNEL)
    file, line = "text/hashing.py", '    """uint64 hash of data[start:end]; every bit is fit to index a table."""\n'
    assert hash_in_copy(tmp_path, file, line, '    """Another."""\n    # and a comment\n', KERNEL) == here


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("text/hashing.py", "_U(29)", "_U(27)"),  # the kernel itself
        ("text/hashing.py", "_U(8 * k)", "_U(4 * k)"),  # a kernel that it calls
        ("text/hashing.py", "0x9E3779B97F4A7C15", "0x9E3779B97F4A7C17"),  # a constant that it names
    ],
)
def test_what_a_kernel_uses_changes_its_key(tmp_path: Path, file: str, old: str, new: str) -> None:
    assert hash_in_copy(tmp_path, file, old, new, KERNEL) != uses_hash(*KERNEL)


def test_a_kernel_of_another_file_that_is_inlined_changes_the_key(tmp_path: Path) -> None:
    user = ("raypt.curation.rules.fineweb", "_measure")
    changed = hash_in_copy(tmp_path, "text/hash_table.py", "return slot", "return slot + 0", user)
    assert changed != uses_hash(*user)


def test_what_was_parsed_once_is_not_parsed_again(tmp_path: Path) -> None:
    code = (
        "import ast\nparse, parsed = ast.parse, []\n"
        "def counted(*args, **more):\n    parsed.append(1)\n    return parse(*args, **more)\n"
        "ast.parse = counted\n"
        f"from raypt.code_hash import uses_hash; print(uses_hash(*{KERNEL!r}), len(parsed))"
    )
    environment = {"RAYPT_KERNEL_CACHE": str(tmp_path / "cache"), "PATH": "", "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", code]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert first[0] == second[0] == uses_hash(*KERNEL)
    assert int(first[1]) > 0
    assert second[1] == "0"
