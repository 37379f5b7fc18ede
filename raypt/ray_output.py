"""What Ray prints: raypt's own lines of it on the terminal, the rest in a file.

Ray sends each line that a worker prints to the driver, beside its own remarks on actors and resources: hundreds in a
run of minutes. Workers mark the lines of raypt's logger; the driver takes those for its own log and writes everything
else to a file in the logs of the session, where the dashboard shows it too. What Ray's libraries write to the standard
error of the driver's own process goes there as well: the descriptor is the file's for as long as Ray is up, and
Python's `sys.stderr` a copy of what it was. The file is bounded (`BoundedLog`): a month of 512 workers fills no disk.
Ray has no public way of taking the workers' lines; where the one used here
is not there (another version), they go to the file with the rest.
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from raypt.lines import say_once

log = logging.getLogger("raypt")

MARK, ONCE = "raypt|", "ONCE"
"""Begins a line of raypt's logger in what a worker prints; in the place of the level of one that is to be told once."""
HOOK = "raypt.ray_output.mark_lines"
"""What each worker of a cluster that was there before runs first (`worker_process_setup_hook`)."""
MARKS = "RAYPT_MARKS_LINES"
"""Of the environment of a Ray that a job starts: its workers mark lines as soon as they import raypt. With a
runtime_env each worker would first be set up by a process of its own (a second of CPU for each of the thirty of a small
run), and none could be started before it is asked for."""
LAST_LINES_S = 0.3
"""How long the last lines of workers are waited for: the log monitor looks every tenth of a second."""

PART_BYTES = 16 << 20
"""Of each of the three parts of the file: the first, and the last two."""

last: Path | None = None
"""The file of the session that began last in this process."""


class _Marked(logging.Formatter):
    """`raypt|INFO|message` (`raypt|ONCE|message` where it is to be told once), one line of the output for each line of
    the message."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines() or [""]
        level = ONCE if getattr(record, "once", False) else record.levelname
        return "\n".join(f"{MARK}{level}|{line}" for line in lines)


def mark_lines() -> None:
    """Mark what raypt logs in this process, for a driver that reads its output."""
    if any(isinstance(handler.formatter, _Marked) for handler in log.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_Marked())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def unmarked(line: str) -> tuple[int | None, str] | None:
    """Level and text of a marked line; without a level, it is to be told once."""
    if not line.startswith(MARK):
        return None
    level, _, text = line.removeprefix(MARK).partition("|")
    return (None if level == ONCE else logging.getLevelNamesMapping().get(level, logging.INFO)), text


class BoundedLog:
    """A log file that keeps its beginning and its end: at `path` the first part, for good; then `<name>.last.log`,
    which becomes `<name>.before.log` when it is full.

    What others write to its descriptor counts too, once `check` looks.
    """

    def __init__(self, path: Path, moved: Callable[[int], None] = lambda descriptor: None) -> None:
        """`moved` is told the descriptor of each part that begins after the first."""
        self.path, self._part_bytes, self._moved = path, PART_BYTES, moved
        self._last, self._before = path.with_suffix(".last.log"), path.with_suffix(".before.log")
        self._at = path
        self._file: TextIO = path.open("a", buffering=1, errors="backslashreplace")

    @property
    def closed(self) -> bool:
        return self._file.closed

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def line(self, text: str) -> None:
        """Write a line."""
        self._file.write(f"{text}\n")
        self.check()

    def check(self) -> None:
        """Go on in a new part where this one is full."""
        if os.fstat(self._file.fileno()).st_size < self._part_bytes:
            return
        try:
            if self._at == self._last:
                self._last.replace(self._before)
            new = self._last.open("a", buffering=1, errors="backslashreplace")
        except OSError:
            return  # it grows on: nobody's work ends for the sake of a log
        if self._at == self.path:
            self._file.write(f"... what follows is in {self._before.name} and {self._last.name}\n")
        self._moved(new.fileno())
        self._file.close()
        self._file, self._at = new, self._last


class Sorter:
    """Takes what Ray would print; safe to call from several threads."""

    def __init__(self, file: BoundedLog) -> None:
        self.file = file
        self._lock = threading.Lock()

    def take(self, data: dict[str, Any]) -> None:
        """`data`: lines of one process, as Ray's log monitor publishes them."""
        who = data.get("actor_name") or data.get("task_name") or ""
        node = "" if data.get("ip") in (None, data.get("localhost")) else f", ip={data['ip']}"
        for line in data.get("lines", []):
            ours = unmarked(line)
            if ours is not None:
                level, text = ours
                if level is None:
                    say_once(text)
                else:
                    log.log(level, "%s", text)
                continue
            with self._lock:
                if not self.file.closed:
                    self.file.line(f"{time.strftime('%H:%M:%S')} ({who} pid={data.get('pid')}{node}) {line}")
        with self._lock:
            if not self.file.closed:
                self.file.check()  # for what native code wrote


class _Aside:
    """Standard error of this process, led to a file while Python's `sys.stderr` goes on to where it went."""

    def __init__(self) -> None:
        number, name = tempfile.mkstemp(prefix="raypt-ray-", suffix=".log")
        os.close(number)
        self.file = BoundedLog(Path(name), moved=self._moved)
        self._python, self._before = sys.stderr, -1
        """The stream and the descriptor of standard error as they were; -1: not led aside."""

    @property
    def path(self) -> Path:
        return self.file.path

    def _moved(self, descriptor: int) -> None:
        if self._before >= 0:
            os.dup2(descriptor, 2)

    def lead(self) -> None:
        try:
            if sys.stderr.fileno() != 2:
                return  # somebody else's already
        except (OSError, ValueError, AttributeError):
            return
        sys.stderr.flush()
        self._before = os.dup(2)
        os.dup2(self.file.fileno(), 2)
        sys.stderr = os.fdopen(os.dup(self._before), "w", buffering=1, errors="backslashreplace")
        self._hand(self._python, sys.stderr)

    def move(self, path: Path) -> None:
        """Go on in a file of this name, which gets what there is."""
        shutil.copyfile(self.path, path)
        new = BoundedLog(path, moved=self._moved)
        self._moved(new.fileno())
        self.file.close()
        self.path.unlink()
        self.file = new

    def end(self) -> None:
        if self._before >= 0:
            ours = sys.stderr
            ours.flush()
            os.dup2(self._before, 2)
            os.close(self._before)
            sys.stderr = self._python
            self._hand(ours, self._python)
            ours.close()
        self.file.close()

    def take_over(self, theirs: logging.Logger) -> None:
        for handler in theirs.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setStream(self._python)

    @staticmethod
    def _hand(before: TextIO, after: TextIO) -> None:
        """Log handlers that write to the one stream write to the other; Ray's stay with the descriptor."""
        for handler in [*logging.getLogger().handlers, *log.handlers]:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(after)


class RayOutput:
    """Where the output of Ray goes; `sort` once Ray is up."""

    def __init__(self) -> None:
        self._aside = _Aside()

    @property
    def path(self) -> Path:
        """The file."""
        return self._aside.path

    def take_over(self, theirs: logging.Logger) -> None:
        """Handlers of one of Ray's loggers that were made since standard error is led aside write to the file too."""
        self._aside.take_over(theirs)

    @contextlib.contextmanager
    def sort(self) -> Iterator[None]:
        """Take the workers' lines, for a block in which Ray is initialised."""
        global last
        try:
            from ray._private import worker
            from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

            assert worker._global_node is not None
            directory = Path(worker._global_node.get_logs_dir_path())
            self._aside.move(directory / f"raypt-driver-{time.strftime('%H%M%S')}-{os.getpid()}.log")
            remarks = worker.print_to_stdstream
        except (ImportError, AttributeError, AssertionError, OSError):
            last = self.path
            yield
            return
        last = self.path
        sorter = Sorter(self._aside.file)
        dispatcher.remove_handler("ray_print_logs")
        dispatcher.add_handler("raypt", sorter.take)
        worker.print_to_stdstream = lambda data, ignore_prefix=False: sorter.take(data)  # of the raylet
        try:
            yield
            time.sleep(LAST_LINES_S)
        finally:
            worker.print_to_stdstream = remarks
            dispatcher.remove_handler("raypt")


@contextlib.contextmanager
def aside() -> Iterator[RayOutput]:
    """Standard error of this process goes to a file, but for what raypt and Python itself say. Where the block fails
    before Ray is up, the file is kept too (`last`).
    """
    global last
    output = RayOutput()
    last = output.path
    output._aside.lead()
    try:
        yield output
    finally:
        output._aside.end()
