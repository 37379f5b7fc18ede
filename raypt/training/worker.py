"""What one Ray Train worker does: join the group, build or restore the engine, run the loop."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any

import numpy as np
import ray
import torch
import torch.distributed as dist

from raypt import storage
from raypt.accelerators import stated_flops
from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel import comm
from raypt.parallel.engine import Asynchronous, Closes
from raypt.parallel.initial_state import InitialState
from raypt.parallel.mesh import Mesh
from raypt.parallel.pulse import PULSE
from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.tokenizer.tokenizer import Tokenizer, keep_loaded, read_files
from raypt.training import sizes
from raypt.training.batch_plan import BatchPlan, plan_batches
from raypt.training.checkpoint.directory import sweep
from raypt.training.checkpoint.manifest import CheckpointInfo, Progress
from raypt.training.checkpoint.resume import GoneBack, agree_on_newest, restore, take
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import TrainConfig
from raypt.training.engines import build_engine
from raypt.training.heldout import Heldout
from raypt.training.loop import Hooks, TrainLoop
from raypt.training.peak import measured_flops, warn_of_slow_bf16
from raypt.training.records import MetricsFile, SampleRecorder, UpdateRecorder, cut_records
from raypt.training.replica_rows import shared
from raypt.training.sinks import Tracer, build_sinks
from raypt.training.starting_weights import StartingWeights
from raypt.training.tasks import Tasks

log = logging.getLogger("raypt")

CHECKPOINTS = "checkpoints"
CONTINUES = {"optimizer": "train.optimizer.kind", "global_batch_tokens": "train.global_batch_tokens"}
"""What a checkpoint was written with and must go on with: key of its `meta` -> configuration key."""


@dataclass(frozen=True)
class WorkerSpec:
    """Everything a worker needs to know; small and picklable."""

    model: ModelConfig
    train: TrainConfig
    sequence_length: int
    run_uri: str
    heldout_uri: str
    tokenizer_uri: str
    fingerprint: str
    seed: int
    record_samples: bool
    add_bos: bool = False
    """Whether documents begin with BOS, as those who use the model must begin them."""
    starting: StartingWeights | None = None
    """What it begins from; None = drawn weights."""

    @property
    def checkpoints_uri(self) -> str:
        return storage.join(self.run_uri, CHECKPOINTS)


def run_worker(spec: WorkerSpec, rows: Iterator[dict[str, Any]], hooks: Hooks) -> Progress:
    """Train on `rows` (packed samples, `train.micro_batch_size` at a time, from the checkpoint's cursor on), which the
    first rank of each replica reads; the others' are not looked at. The process group stays, and of the engine nothing.
    """
    train = spec.train
    rows = begun(rows)
    device, mesh, plan = joined(train, spec.sequence_length)
    topology, rank = mesh.topology, mesh.topology.rank
    resumed = agree_on_newest(spec.checkpoints_uri, lambda info: mismatch(spec, info))
    PULSE.at("building the model")
    engine = build_engine(spec.model, train, plan, mesh, device=device)
    start = Progress(cursor=Cursor(0, spec.fingerprint))
    if resumed is not None:
        PULSE.at("reading the checkpoint")
        if (problem := restore(engine, resumed, topology.rank)) is not None:
            raise GoneBack(problem)
        start = resumed.progress
    elif spec.starting is not None:
        PULSE.at("reading the weights to begin from")
        if (problem := take(engine, spec.starting.open)) is not None:
            raise UserError(f"train.init.from: {problem}")
    else:
        engine.restore(InitialState(spec.model, spec.seed))
    there: set[str] = set()
    if rank == 0:
        where = f"at step {start.step}, sample {start.cursor.next_sample}" if resumed else "from the beginning"
        if resumed is None and spec.starting is not None:
            where += f", with the weights of {spec.starting.uri}"
        workers = train.worker_range[0] if train.asynchronous else topology.world_size
        each = plan.samples_per_step // plan.micro_batch_size // workers
        log.info("%d workers, %d micro-batches each a step; training %s", workers, each * train.parallel.replica, where)
        if train.precision == "bf16" and not train.use_gpu:
            warn_of_slow_bf16()
        # From here on the state is sure: only now may anything be cut or deleted.
        there = set(storage.listdir(spec.run_uri))
        cut_records(spec.run_uri, start.step, there)
        if CHECKPOINTS in there:
            sweep(spec.checkpoints_uri)
    metrics = MetricsFile(spec.run_uri, start.step, there) if rank == 0 else None
    sinks = build_sinks(train, spec.run_uri, start.step, ray=ray.is_initialized()) if rank == 0 else []
    records = spec.record_samples and topology.leads_replica
    tokenizer = shared_tokenizer(spec.tokenizer_uri)
    dist.barrier()
    try:
        progress = TrainLoop(
            engine=engine,
            model=spec.model,
            train=train,
            plan=plan,
            source=_micro_batches(shared(rows, mesh), train),
            start=start,
            fingerprint=spec.fingerprint,
            writer=CheckpointWriter(
                spec.checkpoints_uri,
                train.checkpoint,
                rank=rank,
                world=topology.world_size,
                meta=_meta(spec),
                use_gpu=train.use_gpu,
            ),
            heldout=_heldout(spec, tokenizer),
            tasks=Tasks(train.evaluation.tasks, tokenizer, spec.sequence_length),
            device=device,
            metrics=metrics,
            recorder=SampleRecorder(spec.run_uri, topology.data_rank) if records else None,
            updates=UpdateRecorder(spec.run_uri) if isinstance(engine, Asynchronous) else None,
            sinks=sinks,
            tracer=Tracer(train.profile if rank == 0 else None, spec.run_uri),
            hooks=hooks,
            matmul_flops=None if train.peak_tflops else _measured(device, train),
            stated_flops=_stated(device, train),
        ).run()
    finally:
        if metrics is not None:
            metrics.close()
        for sink in sinks:
            sink.close()
    if isinstance(engine, Closes):
        engine.close()
    return progress


def shared_tokenizer(uri: str) -> Tokenizer:
    """Collective. The tokenizer of a directory, whose files rank 0 reads for all (each would ask for three)."""
    tokenizer = Tokenizer.of(comm.from_first(lambda: read_files(uri)), uri)
    keep_loaded(uri, tokenizer)
    return tokenizer


def _measured(device: torch.device, train: TrainConfig) -> float:
    return measured_flops(device, train.precision, torch.get_num_threads())


def _stated(device: torch.device, train: TrainConfig) -> float | None:
    """FLOP/s that MFU is a share of: what the user says of a worker, else what the maker states of the GPU."""
    if train.peak_tflops:
        return 1e12 * train.peak_tflops
    return stated_flops(torch.cuda.get_device_name(device), train.precision) if train.use_gpu else None


def joined(train: TrainConfig, sequence_length: int) -> tuple[torch.device, Mesh, BatchPlan]:
    """Collective: `join`, and this rank's part of a step."""
    device, mesh = join(train)
    plan = plan_batches(
        global_batch_tokens=train.global_batch_tokens,
        sequence_length=sequence_length,
        micro_batch_size=train.micro_batch_size,
        data_size=mesh.topology.data_size,
    )
    return device, mesh, plan


def join(train: TrainConfig) -> tuple[torch.device, Mesh]:
    """Collective: this process as a rank of the mesh, and its device."""
    if not train.use_gpu:
        torch.set_num_threads(train.threads)
    if train.deterministic:
        fix_order()
    device = comm.init_process_group(use_gpu=train.use_gpu, timeout_s=train.first_step_timeout_s)
    comm.set_timeout(train.first_step_timeout_s)
    mesh = Mesh(sizes.topology(train, dist.get_rank(), dist.get_world_size()))
    check_nodes(train, mesh, socket.gethostname())
    return device, mesh


def fix_order() -> None:
    """Kernels whose sums have one order, or an error of torch naming the one that has none; before CUDA is begun."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def check_nodes(train: TrainConfig, mesh: Mesh, node: str) -> None:
    """Collective. Raises UserError where a matrix is cut over ranks of several nodes, unless that is wanted."""
    nodes = comm.gather_objects(node)
    if (problem := spanning(train, [nodes[rank] for rank in mesh.tensor.ranks])) is not None:
        raise UserError(problem)


def spanning(train: TrainConfig, nodes: Sequence[str]) -> str | None:
    """Why the workers of a matrix may not be on these nodes, a name each. Ray's are placed so that they are not
    (`raypt.training.on_ray.seats`); others are as a launcher has numbered them.
    """
    names = sorted(set(nodes))
    if len(names) == 1 or train.parallel.tensor_across_nodes:
        return None
    return (
        f"train.parallel.tensor={train.parallel.tensor}: workers of one matrix are on the nodes {', '.join(names)}, "
        "between which they would exchange activations in every layer. Give a node a multiple of train.parallel.tensor "
        "workers, or set train.parallel.tensor_across_nodes=true"
    )


def begun(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same rows, the first of them asked for at once, in a thread: the stream's own actors take seconds to start,
    and meanwhile the engine is built. An error of the stream is raised where the first row is taken.
    """
    first: Future[dict[str, Any] | None] = Future()

    def ask() -> None:
        try:
            first.set_result(next(rows, None))
        except BaseException as e:
            first.set_exception(e)

    Thread(target=ask, name="first-row", daemon=True).start()

    def rest() -> Iterator[dict[str, Any]]:
        row = first.result()
        while row is not None:
            yield row
            row = next(rows, None)

    return rest()


def mismatch(spec: WorkerSpec, info: CheckpointInfo) -> str | None:
    """Why this run cannot go on from the checkpoint."""
    for key, value in _meta(spec).items():
        saved = info.meta.get(key, value)  # a checkpoint from before the key was kept says nothing against it
        if saved != value and key in CONTINUES:
            return (
                f"{info.uri} was written with {CONTINUES[key]}={saved}, from which {value} cannot go on; restore "
                f"{CONTINUES[key]}, or start under another run.name"
            )
    if info.meta["model"] != spec.model.model_dump():
        return (
            f"{info.uri} holds another model than `model` now describes; to continue, restore the model section, or "
            "start under another run.name"
        )
    return None


def _micro_batches(rows: Iterator[dict[str, Any]], train: TrainConfig) -> Iterator[MicroBatch]:
    for batch in rows:
        yield micro_batch(batch, cross_document_targets=train.cross_document_targets)


def _meta(spec: WorkerSpec) -> dict[str, Any]:
    train = spec.train
    return {
        "model": spec.model.model_dump(),
        "zero_stage": train.zero.stage,
        "precision": train.precision,
        "optimizer": train.optimizer.kind,
        "global_batch_tokens": train.global_batch_tokens,
        "add_bos": spec.add_bos,
    }


def _heldout(spec: WorkerSpec, tokenizer: Tokenizer) -> Heldout:
    def byte_count(ids: np.ndarray) -> int:
        return len(tokenizer.decode(ids.tolist()).encode())

    return Heldout(
        spec.heldout_uri,
        max_samples=spec.train.evaluation.max_samples,
        micro_batch_size=spec.train.micro_batch_size,
        cross_document_targets=spec.train.cross_document_targets,
        byte_count=byte_count,
    )


def quiet_libraries() -> None:
    """DeepSpeed logs its whole configuration on every rank, Ray Train every report; torch warns of its own calls."""
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
