"""raypt.kernels: compiled at the first call, called by other kernels, pickled by name."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from numba.core.errors import TypingError

from raypt.kernels import allocating_kernel, kernel


@kernel
def twice(x: int) -> int:
    return 2 * x


@allocating_kernel
def twice_each(values: np.ndarray) -> np.ndarray:
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = twice(values[i])
    return out


def test_a_kernel_calls_another() -> None:
    assert twice_each(np.arange(4)).tolist() == [0, 2, 4, 6]


@kernel
def sum_of_firsts(values: np.ndarray, width: int) -> int:
    total = 0
    for i in range(len(values) - width):
        total += values[i : i + width][0]
    return total


@kernel
def an_array(n: int) -> np.ndarray:
    return np.empty(n)


def test_a_kernel_takes_views_and_is_refused_an_array_of_its_own() -> None:
    assert sum_of_firsts(np.arange(10), 3) == sum(range(7))
    with pytest.raises(TypingError) as e:  # numba's runtime, which makes arrays and counts references to them, is off
        an_array(3)
    assert "an_array: if it makes arrays" in e.value.__notes__[0]


def test_a_kernel_is_machine_code_and_not_the_function() -> None:
    # No wrapping in Python: an int has no bound there.
    assert twice(2**62) == -(2**63)


def test_a_kernel_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(twice_each)) is twice_each
    assert len(pickle.dumps(twice_each)) < 100


def test_defining_one_imports_no_compiler() -> None:
    code = "import sys; import raypt.text.hashing; assert 'numba' not in sys.modules and 'llvmlite' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
