"""What the ranks of local SGD's tests do, in one launch."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from raypt.parallel import comm
from raypt.parallel.config import LocalSgdConfig
from raypt.parallel.initial_state import InitialState
from raypt.parallel.local_sgd.engine import LocalSgdEngine
from raypt.parallel.mesh import Mesh
from raypt.training.optim.optimizer import build_optimizer
from tests.parallel import cases
from tests.parallel.server.cases import replica, resume, save, train, weights, zero_engine

EVERY = 50
MOVING = ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "broadcast")


def plain_sgd(held: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for _, p in held.named_parameters()], lr=0.1)


def adamw(held: Any) -> torch.optim.Optimizer:
    return build_optimizer(held, cases.OPTIMIZER)


def engine_for(
    optimizer: Callable[[Any], torch.optim.Optimizer], clip_norm: float | None = 0.5, **config: Any
) -> LocalSgdEngine:
    engine = LocalSgdEngine(
        replica(),
        topology=Mesh.of_data_ranks().topology,
        config=LocalSgdConfig(**config),
        optimizer=optimizer,
        clip_norm=clip_norm,
    )
    engine.restore(InitialState(cases.MODEL, 0))
    return engine


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """Bytes of the tensors that this process hands to torch.distributed's collectives."""
    count, before = [0], {name: getattr(dist, name) for name in MOVING}

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            count[0] += max(a.numel() * a.element_size() for a in args if torch.is_tensor(a))
            return function(*args, **kwargs)

        return call

    for name, function in before.items():
        setattr(dist, name, counting(function))
    try:
        yield count
    finally:
        for name, function in before.items():
            setattr(dist, name, function)


def everything(checkpoints: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    comm.init_process_group(use_gpu=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan, out = cases.plan_for(world), {}
    engine = engine_for(plain_sgd, None, every_steps=1, outer_lr=1.0, outer_momentum=0.0)
    train(engine, plan, rank, 0, 8)
    out["sgd"] = weights(engine)

    zero = zero_engine(plan)
    with counted_bytes() as count:
        out["zero"] = train(zero, plan, rank, 0, EVERY)
    out["zero-bytes"] = count[0]
    engine = engine_for(adamw, every_steps=EVERY)
    out["first"] = weights(engine)
    with counted_bytes() as count:
        out["local"] = train(engine, plan, rank, 0, EVERY)
    out["said-bytes"], out["parameters"] = engine.timing.sent_bytes, engine.whole.numel
    out["local-bytes"], out["met"] = count[0], weights(engine)

    engine = engine_for(adamw, every_steps=EVERY, outer_bits=4)
    out["four"] = train(engine, plan, rank, 0, EVERY)
    out["four-bytes"], out["four-met"] = engine.timing.sent_bytes, weights(engine)

    engine = engine_for(adamw, every_steps=10, fragments=2, delay_steps=3, delay_mix=0.5)
    out["delayed"] = train(engine, plan, rank, 0, EVERY)
    out["delayed-apart"] = weights(engine)
    engine.shard()
    out["delayed-met"] = weights(engine)
    # All is on its way at the last step: nobody trains on meanwhile, so nobody keeps a share.
    for name, delay in (("late", 3), ("at-once", 0)):
        engine = engine_for(adamw, every_steps=10, fragments=1, delay_steps=delay)
        train(engine, plan, rank, 0, 10)
        engine.shard()
        out[name] = weights(engine)
    # The outer step that comes three steps late, from its definition.
    engine = engine_for(plain_sgd, None, every_steps=4, delay_steps=3, delay_mix=0.25)
    train(engine, plan, rank, 0, 7)
    out["mixed"] = weights(engine)
    alone = engine_for(plain_sgd, None, every_steps=4, delay_steps=3, delay_mix=0.0)
    train(alone, plan, rank, 0, 7)
    out["unmixed"] = weights(alone)
    never = engine_for(plain_sgd, None, every_steps=100)
    train(never, plan, rank, 0, 7)
    out["own"] = weights(never)

    config = {"every_steps": 4, "fragments": 2, "outer_lr": 0.7, "outer_momentum": 0.9}
    engine = engine_for(adamw, **config)
    train(engine, plan, rank, 0, 8)
    save(engine, checkpoints, rank, world)
    out["saved"] = weights(engine)
    out["on"] = train(engine, plan, rank, 8, 14)
    again = engine_for(adamw, **config)
    resume(again, checkpoints)
    out["again"] = train(again, plan, rank, 8, 14)
    moved = zero_engine(plan, stage=1)
    resume(moved, checkpoints)
    out["moved"] = weights(moved)
    out["moved-states"] = sorted({key.state for key in moved.shard().tensors})
    train(moved, plan, rank, 8, 9)
    return out


def data_parallel_sgd(steps: int) -> list[float]:
    """The same steps in one process, by plain SGD on the whole batch."""
    from raypt.model import Llama

    model = Llama(cases.MODEL).initialise(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        batches = cases.step_batches(cases.plan_for(1), 0, step)
        tokens = sum(m.tokens for m in batches)
        optimizer.zero_grad()
        for m in batches:
            (model(m.tokens_BS, m.segments_BS, targets=m.targets())[0] / tokens).backward()
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).tolist()
