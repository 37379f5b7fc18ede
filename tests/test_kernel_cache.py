"""raypt.kernel_cache: compiled once a machine, and a cache that others can write to is refused."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba.core.errors import TypingError

from raypt.kernel_place import COMPILING, PACKAGE
from raypt.text.hash_table import table_bits

TABLE_BITS: Any = table_bits


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


def test_numba_is_loaded_without_scipys_linear_algebra_and_finds_it_when_it_is_wanted() -> None:
    code = (
        "import sys, numba, numpy as np\n"
        "from raypt.text.hash_table import hash_table; hash_table(10)\n"
        "print('scipy.linalg' in sys.modules)\n"
        "a = np.arange(6.0).reshape(2, 3)\n"
        "product = numba.njit(lambda a, b: np.dot(a, b))(a, a.T)\n"
        "folded = numba.njit(lambda a, b: np.convolve(a, b))(a[0], a[1])\n"
        "print((product == a @ a.T).all(), np.allclose(folded, np.convolve(a[0], a[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
