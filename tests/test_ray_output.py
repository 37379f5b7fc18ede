"""What Ray prints, and what of it reaches the terminal."""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from raypt import lines, ray_output
from raypt.ray_output import MARK, BoundedLog, Sorter, _Marked, unmarked

ROOT = Path(__file__).parents[1]
JOB = """
import logging, os, sys, time
import ray
from raypt.ray_session import RaySection, session

logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")

@ray.remote
def work():
    from raypt.progress import log  # raypt's lines come from its modules: a worker marks them as soon as it imports one
    print("printed by a worker")
    log.info("said by\\na worker")
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
    printed = _Marked().format(record).splitlines()
    assert [unmarked(line) for line in printed] == [(logging.WARNING, "1 of"), (logging.WARNING, "2")]


def test_other_lines_go_to_the_file_with_who_said_them(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    file = BoundedLog(tmp_path / "ray.log")
    printed = ["noise", f"{MARK}INFO|ours"]
    with caplog.at_level(logging.INFO, "raypt"):
        Sorter(file).take({"lines": printed, "actor_name": "A", "pid": 7, "ip": "10.0.0.2", "localhost": "10.0.0.1"})
    assert caplog.messages == ["ours"]
    written = file.path.read_text()
    assert written.splitlines()[0].endswith("(A pid=7, ip=10.0.0.2) noise")
    assert "ours" not in written


def test_what_each_worker_says_once_the_terminal_has_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_said", set())
    record = logging.LogRecord("raypt", logging.INFO, __file__, 1, "compiling", (), None)
    record.once = True
    sorter = Sorter(BoundedLog(tmp_path / "ray.log"))
    with caplog.at_level(logging.INFO, "raypt"):
        for pid in (7, 8):
            sorter.take({"lines": [_Marked().format(record), f"{MARK}INFO|each"], "pid": pid})
    assert caplog.messages == ["compiling", "each", "each"]


def test_a_month_of_lines_keeps_the_first_and_the_last_in_three_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_output, "PART_BYTES", 10_000)
    file = BoundedLog(tmp_path / "ray.log")
    sorter = Sorter(file)
    for i in range(3000):
        sorter.take({"lines": [f"line {i}"], "actor_name": "A", "pid": 1})
    file.close()
    names = ["ray.log", "ray.before.log", "ray.last.log"]
    assert sorted(names) == sorted(p.name for p in tmp_path.iterdir())
    assert all(path.stat().st_size < 10_000 + 200 for path in tmp_path.iterdir())  # a line, and where it goes on
    first, *end = ((tmp_path / name).read_text().splitlines() for name in names)
    assert first[0].endswith("line 0")
    assert first[-1] == "... what follows is in ray.before.log and ray.last.log"
    kept = [int(line.rpartition(" ")[2]) for part in end for line in part]
    assert kept == list(range(kept[0], 3000))  # none between is lost
    assert kept[0] > len(first)


def test_what_native_code_writes_is_bounded_and_follows_to_the_next_part(tmp_path: Path) -> None:
    job = f"""
import os
from pathlib import Path
from raypt import lines, ray_output
ray_output.PART_BYTES = 10_000
with ray_output.aside() as output:
    output._aside.move(Path({str(tmp_path)!r}) / "ray.log")
    sorter = ray_output.Sorter(output._aside.file)
    for i in range(3000):
        os.write(2, b"native %d\\n" % i)
        if i % 100 == 99:
            sorter.take({{"lines": ["{MARK}INFO|step"]}})
"""
    done = subprocess.run([sys.executable, "-c", job], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ray.before.log", "ray.last.log", "ray.log"]
    assert all(path.stat().st_size < 10_000 + 100 * 12 + 200 for path in tmp_path.iterdir())
    assert (tmp_path / "ray.log").read_text().startswith("native 0\n")
    assert (tmp_path / "ray.last.log").read_text().endswith("native 2999\n")


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
