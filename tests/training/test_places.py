"""Where Ray Train keeps its own files, seen through its own code: below the run's name, and in memory alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.train import Checkpoint
from ray.train.v2._internal.execution.context import is_managed_checkpoint
from ray.train.v2._internal.execution.storage import StorageContext

from raypt import storage
from raypt.training.on_ray.run import path_of, place
from raypt.training.worker import CHECKPOINTS
from tests.s3 import S3Server, s3_server


def check(run_uri: str) -> None:
    name, path, filesystem = place(run_uri)
    assert name == "first"
    ours = StorageContext(storage_path=path, experiment_dir_name=name, storage_filesystem=filesystem)
    where = path_of(storage.join(run_uri, CHECKPOINTS, "step-00000010-a"))
    # It refuses checkpoints that lie elsewhere than below the directory that is called as the run.
    assert is_managed_checkpoint(ours, Checkpoint(where, ours.storage_filesystem))
    assert ours.extract_checkpoint_dir_name_from_path(where) == f"{CHECKPOINTS}/step-00000010-a"
    assert ours.checkpoint_manager_snapshot_path.endswith("/first/checkpoint_manager_snapshot.json")
    assert storage.listdir(run_uri) == []  # what Ray Train writes is in the memory of this process


def test_a_local_run_is_its_own_experiment(tmp_path: Path) -> None:
    check(str(tmp_path / "runs" / "first"))


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with s3_server(tmp_path) as server:
        yield server


@pytest.mark.parametrize("below", [("runs", "first"), ("first",)])
def test_a_run_on_an_object_store_is_too(s3: S3Server, below: tuple[str, ...]) -> None:
    check(s3.uri(*below))
