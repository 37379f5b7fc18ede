"""What Ray prints, and what of it reaches the terminal."""

import io
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from raypt.ray_output import MARK, Sorter, _Marked, unmarked

ROOT = Path(__file__).parents[1]
JOB = """
import logging, os, sys, time
import ray
from raypt.ray_session import RaySection, session

logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")

@ray.remote
def work():
    print("printed by a worker")
    logging.getLogger("raypt").info("said by\\na worker")
    logging.getLogger("another").warning("said by a library")

with session(RaySection(dashboard=False, num_cpus=1)):
    ray.get(work.remote())
    os.write(2, b"written by native code\\n")
    logging.getLogger("raypt").info("said by the driver")
    print("printed by the driver", file=sys.stderr)
    time.sleep(1)
os.write(2, b"after the end\\n")
"""


def test_a_marked_line_is_what_it_was_in_each_of_its_lines() -> None:
    record = logging.LogRecord("raypt", logging.WARNING, __file__, 1, "%d of\n%d", (1, 2), None)
    lines = _Marked().format(record).splitlines()
    assert [unmarked(line) for line in lines] == [(logging.WARNING, "1 of"), (logging.WARNING, "2")]


def test_other_lines_go_to_the_file_with_who_said_them(caplog: pytest.LogCaptureFixture) -> None:
    file = io.StringIO()
    lines = ["noise", f"{MARK}INFO|ours"]
    with caplog.at_level(logging.INFO, "raypt"):
        Sorter(file).take({"lines": lines, "actor_name": "A", "pid": 7, "ip": "10.0.0.2", "localhost": "10.0.0.1"})
    assert caplog.messages == ["ours"]
    assert file.getvalue().splitlines()[0].endswith("(A pid=7, ip=10.0.0.2) noise")
    assert "ours" not in file.getvalue()


def test_the_terminal_has_what_raypt_says_and_the_file_the_rest() -> None:
    with tempfile.TemporaryDirectory(prefix="rayout") as directory:  # short: sockets are in it
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {"RAY_TMPDIR": directory, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", JOB], capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        first, *others = done.stderr.splitlines()
        file = Path(first.split("what Ray prints: ")[1])
        shown = ["I said by", "I a worker", "I said by the driver", "after the end", "printed by the driver"]
        assert sorted(others) == sorted(shown)
        kept = file.read_text()
        assert all(line in kept for line in ("printed by a worker", "said by a library", "written by native code"))
