"""raypt.kernel_cache: a kernel's key is the code it uses, and a cache that others can write to is refused."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba.core.errors import TypingError

from raypt.code_hash import uses_hash
from raypt.kernel_place import COMPILING, PACKAGE
from raypt.text.hash_table import table_bits

TABLE_BITS: Any = table_bits
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


def compiled_in(cache: Path | str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """A kernel that is compiled and kept under a cache, in a process of its own, under the umask of shared groups."""
    code = "import os; os.umask(0o002); from raypt.text.hash_table import hash_table; print(len(hash_table(10)) > 0)"
    environment = {"RAYPT_KERNEL_CACHE": str(cache), "PATH": "", "PYTHONPATH": str(PACKAGE.parent)}
    environment["HOME"] = str(cwd or Path(cache).parent)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_cache_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    done = compiled_in(shared)
    assert done.returncode != 0
    assert str(shared) in done.stderr
    assert "chmod go-w" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a directory away")
def test_a_cache_of_another_user_is_refused_whatever_its_mode(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    os.chown(other, 12345, 12345)
    done = compiled_in(other)
    assert done.returncode != 0
    assert "other users can write to it" in done.stderr


def test_directories_in_the_cache_are_ones_own_too(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o755)
    assert compiled_in(own).returncode == 0
    made = list(own.iterdir())
    assert made
    assert all(path.stat().st_mode & 0o077 == 0 for path in made)
    made[0].chmod(0o775)
    done = compiled_in(own)
    assert done.returncode != 0
    assert str(made[0]) in done.stderr


def test_compiling_is_said_once_and_what_is_cached_needs_no_word(tmp_path: Path) -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from raypt.text.hash_table import hash_table; hash_table(10)\n"
        "from raypt.text.hashing import hash_bytes; import numpy as np; hash_bytes(np.zeros(8, np.uint8), 0, 8)"
    )
    environment = {"RAYPT_KERNEL_CACHE": str(tmp_path / "cache"), "PATH": "", "HOME": str(tmp_path)}
    said = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.append(done.stderr.splitlines())
    assert said == [[COMPILING], []]


@pytest.mark.parametrize("relative", ["0", "kernels/here", "./x"])
def test_a_relative_place_is_refused_and_nothing_is_made(tmp_path: Path, relative: str) -> None:
    done = compiled_in(relative, cwd=tmp_path)
    assert done.returncode != 0
    assert f"RAYPT_KERNEL_CACHE={relative}: " in done.stderr
    assert "must be absolute" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_place_in_the_home_directory_may_begin_with_a_tilde(tmp_path: Path) -> None:
    done = compiled_in("~/kernels", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kernels"]


MISSES = (
    "import os, sys, time\n"
    "from raypt.text.hash_table import table_bits as kernel\n"
    "kernel.dispatcher; print('ready', flush=True); sys.stdin.readline()\n"
    "kernel(10); print(sum(kernel.dispatcher._cache_misses.values()))"
)
"""How often this process had to compile a kernel that it calls when it is told to."""


def caller(cache: Path) -> "subprocess.Popen[str]":
    environment = {"RAYPT_KERNEL_CACHE": str(cache), "PATH": "", "HOME": str(cache.parent)}
    command, pipe = [sys.executable, "-c", MISSES], subprocess.PIPE
    process = subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def told(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_one_of_the_processes_that_want_a_kernel_compiles_it(tmp_path: Path) -> None:
    callers = [caller(tmp_path / "cache") for _ in range(3)]
    for process in callers:
        told(process)
    assert sorted(process.communicate()[0] for process in callers) == ["0\n", "0\n", "1\n"]


def test_a_kernel_whose_process_died_is_compiled_by_the_next(tmp_path: Path) -> None:
    waiting = caller(tmp_path / "cache")
    name = f"{TABLE_BITS.dispatcher._cache._impl.filename_base}.lock"
    with (tmp_path / "cache" / "raypt.text.hash_table" / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a process has it that compiles
        told(waiting)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
    assert waiting.communicate()[0] == "1\n"


def test_a_kernel_that_cannot_be_compiled_holds_up_nobody() -> None:
    with pytest.raises(TypingError):
        TABLE_BITS("ten")
    assert TABLE_BITS.dispatcher._cache._held is None
