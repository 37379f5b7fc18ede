"""What goes wrong under a checkpoint directory: outages, which say nothing of what is stored, and damage."""

import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raypt import storage
from raypt.errors import UserError
from raypt.parallel.state import MASTER
from raypt.tokens.stream.cursor import Cursor
from raypt.training.checkpoint import sealed
from raypt.training.checkpoint.directory import (
    RECORD,
    REJECTED,
    attempts,
    latest_checkpoint,
    list_checkpoints,
    read_record,
    reject,
    step_of,
    sweep,
)
from raypt.training.checkpoint.manifest import MANIFEST, PIECES, CheckpointInfo, Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.sealed import Damaged
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig
from tests.training.checkpoint.helpers import WEIGHT, read, save, shard

READS = ("read_bytes", "read_range", "info", "listdir", "list_sizes")
DATA = "rank-00000.safetensors"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`outage(number, file, times)`: the next so many requests for paths that end so fail with that errno."""

    def begin(number: int, ending: str, times: int = 10**9) -> None:
        left = [times]

        def failing(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(uri: str, *args: Any) -> Any:
                if uri.endswith(ending) and left[0] > 0:
                    left[0] -= 1
                    raise OSError(number, "as if", uri)
                return real(uri, *args)

            return call

        for name in READS:
            monkeypatch.setattr(storage, name, failing(getattr(storage, name)))

    yield begin
    monkeypatch.undo()


def newest(uri: Path) -> int | None:
    info = latest_checkpoint(str(uri))
    return None if info is None else info.step


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("file", [MANIFEST, PIECES, DATA, REJECTED, RECORD, ""])
def test_an_outage_of_any_file_deletes_marks_and_passes_over_nothing(
    number: int, file: str, tmp_path: Path, outage: Callable[..., None]
) -> None:
    """The directory of attempts itself is the empty name."""
    save(tmp_path, 1)
    last = save(tmp_path, 2)
    before = snapshot(tmp_path)
    outage(number, file or tmp_path.name)
    try:
        info = latest_checkpoint(str(tmp_path))
        assert info is not None and info.step == 2
        read(CheckpointReader(info), MASTER, 0, 10)
        assert file == RECORD, "nothing of this needs the record alone"
    except OSError as e:
        assert e.errno == number
    sweep(str(tmp_path))
    assert snapshot(tmp_path) == before
    assert Path(last.uri).exists()


@pytest.mark.parametrize("file", [MANIFEST, PIECES, DATA])
def test_an_outage_of_three_answers_is_waited_out(file: str, tmp_path: Path, outage: Callable[..., None]) -> None:
    save(tmp_path, 1)
    outage(errno.EIO, file, 3)
    info = latest_checkpoint(str(tmp_path))
    assert info is not None
    assert torch.equal(read(CheckpointReader(info), MASTER, 0, 10), WEIGHT)


def test_a_piece_that_is_wrong_once_and_right_the_second_time_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = save(tmp_path, 1)
    real, wrong = storage.read_range, [True]

    def once(uri: str, start: int, length: int) -> bytes:
        data = real(uri, start, length)
        return bytes(len(data)) if wrong and wrong.pop() else data

    monkeypatch.setattr(storage, "read_range", once)
    assert torch.equal(read(CheckpointReader(info), MASTER, 0, 10), WEIGHT)
    assert not wrong


@pytest.mark.parametrize("harm", ["flip a byte", "truncate", "delete", "flip a byte of the header"])
def test_damage_of_a_piece_is_found_by_the_read_of_it_and_named(harm: str, tmp_path: Path) -> None:
    info = save(tmp_path, 2)
    file = Path(info.uri) / DATA
    data = bytearray(file.read_bytes())
    if harm == "truncate":
        file.write_bytes(data[:-4])
    elif harm == "delete":
        file.unlink()
    else:
        data[-1 if harm == "flip a byte" else 12] ^= 1
        file.write_bytes(data)
    reader = CheckpointReader(info)
    with pytest.raises(Damaged, match=str(file)):
        read(reader, "exp_avg", 0, 10)


def test_damage_elsewhere_in_a_file_does_not_matter_to_who_does_not_read_it(tmp_path: Path) -> None:
    """Each rank checks what it reads: nobody has to read all."""
    info = save(tmp_path, 2)
    file = Path(info.uri) / DATA
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert torch.equal(read(CheckpointReader(info), MASTER, 0, 10), WEIGHT)


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_table_of_pieces_is_named(harm: str, tmp_path: Path) -> None:
    info = save(tmp_path, 1)
    file = Path(info.uri) / PIECES
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data if harm == "flip" else data[:-9])
    if harm == "delete":
        file.unlink()
    with pytest.raises(Damaged, match=PIECES):
        CheckpointReader(info)


def test_a_rejected_checkpoint_is_passed_over_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1, keep_last=2)
    bad = save(tmp_path, 2, keep_last=2)
    with caplog.at_level("ERROR", logger="raypt"):
        reject(bad, "a piece is wrong")
    assert bad.uri in caplog.text and "a piece is wrong" in caplog.text
    assert newest(tmp_path) == 1
    save(tmp_path, 3, keep_last=2)
    assert [info.step for info in list_checkpoints(str(tmp_path))] == [1, 3], "it does not count among those kept"
    assert (Path(bad.uri) / DATA).exists()
    (Path(bad.uri) / REJECTED).unlink()
    assert [info.step for info in list_checkpoints(str(tmp_path))] == [1, 2, 3], "its mark is all that excludes it"


def test_a_damaged_manifest_is_passed_over_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1)
    last = save(tmp_path, 2)
    manifest = Path(last.uri) / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:50])
    with caplog.at_level("ERROR", logger="raypt"):
        assert newest(tmp_path) == 1
    assert str(manifest) in caplog.text


def test_an_unfinished_attempt_is_no_checkpoint_and_is_swept_away(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000002-dead").mkdir()
    (tmp_path / "step-00000002-dead" / DATA).write_bytes(b"half")
    assert newest(tmp_path) == 1
    sweep(str(tmp_path))
    assert [name for name in storage.listdir(str(tmp_path)) if "00000002" in name] == []
    assert newest(tmp_path) == 1


def test_a_first_start_is_one_where_there_never_was_a_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") is None
    (tmp_path / "step-00000001-dead").mkdir()
    (tmp_path / "step-00000001-dead" / DATA).write_bytes(b"half")
    assert newest(tmp_path) is None


def _reject_all(uri: Path) -> None:
    for info in list_checkpoints(str(uri)):
        reject(info, "as if")


def _lose_the_manifests(uri: Path) -> None:
    for manifest in uri.glob(f"*/{MANIFEST}"):
        manifest.unlink()


def _lose_the_manifests_and_the_record(uri: Path) -> None:
    _lose_the_manifests(uri)
    (uri / RECORD).unlink()


def _cut_the_manifests(uri: Path) -> None:
    for manifest in uri.glob(f"*/{MANIFEST}"):
        manifest.write_bytes(manifest.read_bytes()[:-3])


def _lose_the_directories(uri: Path) -> None:
    for directory in uri.glob("step-*"):
        shutil.rmtree(directory)


def _damage_the_record_and_lose_the_rest(uri: Path) -> None:
    _lose_the_directories(uri)
    (uri / RECORD).write_bytes(b"{}")


@pytest.mark.parametrize(
    "harm",
    [
        _reject_all,
        _lose_the_manifests,
        _lose_the_manifests_and_the_record,
        _cut_the_manifests,
        _lose_the_directories,
        _damage_the_record_and_lose_the_rest,
    ],
)
def test_checkpoints_that_are_there_and_not_whole_are_no_first_start(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    first, last = save(tmp_path, 1), save(tmp_path, 2)
    harm(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="none that is whole") as refused:
        latest_checkpoint(str(tmp_path))
    if harm is not _damage_the_record_and_lose_the_rest:
        assert first.name in str(refused.value) and last.name in str(refused.value)
    assert f"move {tmp_path} elsewhere" in str(refused.value)
    sweep(str(tmp_path))
    assert snapshot(tmp_path) == before, "nothing is deleted that may yet be mended"


def test_a_checkpoint_that_the_record_has_missed_is_kept_and_pruned_as_the_others(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / RECORD).unlink()
    sweep(str(tmp_path))
    assert [entry.step for entry in read_record(str(tmp_path)).values()] == [2, 1]
    save(tmp_path, 3, keep_last=1)
    assert [info.step for info in list_checkpoints(str(tmp_path))] == [3]


def test_a_checkpoint_committed_by_a_worker_of_the_start_before_is_pruned_with_the_others(tmp_path: Path) -> None:
    save(tmp_path, 1)
    record = (tmp_path / RECORD).read_bytes()
    save(tmp_path, 2)
    (tmp_path / RECORD).write_bytes(record)  # as the run that goes on from step 1 writes it over
    save(tmp_path, 3, keep_last=1)
    assert [step_of(name) for name in attempts(str(tmp_path))] == [3]


def test_a_damaged_record_is_written_anew_from_what_is_there(tmp_path: Path) -> None:
    save(tmp_path, 1, keep_last=5)
    (tmp_path / RECORD).write_bytes(b"{")
    assert newest(tmp_path) == 1
    save(tmp_path, 2, keep_last=5)
    assert sorted(entry.step for entry in read_record(str(tmp_path)).values()) == [1, 2]


def test_a_checkpoint_of_before_is_refused_by_name(tmp_path: Path) -> None:
    directory = tmp_path / "step-00000007-abcdef"
    directory.mkdir()
    (directory / MANIFEST).write_text(json.dumps({"format": 1, "progress": {"step": 7}, "files": {}}))
    with pytest.raises(UserError, match=rf"{directory}/{MANIFEST}: checkpoint format 1"):
        latest_checkpoint(str(tmp_path))
    assert (directory / MANIFEST).exists()


def test_a_commit_that_cannot_prune_is_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, keep_last=1)

    def refused(uri: str) -> None:
        raise PermissionError(errno.EACCES, "as if", uri)

    monkeypatch.setattr(storage, "remove", refused)
    with caplog.at_level(logging.ERROR, logger="raypt"):
        assert save(tmp_path, 2, keep_last=1).step == 2
    assert "could not be deleted" in caplog.text
    assert newest(tmp_path) == 2


@pytest.mark.parametrize("remote", [False, True], ids=["local", "memory"])
def test_one_writer_prunes_what_it_wrote_and_leaves_nothing_of_it(tmp_path: Path, remote: bool) -> None:
    uri = f"memory://pruned-{tmp_path.name}" if remote else str(tmp_path)
    writer = CheckpointWriter(uri, CheckpointConfig(keep_last=2), rank=0, world=1, meta={"m": 1})
    for step in range(1, 6):
        writer.save(writer.new_name(step), shard(), Progress(step=step, updates=step, cursor=Cursor(step, "print")))
        assert writer.wait() is not None
    assert [info.step for info in list_checkpoints(uri)] == [4, 5]
    assert sorted(storage.listdir(uri)) == sorted([*read_record(uri), RECORD])


def test_what_is_rejected_while_its_writer_goes_on_is_never_pruned(tmp_path: Path) -> None:
    writer = CheckpointWriter(str(tmp_path), CheckpointConfig(keep_last=1), rank=0, world=1, meta={"m": 1})

    def saved(step: int) -> CheckpointInfo:
        writer.save(writer.new_name(step), shard(), Progress(step=step, updates=step, cursor=Cursor(step, "print")))
        info = writer.wait()
        assert info is not None
        return info

    saved(1)
    bad = saved(2)
    reject(bad, "a piece is wrong")
    writer.look_again()
    saved(3)
    saved(4)
    assert [step_of(name) for name in attempts(str(tmp_path))] == [4, 2]
    assert (Path(bad.uri) / DATA).exists()
