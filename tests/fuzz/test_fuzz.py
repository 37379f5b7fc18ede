"""Damaged files of every format crash nothing, hang nothing, fill no memory, and lose nothing in silence.

The long form: python -m tests.fuzz.run (10,000 inputs).
"""

from tests.fuzz.inputs import FORMATS
from tests.fuzz.run import fuzz


def test_damaged_files_are_read_bounded_and_accounted_for() -> None:
    problems, results = fuzz(1_000_000, 1_000)
    assert problems == []
    assert {r.case.format for r in results} == set(FORMATS)
