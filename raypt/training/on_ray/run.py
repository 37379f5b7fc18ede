"""Training as a Ray Train run: driver side, and the worker function that Ray ships."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray.data
import ray.train
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem
from ray._private.worker import get_dashboard_url
from ray.train.torch import TorchConfig
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.api.report_config import CheckpointUploadMode
from ray.train.v2.api.train_fn_utils import report

from raypt import metrics, storage
from raypt.causes import of_rank
from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.parallel import comm
from raypt.parallel.topology import Topology
from raypt.ray_dashboard import wait_for_dashboard
from raypt.ray_session import environment
from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.stream.spec import check_fingerprint
from raypt.tokens.stream.waits import Waits
from raypt.training.afterwards import Afterwards, judge_trained
from raypt.training.checkpoint.directory import latest_checkpoint, newest_step
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import TrainConfig
from raypt.training.loop import Hooks
from raypt.training.on_ray.board import STOPPED, Board
from raypt.training.on_ray.environment import worker_environment
from raypt.training.on_ray.failures import user_error
from raypt.training.on_ray.scaling import BatchTrainer
from raypt.training.on_ray.seats import together, worker_resources
from raypt.training.on_ray.stop import stoppable
from raypt.training.on_ray.watch import Beating, Watch, new_name
from raypt.training.records import merge_samples, read_metrics
from raypt.training.sizes import check_mesh, check_workers, group_sizes, topology
from raypt.training.starting_weights import StartingWeights
from raypt.training.worker import CHECKPOINTS, WorkerSpec, mismatch, quiet_libraries, run_worker

log = logging.getLogger("raypt")

_ELASTIC_START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class TrainResult:
    """What training left behind."""

    checkpoint: CheckpointInfo
    """The last one."""
    metrics: list[dict[str, Any]]
    """The lines of metrics.jsonl."""


def run_training(
    *,
    model: ModelConfig,
    train: TrainConfig,
    sequence_length: int,
    run_uri: str,
    make_dataset: Callable[[Callable[[], Cursor | None]], Callable[[], ray.data.Dataset]],
    stream_fingerprint: str,
    heldout_uri: str,
    tokenizer_uri: str,
    seed: int,
    record_samples: bool = False,
    add_bos: bool = False,
    starting: StartingWeights | None = None,
    data_config: ray.train.DataConfig | None = None,
    afterwards: Afterwards | None = None,
    new: bool = False,
) -> TrainResult:
    """Train to `train.steps`, from the newest whole checkpoint under `run_uri` if there is one.

    Ray must be initialised. `make_dataset(cursor)` gives the dataset factory that Ray Train evaluates at every start of
    the worker group; `cursor()` says where the newest checkpoint stands. `heldout_uri` lies in the token store.
    `add_bos` is what the documents were packed with: checkpoints keep it for those who export them. `starting` weights
    are read where there is no checkpoint yet; None = they are drawn. Writes
    metrics.jsonl, checkpoints/ and, if asked, samples.parquet under `run_uri`. `afterwards` is done by the workers that
    have saved the last step, unless they are asynchronous; whoever wants it looks whether it was, for it may have
    failed, or those workers were lost. `new`: there is no checkpoint yet. Raises UserError for mistakes in the
    configuration.
    """
    checkpoints_uri = storage.join(run_uri, CHECKPOINTS)
    sizes = group_sizes(train, check_workers(train, sequence_length))
    check_mesh(model, train, sequence_length)
    spec = WorkerSpec(
        model=model,
        train=train,
        sequence_length=sequence_length,
        run_uri=run_uri,
        heldout_uri=heldout_uri,
        tokenizer_uri=tokenizer_uri,
        fingerprint=stream_fingerprint,
        seed=seed,
        record_samples=record_samples,
        add_bos=add_bos,
        starting=starting,
    )
    newest = None if new else latest_checkpoint(checkpoints_uri)
    if newest is not None:
        check_fingerprint(newest.cursor.fingerprint, stream_fingerprint)
        if problem := mismatch(spec, newest):
            raise UserError(problem)
    if newest is None or newest.step < train.steps:
        try:
            _fit(spec, sizes, make_dataset, data_config, afterwards)
        except TrainingFailedError:
            newest = latest_checkpoint(checkpoints_uri)
            if newest is None or newest.step < train.steps:
                raise
            log.warning("the workers failed when the last checkpoint was whole already: training has ended")
        newest = latest_checkpoint(checkpoints_uri)
    assert newest is not None, "training ended without a checkpoint"
    if record_samples:
        merge_samples(run_uri)
    return TrainResult(newest, read_metrics(run_uri))


def _fit(
    spec: WorkerSpec,
    sizes: list[int],
    make_dataset: Callable[[Callable[[], Cursor | None]], Callable[[], ray.data.Dataset]],
    data_config: ray.train.DataConfig | None,
    afterwards: Afterwards | None,
) -> None:
    train, board = spec.train, Board(new_name())
    storage.makedirs(spec.checkpoints_uri)
    name, path, filesystem = place(spec.run_uri)
    trainer = BatchTrainer(
        _worker,
        train_loop_config={"spec": spec, "board": board, "afterwards": None if train.asynchronous else afterwards},
        torch_config=TorchConfig(
            backend="nccl" if train.use_gpu else "gloo", timeout_s=math.ceil(train.first_step_timeout_s)
        ),
        scaling_config=ScalingConfig(
            num_workers=sizes[0] if len(sizes) == 1 else (sizes[0], sizes[-1]),
            elastic_resize_monitor_interval_s=train.resize_check_s,
            use_gpu=train.use_gpu,
            resources_per_worker=worker_resources(train),
            label_selector=dict(train.labels) or None,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=train.max_failures),
            worker_runtime_env={"env_vars": worker_environment(train, train.threads, spec.run_uri)},
        ),
        datasets={"train": make_dataset(lambda: _cursor(spec.checkpoints_uri))},
        dataset_config=data_config,
        sizes=sizes,
        newest_step=partial(newest_step, spec.checkpoints_uri),
        group=together(train),
    )
    try:
        with (
            knobs(train, elastic=len(sizes) > 1),
            Watch(board, after_s=train.stall_warning_s, timeout_s=train.collective_timeout_s),
        ):
            stoppable(trainer.fit, board, train.stop_timeout_s)
    except TrainingFailedError as e:
        if mistake := user_error(e):
            raise mistake from None
        raise
    finally:
        board.clear()


def place(run_uri: str) -> tuple[str, str, FileSystem]:
    """Name, storage path and file system of a run for Ray Train: its directory is that of the run, so that the name on
    Ray's pages is the run's, and reported checkpoints lie below it. What Ray Train itself would write there (a marker,
    and a list of reported checkpoints that it goes on from, and fails over where one of them has been pruned) is kept
    in the memory of its controller: the manifests are the truth, and each start begins without such a list.
    """
    parent, _, name = path_of(run_uri).rstrip("/").rpartition("/")
    return name, parent or "/", PyFileSystem(FSSpecHandler(MemoryFileSystem()))


def path_of(uri: str) -> str:
    """Where Ray Train takes a directory of the run to be."""
    return f"/{storage.filesystem(uri)[1].lstrip('/')}"


def _cursor(checkpoints_uri: str) -> Cursor | None:
    newest = latest_checkpoint(checkpoints_uri)
    return None if newest is None else newest.cursor


@contextlib.contextmanager
def knobs(train: TrainConfig, *, elastic: bool) -> Iterator[None]:
    """Ray Train's own knobs, for one run: the driver's environment reaches the controller and the workers. What a
    person has set there wins.
    """
    # An elastic run counts what fits before it asks for it; if that is gone by then, it had better count again.
    timeout = min(train.start_timeout_s, _ELASTIC_START_TIMEOUT_S) if elastic else train.start_timeout_s
    values = {
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # also how often a report is taken up
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(timeout),
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(train.collective_timeout_s),
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(train.collective_timeout_s),
    }
    wait_for_dashboard()
    if get_dashboard_url():  # without one, state tracking only fills the log with refused connections
        values["RAY_TRAIN_ENABLE_STATE_TRACKING"] = "1"
    with environment(values):
        yield


def _worker(config: dict[str, Any]) -> None:
    with of_rank(ray.train.get_context().get_world_rank()):
        _train(config)


def _train(config: dict[str, Any]) -> None:
    quiet_libraries()
    spec: WorkerSpec = config["spec"]
    board: Board = config["board"]
    afterwards: Afterwards | None = config["afterwards"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    place = topology(spec.train, rank, context.get_world_size())
    group = comm.broadcast_object(new_name())
    saved: tuple[int, CheckpointInfo | None] = (0, None)

    def committed(figures: dict[str, Any], info: CheckpointInfo | None) -> None:
        nonlocal saved
        saved = figures["step"], info
        _report(figures, info)

    with Beating(board, rank, group) as beating:
        with _rows(spec, place) as (rows, waits):
            hooks = Hooks(
                committed=committed,
                preempted=_preempted,
                stopping=lambda: beating.stop_asked,
                waits=waits,
            )
            progress = run_worker(spec, rows, hooks)
        if rank == 0:
            board.put(STOPPED, progress.step)  # whoever asks the run to end from here on need not wait
        if afterwards is not None and saved[0] == spec.train.steps:
            judge_trained(afterwards, saved[1], spec.train)


@contextlib.contextmanager
def _rows(spec: WorkerSpec, place: Topology) -> Iterator[tuple[Iterator[dict[str, Any]], Callable[[], Waits]]]:
    """This worker's samples, and how long it has waited for them; none where another of its replica reads them."""
    from raypt.tokens.stream.dataset import Batches

    if not place.leads_replica:
        yield iter(()), Waits
        return
    split = ray.train.get_dataset_shard("train")
    size = spec.train.micro_batch_size
    with Batches(split, size, rank=place.data_rank, world_size=place.data_size) as rows:
        yield rows, lambda: rows.waits


def _report(figures: dict[str, Any], info: CheckpointInfo | None) -> None:
    """Tell Ray Train of a checkpoint that is already in its place: all ranks, since a report is a barrier."""
    checkpoint = None
    if info is not None:
        run = ray.train.get_context().get_experiment_name()
        metrics.put("raypt_train_checkpoint_step", info.step, run)
        metrics.put("raypt_train_checkpoint_time", time.time(), run)
        # Of its own file system, or Ray Train does not take it.
        checkpoint = ray.train.Checkpoint(path_of(info.uri), get_train_context().get_storage().storage_filesystem)
    report(figures, checkpoint=checkpoint, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


def _preempted() -> bool:
    """This worker's own notice: the loop agrees on it with its other figures, where Ray Train's public function would
    ask an actor, behind a barrier, at every step.
    """
    return get_train_context().preemption_context.preemption_info is not None
