"""Checkpoints: committed by their manifest, kept by policy, read by any number of ranks."""

import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from raypt import storage
from raypt.errors import UserError
from raypt.parallel.state import MASTER, Box, StateKey, StateShard
from raypt.training.checkpoint.directory import Entry, kept, latest_checkpoint, list_checkpoints
from raypt.training.checkpoint.manifest import Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.writer import CheckpointWriter, Pace, key_text, write_tensors
from raypt.training.config import CheckpointConfig
from tests.training.checkpoint.helpers import WEIGHT, at, read, save, shard


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save(tmp_path, 5)
    info = latest_checkpoint(str(tmp_path))
    assert info is not None
    assert (info.step, info.cursor.next_sample, info.meta["m"]) == (5, 40, 1)
    reader = CheckpointReader(info)
    assert reader.states("w") == {MASTER, "exp_avg"}
    assert reader.shapes() == {"w": (10,)}
    assert dict(reader.scalars) == {"step": 3.0}
    assert torch.equal(read(reader, MASTER, 2, 5), WEIGHT[2:7])
    assert torch.equal(reader.full("w", torch.Size([10])), WEIGHT)


def test_a_checkpoint_in_an_object_store_is_read_back_in_part() -> None:
    """The store is fsspec's own, in memory: the interface of s3 and gs."""
    uri = "memory://checkpoints"
    writer = CheckpointWriter(uri, CheckpointConfig(), rank=0, world=1, meta={})
    writer.save("step-00000001-x", shard(), Progress(step=1))
    writer.wait()
    info = latest_checkpoint(uri)
    assert info is not None
    assert torch.equal(read(CheckpointReader(info), "exp_avg", 3, 4), -WEIGHT[3:7])


def test_the_file_of_a_rank_is_one_that_safetensors_reads(tmp_path: Path) -> None:
    info = save(tmp_path, 1)
    tensors = safetensors.torch.load_file(Path(info.uri) / "rank-00000.safetensors")
    assert set(tensors) == {key_text(at(MASTER, 0, 10)), key_text(at("exp_avg", 0, 10))}
    assert torch.equal(tensors["master:w@0"], WEIGHT)


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


@pytest.mark.parametrize("fault", ["twice", "not at all"])
def test_a_state_whose_boxes_do_not_cover_it_once_is_not_committed(fault: str, tmp_path: Path) -> None:
    parts = shard(2, 0), shard(2, 0 if fault == "twice" else 1)
    if fault == "not at all":
        del parts[1].tensors[at("exp_avg", 5, 5)]
    for rank in (1, 0):
        writer = CheckpointWriter(str(tmp_path), CheckpointConfig(), rank=rank, world=2, meta={})
        writer.save("step-00000001-x", parts[rank], Progress(step=1))
        if rank == 1:
            writer.wait()
    with pytest.raises(AssertionError, match="of w"):
        writer.wait()
    assert not storage.exists(str(tmp_path / "step-00000001-x" / "manifest.json"))


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


def test_the_policy_keeps_the_last_the_milestones_and_the_best(tmp_path: Path) -> None:
    losses = {1: 5.0, 2: 1.0, 3: 4.0, 4: 3.0, 5: 3.5, 6: 3.6, 7: None}
    for step, loss in losses.items():
        save(tmp_path, step, heldout=loss, keep_last=2, keep_every=4, keep_best=1)
    assert [info.step for info in list_checkpoints(str(tmp_path))] == [2, 4, 6, 7]


def test_the_newest_is_always_kept() -> None:
    assert kept([Entry(3, "u", None)], CheckpointConfig(keep_last=1)) == {"u"}


def test_a_range_that_the_files_do_not_hold_is_an_error(tmp_path: Path) -> None:
    reader = CheckpointReader(save(tmp_path, 1))
    with pytest.raises(UserError, match="10 of 12"):
        read(reader, MASTER, 0, 12)


def test_a_held_writer_takes_its_share_of_a_core_and_no_more(tmp_path: Path) -> None:
    large = StateShard({at(MASTER, 0, 1 << 23): torch.ones(1 << 23)}, {"w": (1 << 23,)})
    used, began = time.thread_time(), time.perf_counter()
    write_tensors(str(tmp_path / "w"), large, "w", Pace(0.1))
    share = (time.thread_time() - used) / (time.perf_counter() - began)
    assert share < 0.15  # the opening of the file and the last sync are outside the pace


def test_nobody_waits_for_a_held_writer(tmp_path: Path) -> None:
    config = CheckpointConfig(cpu_share=0.001)
    writer = CheckpointWriter(str(tmp_path), config, rank=0, world=1, meta={})
    large = StateShard({at(MASTER, 0, 1 << 23): torch.zeros(1 << 23)}, {"w": (1 << 23,)})
    writer.save("step-00000001-x", large, Progress(step=1))
    time.sleep(0.5)  # at full speed 32 MB are long written by now
    assert writer.writing
    began = time.perf_counter()
    assert writer.wait() is not None
    assert time.perf_counter() - began < 5  # held, the rest would take half a minute


def test_the_checkpoint_after_a_hurried_one_is_held_again(tmp_path: Path) -> None:
    writer = CheckpointWriter(str(tmp_path), CheckpointConfig(cpu_share=0.001), rank=0, world=1, meta={})
    large = StateShard({at(MASTER, 0, 1 << 23): torch.zeros(1 << 23)}, {"w": (1 << 23,)})
    writer.save("step-00000001-x", large, Progress(step=1))
    writer.save("step-00000002-x", large, Progress(step=2))
    time.sleep(0.5)
    assert writer.writing
    writer.wait()


def test_a_key_in_a_file_names_the_state_the_parameter_and_the_place() -> None:
    key = StateKey("model.layers.0.mlp.up_proj.weight", "exp_avg_sq", Box((0, 128), (4, 8)))
    assert key_text(key) == "exp_avg_sq:model.layers.0.mlp.up_proj.weight@0,128"
