"""Damaged files of every format crash nothing, hang nothing, fill no memory, and lose nothing in silence.

The long form: python -m tests.fuzz.run (10,000 inputs).
"""

import subprocess
import sys
from pathlib import Path

from tests.fuzz.inputs import FORMATS


def test_damaged_files_are_read_bounded_and_accounted_for() -> None:
    """In a process of its own: what the tests before this one have in memory is no reader's."""
    command = [sys.executable, "-m", "tests.fuzz.run", "--first", "1000000", "--inputs", "1000"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    last = done.stdout.splitlines()[-1]
    assert ": 0 problems;" in last
    assert all(f" {name}" in last for name in FORMATS), last
