"""Training over MPI, without Ray, on the token store of a run.

    raypt tokenize --config run.yaml
    mpirun -n 8 python -m raypt.run.train_over_mpi --config run.yaml train.backend=mpi train.workers=8

For sites where a scheduler starts processes and no Ray runs on the nodes. The same loop, metrics and checkpoints as
`raypt pretrain`, which may go on from them, and the other way round: the samples of a step depend on neither. Every
process reads its own samples of the store, so that the run directory must be reachable from every node.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from raypt import storage
from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.parallel import comm, mpi
from raypt.parallel.zero.deepspeed_config import check_deepspeed
from raypt.run.config import RunConfig
from raypt.run.curate import curate, resolve_builtin
from raypt.run.job import run_job
from raypt.run.open import open_run
from raypt.run.starting import with_start
from raypt.run.stream import measuring, planned_stream, with_heldout
from raypt.tokens.store.files import collection
from raypt.tokens.store.shards import HELDOUT
from raypt.tokens.stream.reader import SampleReader
from raypt.tokens.stream.spec import StreamSpec, check_fingerprint
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.loop import Hooks
from raypt.training.records import merge_samples
from raypt.training.sizes import check_mesh, check_workers, topology
from raypt.training.worker import WorkerSpec, mismatch, quiet_libraries, run_worker

log = logging.getLogger("raypt")


def main(config: RunConfig) -> None:
    """What each process of mpirun does. Collective."""
    world = mpi.world()
    if world.rank:
        logging.getLogger("raypt").setLevel(logging.WARNING)
    if config.train.backend != "mpi":
        raise UserError("train.backend: set it to mpi for a training that mpirun starts")
    if config.train.init is not None:
        raise UserError("train.init: weights to begin from are taken up by `raypt pretrain` alone, not over MPI")
    mpi.init_process_group()
    quiet_libraries()
    with ExitStack() as held:
        job = None
        if world.rank == 0:
            job = _begin(config, world.size, held)
        worker, stream = comm.broadcast_object(job)
        place = topology(worker.train, world.rank, world.size)
        rows = micro_batches(stream, worker, place.data_rank, place.data_size)
        progress = run_worker(worker, rows, Hooks())
        if world.rank == 0:
            if worker.record_samples:
                merge_samples(worker.run_uri)
            newest = latest_checkpoint(worker.checkpoints_uri)
            assert newest is not None
            print(f"trained to step {progress.step} over MPI with {world.size} processes: {newest.uri}")
    comm.barrier()


def _begin(config: RunConfig, processes: int, held: ExitStack) -> tuple[WorkerSpec, StreamSpec]:
    """The first process opens the run for all of them, and plans the stream."""
    config, _ = with_start(resolve_builtin(config))
    sizes = check_workers(config.train, config.tokens.packing.sequence_length)
    if processes not in sizes:
        raise UserError(f"train.workers={config.train.workers}: mpirun started {processes} processes")
    check_mesh(config.model, config.train, config.tokens.packing.sequence_length)
    check_deepspeed(config.train.zero)
    run = held.enter_context(open_run(config, "train over MPI"))
    if not collection(run.token_store).load():
        raise UserError(f"{run.token_store}: there is no token store; make it with `raypt tokenize` and these settings")
    curated = curate(config, run, measure=partial(measuring, config, run))
    config = with_heldout(config, curated.documents)
    stream, tokenizer, _, tokens = planned_stream(config, run, curated, sizes)
    model: ModelConfig = config.model.for_vocabulary(tokenizer.vocab_size)
    worker = WorkerSpec(
        model=model,
        train=config.train,
        sequence_length=tokens.packing.sequence_length,
        run_uri=run.uri,
        heldout_uri=storage.join(run.token_store, HELDOUT),
        tokenizer_uri=run.tokenizer,
        fingerprint=stream.fingerprint,
        seed=config.run.seed,
        record_samples=config.run.record_samples,
        add_bos=tokens.packing.add_bos,
    )
    newest = latest_checkpoint(worker.checkpoints_uri)
    if newest is not None:
        check_fingerprint(newest.cursor.fingerprint, stream.fingerprint)
        if problem := mismatch(worker, newest):
            raise UserError(problem)
    log.info("model: %s parameters, vocabulary %d", f"{model.parameters():,}", model.vocab)
    return worker, stream


def micro_batches(stream: StreamSpec, worker: WorkerSpec, rank: int, ranks: int) -> Iterator[dict[str, Any]]:
    """What a replica trains on, from the newest checkpoint's cursor on, `train.micro_batch_size` samples at a time."""
    newest = latest_checkpoint(worker.checkpoints_uri)
    start = newest.cursor.next_sample if newest is not None else 0
    size = worker.train.micro_batch_size
    for block in SampleReader(stream).rank_blocks(rank, ranks, start):
        rows = block["sample_index"].size
        assert rows % size == 0, "a block of the stream is whole micro-batches"
        for at in range(0, rows, size):
            yield {name: column[at : at + size] for name, column in block.items()}


def start(argv: list[str]) -> int:
    """`python -m raypt.run.train_over_mpi ...`; when one process fails, all end."""
    try:
        status = run_job("train_over_mpi", "raypt.run.train_over_mpi", __doc__ or "", argv)
    except BaseException:
        traceback.print_exc()
        status = 1
    if status:
        # Without this the others would wait for this one in their next collective for ever.
        sys.stderr.flush()
        mpi.abort(status)
    return status


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
