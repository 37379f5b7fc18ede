"""A child process that hostile input may kill, hang or bloat."""

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pyarrow as pa
import pytest

from raypt.corpus.sandbox import ChildDied, ChildTimeout, Sandbox
from raypt.errors import UserError


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(memory_bytes=256 << 20) as sandbox:
        yield sandbox


def pid(_: int = 0) -> int:
    return os.getpid()


def add(a: int, b: int) -> int:
    return a + b


def die(number: int) -> None:
    os.write(2, b"last words")
    os.kill(os.getpid(), number)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def allocate(nbytes: int) -> int:
    return len(bytearray(nbytes))


def allocate_arrow(nbytes: int) -> int:
    return pa.allocate_buffer(nbytes).size


def mistake() -> None:
    raise UserError("file x, row 3")


def batches(n: int, then: str) -> Iterator[pa.RecordBatch]:
    for i in range(n):
        yield pa.record_batch({"text": [f"第 {i} 批" * 100_000]})
    if then == "die":
        die(signal.SIGABRT)
    if then == "raise":
        mistake()


def test_one_child_answers_many_calls(box: Sandbox) -> None:
    assert [box.call(add, i, 1) for i in range(3)] == [1, 2, 3]
    assert box.call(pid) == box.call(pid) != os.getpid()


def test_a_death_is_an_exception_with_signal_and_last_words_and_the_next_call_has_a_new_child(box: Sandbox) -> None:
    with pytest.raises(ChildDied, match=r"signal 6 \(SIGABRT\): last words"):
        box.call(die, signal.SIGABRT)
    assert box.call(add, 1, 2) == 3


def test_a_child_that_hangs_is_killed_in_time(box: Sandbox) -> None:
    hung = box.call(pid)
    start = time.monotonic()
    with pytest.raises(ChildTimeout, match=r"within 0\.3 s"):
        box.call(sleep, 60.0, seconds=0.3)
    assert time.monotonic() - start < 10
    assert not psutil.pid_exists(hung)


@pytest.mark.parametrize("allocator", [allocate, allocate_arrow])
def test_what_would_fill_the_memory_fails_in_the_child(box: Sandbox, allocator: object) -> None:
    with pytest.raises((MemoryError, pa.ArrowMemoryError)):
        box.call(allocator, 1 << 30)  # type: ignore[arg-type]
    assert box.call(allocator, 1 << 20) == 1 << 20  # type: ignore[arg-type]


def test_an_exception_of_the_function_is_raised_here_and_the_child_lives(box: Sandbox) -> None:
    before = box.call(pid)
    with pytest.raises(UserError, match="file x, row 3"):
        box.call(mistake)
    assert box.call(pid) == before


def test_a_stream_brings_batches_whole_and_in_order(box: Sandbox) -> None:
    got = list(box.stream(batches, 5, ""))
    assert [b["text"][0].as_py() for b in got] == [f"第 {i} 批" * 100_000 for i in range(5)]


@pytest.mark.parametrize(("then", "error"), [("die", ChildDied), ("raise", UserError)])
def test_what_a_stream_brought_before_it_broke_is_kept(box: Sandbox, then: str, error: type[Exception]) -> None:
    got = []
    with pytest.raises(error):
        for batch in box.stream(batches, 3, then):
            got.append(batch)
    assert len(got) == 3
    assert box.call(add, 2, 2) == 4


def test_a_stream_that_is_left_early_leaves_no_rest_for_the_next_call(box: Sandbox) -> None:
    for _ in box.stream(batches, 50, ""):
        break
    assert box.call(add, 2, 3) == 5


class Unreadable:
    """Can be pickled, and not read again."""

    def __reduce__(self) -> tuple:
        return mistake, ()


def unreadable(n: int) -> Iterator[object]:
    for i in range(n):
        yield Unreadable() if i == 1 else i


def test_an_item_that_cannot_be_read_here_leaves_no_rest_for_the_next_call(box: Sandbox) -> None:
    with pytest.raises(UserError):
        list(box.stream(unreadable, 5))
    assert box.call(add, 2, 3) == 5


def test_no_child_outlives_its_sandbox() -> None:
    with Sandbox() as sandbox:
        child = sandbox.call(pid)
    assert not psutil.pid_exists(child)
