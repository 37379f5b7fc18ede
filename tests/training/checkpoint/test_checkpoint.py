"""Checkpoints: committed by their manifest, verified by their hashes, kept by policy, read by any number of ranks."""

import threading
import time
from pathlib import Path

import pytest
import torch

from raypt import storage
from raypt.errors import UserError
from raypt.parallel.state import MASTER, Box, StateKey, StateShard, Want
from raypt.tokens.stream.cursor import Cursor
from raypt.training.checkpoint.files import CheckpointReader, CheckpointWriter, Pace, key_text, parse_key, write_tensors
from raypt.training.checkpoint.manifest import (
    MANIFEST,
    CheckpointInfo,
    Progress,
    kept,
    latest_checkpoint,
    list_checkpoints,
    sweep,
)
from raypt.training.config import CheckpointConfig

WEIGHT = torch.arange(10, dtype=torch.float32)


def shard(world: int = 1, rank: int = 0) -> StateShard:
    """`w` of ten elements cut evenly, with one optimizer state."""
    size = 10 // world
    piece = slice(rank * size, (rank + 1) * size)
    tensors = {at(MASTER, rank * size, size): WEIGHT[piece], at("exp_avg", rank * size, size): -WEIGHT[piece]}
    return StateShard(tensors, {"w": (10,)}, {"step": 3.0})


def at(state: str, start: int, numel: int) -> StateKey:
    return StateKey("w", state, Box((start,), (numel,)))


def read(reader: CheckpointReader, state: str, start: int, numel: int) -> torch.Tensor:
    out = torch.empty(numel)
    reader.read([Want(at(state, start, numel), out)])
    return out


def save(uri: Path, step: int, *, heldout: float | None = None, **config: object) -> CheckpointInfo:
    writer = CheckpointWriter(str(uri), CheckpointConfig.model_validate(config), rank=0, world=1, meta={"m": 1})
    progress = Progress(step=step, updates=step, cursor=Cursor(8 * step, "print"), heldout_loss=heldout)
    writer.save(writer.new_name(step), shard(), progress)
    info = writer.wait()
    assert info is not None
    return info


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save(tmp_path, 5)
    info = latest_checkpoint(str(tmp_path))
    assert info is not None
    assert (info.step, info.cursor, info.meta["m"]) == (5, Cursor(40, "print"), 1)
    reader = CheckpointReader(info)
    assert reader.states("w") == {MASTER, "exp_avg"}
    assert dict(reader.scalars) == {"step": 3.0}
    assert torch.equal(read(reader, MASTER, 2, 5), WEIGHT[2:7])
    assert torch.equal(reader.full("w", torch.Size([10])), WEIGHT)


def test_a_checkpoint_in_an_object_store_is_read_back_in_part() -> None:
    """The store is fsspec's own, in memory: the interface of s3 and gs."""
    uri = "memory://checkpoints"
    config = CheckpointConfig()
    writer = CheckpointWriter(uri, config, rank=0, world=1, meta={})
    writer.save("step-00000001-x", shard(), Progress(step=1))
    writer.wait()
    info = latest_checkpoint(uri)
    assert info is not None
    assert torch.equal(read(CheckpointReader(info), "exp_avg", 3, 4), -WEIGHT[3:7])


@pytest.mark.parametrize("world", [1, 2, 5])
def test_a_reader_sees_one_parameter_whatever_the_number_of_writers(world: int, tmp_path: Path) -> None:
    config = CheckpointConfig()
    writers = [CheckpointWriter(str(tmp_path), config, rank=r, world=world, meta={}) for r in range(world)]
    for rank in reversed(range(world)):  # rank 0, which commits, comes last here and first below
        writers[rank].save("step-00000001-x", shard(world, rank), Progress(step=1))
    for writer in writers:
        writer.wait()
    info = latest_checkpoint(str(tmp_path))
    assert info is not None
    reader = CheckpointReader(info)
    for start, numel in ((0, 10), (3, 4), (9, 1)):
        assert torch.equal(read(reader, "exp_avg", start, numel), -WEIGHT[start : start + numel])


def test_a_checkpoint_is_committed_only_after_the_slowest_rank(tmp_path: Path) -> None:
    config = CheckpointConfig()
    first, second = (CheckpointWriter(str(tmp_path), config, rank=r, world=2, meta={}) for r in range(2))
    first.save("step-00000001-x", shard(2, 0), Progress(step=1))
    threading.Event().wait(0.2)
    assert latest_checkpoint(str(tmp_path)) is None
    second.save("step-00000001-x", shard(2, 1), Progress(step=1))
    second.wait()
    first.wait()
    assert latest_checkpoint(str(tmp_path)) is not None


def test_a_missing_rank_is_given_up_after_the_configured_time(tmp_path: Path) -> None:
    config = CheckpointConfig(commit_timeout_s=0.2)
    writer = CheckpointWriter(str(tmp_path), config, rank=0, world=2, meta={})
    writer.save("step-00000001-x", shard(2, 0), Progress(step=1))
    with pytest.raises(TimeoutError, match="rank-00001"):
        writer.wait()


def test_what_is_written_is_the_state_at_the_time_of_saving(tmp_path: Path) -> None:
    live = WEIGHT.clone()
    writer = CheckpointWriter(str(tmp_path), CheckpointConfig(), rank=0, world=1, meta={})
    writer.save("step-00000001-x", StateShard({at(MASTER, 0, 10): live}, {"w": (10,)}), Progress(step=1))
    live.zero_()
    info = writer.wait()
    assert info is not None
    assert torch.equal(read(CheckpointReader(info), MASTER, 0, 10), WEIGHT)


def test_a_directory_without_a_manifest_does_not_exist_and_is_swept_away(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000002-dead").mkdir()
    (tmp_path / "step-00000002-dead" / "rank-00000.safetensors").write_bytes(b"half")
    newest = latest_checkpoint(str(tmp_path))
    assert newest is not None and newest.step == 1
    sweep(str(tmp_path))
    assert [n.split("-")[1] for n in storage.listdir(str(tmp_path))] == ["00000001"]


@pytest.mark.parametrize("harm", ["flip a byte", "truncate", "delete"])
def test_a_damaged_newest_checkpoint_falls_back_and_says_so(
    harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    file = Path(newest.uri) / "rank-00000.safetensors"
    data = bytearray(file.read_bytes())
    if harm == "flip a byte":
        data[-1] ^= 1
        file.write_bytes(data)
    elif harm == "truncate":
        file.write_bytes(data[:-4])
    else:
        file.unlink()
    with caplog.at_level("ERROR", logger="raypt"):
        found = latest_checkpoint(str(tmp_path))
    assert found is not None and found.step == 1
    assert newest.uri in caplog.text and "damaged" in caplog.text
    again = latest_checkpoint(str(tmp_path))
    assert again is not None and again.step == 1


def test_a_manifest_cut_short_is_no_manifest(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    manifest = Path(newest.uri) / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:50])
    found = latest_checkpoint(str(tmp_path))
    assert found is not None and found.step == 1


def test_a_damaged_checkpoint_does_not_count_among_those_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, keep_last=2)
    damaged = save(tmp_path, 2, keep_last=2)
    (Path(damaged.uri) / "rank-00000.safetensors").unlink()
    assert latest_checkpoint(str(tmp_path)) is not None
    save(tmp_path, 3, keep_last=2)
    assert [info.step for info in list_checkpoints(str(tmp_path))] == [1, 3]


def test_the_policy_keeps_the_last_the_milestones_and_the_best(tmp_path: Path) -> None:
    losses = {1: 5.0, 2: 1.0, 3: 4.0, 4: 3.0, 5: 3.5, 6: 3.6, 7: None}
    for step, loss in losses.items():
        save(tmp_path, step, heldout=loss, keep_last=2, keep_every=4, keep_best=1)
    assert [info.step for info in list_checkpoints(str(tmp_path))] == [2, 4, 6, 7]


def test_the_newest_is_always_kept() -> None:
    one = CheckpointInfo("u", Progress(step=3), {}, {}, {})
    assert kept([one], CheckpointConfig(keep_last=1)) == [one]


def test_a_range_that_the_files_do_not_hold_is_an_error(tmp_path: Path) -> None:
    reader = CheckpointReader(save(tmp_path, 1))
    with pytest.raises(UserError, match="10 of 12"):
        read(reader, MASTER, 0, 12)


@pytest.mark.parametrize("box", [Box((0, 128), (4, 8)), Box((3,), (5,)), Box((), ())])
def test_keys_survive_the_round_trip(box: Box) -> None:
    key = StateKey("model.layers.0.mlp.up_proj.weight", "exp_avg_sq", box)
    assert parse_key(key_text(key), box.shape) == key


def test_a_held_writer_takes_its_share_of_a_core_and_no_more(tmp_path: Path) -> None:
    tensors = {at(MASTER, 0, 1 << 23): torch.ones(1 << 23)}
    used, began = time.thread_time(), time.perf_counter()
    write_tensors(str(tmp_path / "w"), tensors, Pace(0.1))
    share = (time.thread_time() - used) / (time.perf_counter() - began)
    assert share < 0.15  # the opening of the file and the last sync are outside the pace


def test_nobody_waits_for_a_held_writer(tmp_path: Path) -> None:
    config = CheckpointConfig(cpu_share=0.001)
    writer = CheckpointWriter(str(tmp_path), config, rank=0, world=1, meta={})
    writer.save(
        "step-00000001-x",
        StateShard({at(MASTER, 0, 1 << 23): torch.zeros(1 << 23)}, {"w": (1 << 23,)}),
        Progress(step=1),
    )
    time.sleep(0.5)  # at full speed 32 MB are long written by now
    assert writer.writing
    began = time.perf_counter()
    assert writer.wait() is not None
    assert time.perf_counter() - began < 5  # held, the rest would take half a minute


def test_the_checkpoint_after_a_hurried_one_is_held_again(tmp_path: Path) -> None:
    writer = CheckpointWriter(str(tmp_path), CheckpointConfig(cpu_share=0.001), rank=0, world=1, meta={})
    tensors = {at(MASTER, 0, 1 << 23): torch.zeros(1 << 23)}
    writer.save("step-00000001-x", StateShard(tensors, {"w": (1 << 23,)}), Progress(step=1))
    writer.save("step-00000002-x", StateShard(tensors, {"w": (1 << 23,)}), Progress(step=2))
    time.sleep(0.5)
    assert writer.writing
    writer.wait()
