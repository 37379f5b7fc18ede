"""Do the numbers of workers, of the mesh, of the model and of the batch go together: before any data is read."""

from math import lcm

from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.parallel.config import ParallelConfig
from raypt.parallel.context import layout as context_layout
from raypt.parallel.tensor.sizes import valid_sizes
from raypt.parallel.topology import Topology
from raypt.parallel.zero.exact import tree
from raypt.training.batch_plan import valid_data_sizes
from raypt.training.config import TrainConfig

KEY = "train.parallel"


def check_workers(train: TrainConfig, sequence_length: int) -> list[int]:
    """The numbers of workers in the configured range that divide the global batch; none is a UserError."""
    low, high = train.worker_range
    replica = train.parallel.replica
    replicas = valid_data_sizes(train.global_batch_tokens, sequence_length, train.micro_batch_size)
    evenly = "evenly"
    blocks = replicas[-1]
    if train.reduction == "exact":
        replicas, evenly = tree.valid_sizes(blocks), "evenly and add up in one order (train.reduction=exact)"
    sizes = [n * replica for n in replicas]
    fitting = [n for n in sizes if low <= n <= high]
    if not fitting:
        each = f", and {KEY} cuts a model over {replica} workers" if replica > 1 else ""
        raise UserError(
            f"train.workers={train.workers}: the global batch is {blocks} micro-batches{each}, which only "
            f"{_listed(sizes)} workers share {evenly}"
        )
    if low < high and len(fitting) == 1:
        raise UserError(
            f"train.workers={[low, high]}: of these numbers of workers only {fitting[0]} shares the global batch of "
            f"{blocks} micro-batches {evenly}, so the run could never change it; {_listed(sizes)} do"
        )
    return fitting


def group_sizes(train: TrainConfig, sizes: list[int]) -> list[int]:
    """How many ranks the train loop runs on, for those numbers of workers: asynchronous workers are led by one."""
    return [1] if train.asynchronous else sizes


def check_mesh(model: ModelConfig, train: TrainConfig, sequence_length: int) -> None:
    """Raises UserError for sizes that the model or the samples cannot be cut by, with those that they can."""
    parallel = train.parallel
    if train.compile and parallel.pipeline * parallel.context > 1:
        raise UserError(
            f"train.compile=true with {KEY}.pipeline={parallel.pipeline} and {KEY}.context={parallel.context} is "
            f"untried; leave it false, or cut by {KEY}.tensor alone"
        )
    _check_tensor(model, parallel, sequence_length)
    _check_context(model, parallel, sequence_length)
    _check_pipeline(model, train, sequence_length)
    _check_virtual_stages(model, train, sequence_length)
    _check_stages(model, parallel)


def _check_tensor(model: ModelConfig, parallel: ParallelConfig, sequence_length: int) -> None:
    tensor = parallel.tensor
    if tensor == 1:
        return
    if tensor not in (sizes := valid_sizes(model)):
        raise UserError(
            f"{KEY}.tensor={tensor}: {model.num_heads} query heads and {model.num_kv_heads} key/value heads can be cut "
            f"over {_listed(sizes)} workers; take one of these, or other model.num_heads and model.num_kv_heads"
        )
    if parallel.sequence_parallel and sequence_length % tensor:
        fitting = [t for t in sizes if sequence_length % t == 0]
        raise UserError(
            f"{KEY}.tensor={tensor}: tokens.packing.sequence_length={sequence_length} is not a multiple of it, as "
            f"{KEY}.sequence_parallel needs; tensor may be {_listed(fitting)}, or set sequence_parallel=false"
        )


def _check_context(model: ModelConfig, parallel: ParallelConfig, sequence_length: int) -> None:
    context, tensor = parallel.context, parallel.tensor
    if context == 1:
        return
    sizes = context_layout.valid_sizes(model, tensor)
    each = f", of which each of {KEY}.tensor={tensor} has its share," if tensor > 1 else ""
    if context not in sizes:
        raise UserError(
            f"{KEY}.context={context}: {model.num_heads} query heads and {model.num_kv_heads} key/value heads{each} can"
            f" be exchanged between {_listed(sizes)} workers; take one of these, or other model.num_heads and "
            "model.num_kv_heads"
        )
    inner = tensor if parallel.sequence_parallel else 1
    if sequence_length % (context * inner):
        fitting = [c for c in sizes if sequence_length % (c * inner) == 0]
        needs = f"context x tensor = {context * inner}" if inner > 1 else "it"
        raise UserError(
            f"{KEY}.context={context}: tokens.packing.sequence_length={sequence_length} is not a multiple of {needs}; "
            + (f"context may be {_listed(fitting)}" if fitting else f"no context fits {KEY}.tensor={tensor} either")
        )


def _check_pipeline(model: ModelConfig, train: TrainConfig, sequence_length: int) -> None:
    stages = train.parallel.pipeline
    if stages == 1:
        return
    at = f"{KEY}.pipeline={stages}"
    if stages > model.num_layers:
        raise UserError(
            f"{at}: the model has {model.num_layers} layers, of which each worker needs one at least; "
            f"{_other_pipelines(model, train, sequence_length)}"
        )
    if model.tie_embeddings:
        raise UserError(
            f"{at}: the embedding, before the first layer, is also the output layer, after the last: one parameter on "
            "two workers; set model.tie_embeddings=false"
        )
    if train.zero.stage > 1:
        raise UserError(
            f"{at} with train.zero.stage={train.zero.stage}: ZeRO 2 and 3 cut up what the next micro-batch in the "
            "pipeline still uses; take train.zero.stage 0 or 1"
        )
    if train.optimizer.kind == "muon":
        raise UserError(f"{at} with train.optimizer.kind=muon is untried; take adamw or lion")


def _check_virtual_stages(model: ModelConfig, train: TrainConfig, sequence_length: int) -> None:
    parallel = train.parallel
    stages, parts = parallel.pipeline, parallel.parts
    if stages == 1 or parts == 1:
        return
    at = f"{KEY}.schedule={parallel.schedule} with {stages} workers of {parts} parts each"
    if stages * parts > model.num_layers:
        most = model.num_layers // stages
        raise UserError(
            f"{at}: the model has {model.num_layers} layers, of which each part needs one at least; "
            f"{_other_pipelines(model, train, sequence_length)}, or {KEY}.virtual_stages at most {most}"
            + (", with 1f1b or zero_bubble" if most == 1 else "")
        )
    workers = check_workers(train, sequence_length)
    for n, each in zip(workers, _micro_batches(train, workers, sequence_length), strict=True):
        if each % stages:
            sizes = valid_data_sizes(train.global_batch_tokens, sequence_length, train.micro_batch_size)
            whole = [parallel.replica * size for size in sizes if sizes[-1] // size % stages == 0]
            unit = train.micro_batch_size * sequence_length * stages * lcm(*(w // parallel.replica for w in workers))
            lower = train.global_batch_tokens // unit * unit
            batches = [str(tokens) for tokens in (lower, lower + unit) if tokens]
            raise UserError(
                f"{at}: with train.workers={n} a replica's step is {each} micro-batches, which must be a multiple of "
                f"{KEY}.pipeline={stages}; "
                + (f"train.workers may be {_listed(whole)}, or " if whole else "")
                + f"train.global_batch_tokens the nearest {' or '.join(batches)}; or take 1f1b or zero_bubble with one "
                "part a worker"
            )


def _micro_batches(train: TrainConfig, workers: list[int], sequence_length: int) -> list[int]:
    """Of a replica's step, for each number of workers."""
    blocks = train.global_batch_tokens // (sequence_length * train.micro_batch_size)
    return [blocks * train.parallel.replica // n for n in workers]


def _other_pipelines(model: ModelConfig, train: TrainConfig, sequence_length: int) -> str:
    """The numbers of stages that the layers, the workers and the batch allow, all else as it is."""
    parts, fitting = train.parallel.parts, []
    for stages in range(1, model.num_layers + 1):
        other = train.model_copy(update={"parallel": train.parallel.model_copy(update={"pipeline": stages})})
        try:
            workers = check_workers(other, sequence_length)
        except UserError:
            continue
        alone = stages == 1 or parts == 1
        whole = all(each % stages == 0 for each in _micro_batches(other, workers, sequence_length))
        if alone or (stages * parts <= model.num_layers and whole):
            fitting.append(stages)
    if not fitting:
        return f"no {KEY}.pipeline fits train.workers={train.workers} either"
    return f"{KEY}.pipeline may be {_listed(fitting)}"


def _check_stages(model: ModelConfig, parallel: ParallelConfig) -> None:
    stages, parts = parallel.stages, parallel.pipeline * parallel.parts
    if stages is None:
        return
    at = f"{KEY}.stages={list(stages)}"
    if parallel.pipeline == 1:
        raise UserError(f"{at} is for {KEY}.pipeline > 1; leave it out")
    if len(stages) != parts:
        raise UserError(
            f"{at}: {parallel.pipeline} workers with {parallel.parts} each have {parts} parts; name the layers of each"
        )
    if sum(stages) != model.num_layers:
        raise UserError(f"{at} is {sum(stages)} layers, and the model has {model.num_layers}")
    if min(stages[:-1]) < 1 or stages[-1] < 0:
        raise UserError(f"{at}: every part needs a layer, but for the last, which may be the output layer alone")


def topology(train: TrainConfig, rank: int, world: int) -> Topology:
    """The place of a rank among `world` of them."""
    parallel = train.parallel
    return Topology(
        rank,
        data_size=world // parallel.replica,
        pipeline_size=parallel.pipeline,
        context_size=parallel.context,
        tensor_size=parallel.tensor,
    )


def readers(train: TrainConfig, world: int) -> list[int | None]:
    """For each rank, the replica whose samples it reads from the stream; None for those that another rank of their
    replica gives them.
    """
    places = (topology(train, rank, world) for rank in range(world))
    return [place.data_rank if place.leads_replica else None for place in places]


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))
