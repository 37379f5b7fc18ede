"""Training whose bits must not depend on the ranks.

    python -m tests.parallel.zero.exact.cases

trains every stage on 1, 2 and 4 ranks in fp32 and bf16, and an elastic run; the tests run some of them.
"""

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raypt.model import Llama
from raypt.parallel.state import MASTER
from raypt.training.optim.optimizer import build_optimizer
from tests.parallel import cases, meshes
from tests.parallel.ranks import run_ranks

HERE = "tests.parallel.zero.exact.cases"
"""What the ranks import."""
STEPS = 6
STAGES = (0, 1, 2, 3)


def engine_for(stage: int, precision: str = "fp32", model: str = "gqa", *, exact: bool = True) -> Any:
    """With the first weights, every rank a replica; 8 micro-batches a step over all ranks."""
    from raypt.parallel import comm
    from raypt.parallel.config import ZeroConfig
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.zero.engine import ZeroEngine

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    plan = meshes.plan_for(dist.get_world_size())
    engine = ZeroEngine(
        lambda: Llama(meshes.MODELS[model]),
        mesh=Mesh.of_data_ranks(),
        optimizer=lambda m: build_optimizer(m, meshes.OPTIMIZERS["groups"]),
        zero=ZeroConfig.model_validate({"stage": stage}),
        precision=precision,
        clip_norm=cases.OPTIMIZER.clip_norm,
        micro_batch_size=plan.micro_batch_size,
        accumulation=plan.accumulation,
        device=device,
        z_loss=meshes.Z_LOSS,
        loss_chunk_tokens=24,
        exact=exact,
    )
    engine.restore(InitialState(meshes.MODELS[model], 0))
    return engine


def steps(engine: Any, first: int, last: int) -> list[list[float]]:
    """Loss and norm of each, as they are to the bit."""
    plan, out = meshes.plan_for(dist.get_world_size()), []
    for step in range(first, last):
        loss = engine.forward_backward(meshes.batches(plan, engine.topology.data_rank, step))
        out.append([loss.loss, engine.step(1.0).grad_norm])
    return out


def digest(engine: Any, model: str) -> str:
    """Of the whole state, wherever its parts are."""
    from raypt.parallel import comm

    shapes = dict(Llama(meshes.MODELS[model]).named_parameters())
    parts = comm.gather_objects([(k, v.numpy().copy()) for k, v in engine.shard().tensors.items()])
    states = sorted({key.state for part in parts for key, _ in part})
    assert MASTER in states and len(states) == 3
    sha = hashlib.sha256()
    for state in states:
        wholes = {name: torch.full(p.shape, float("nan")) for name, p in shapes.items()}
        for key, value in (item for part in parts for item in part):
            if key.state == state:
                at = tuple(slice(o, o + n) for o, n in zip(*key.box, strict=True))
                wholes[key.name][at] = torch.from_numpy(value)
        assert not any(whole.isnan().any() for whole in wholes.values())
        for name in sorted(wholes):
            sha.update(wholes[name].numpy().tobytes())
    return sha.hexdigest()


def train(stages: list[int], precision: str, model: str, exact: bool = True) -> list[dict[str, Any]]:
    """Of each stage: figures and state after `STEPS`."""
    out = []
    for stage in stages:
        engine = engine_for(stage, precision, model, exact=exact)
        rows = steps(engine, 0, STEPS)
        out.append({"rows": rows, "state": digest(engine, model)})
    return out


def everything(stages: list[int], path: str, last: int) -> dict[str, Any]:
    """`train`, then steps up to `last` from the checkpoint under `path` if there is one, and a checkpoint of them."""
    out: dict[str, Any] = {"trained": train(stages, "fp32", "gqa")}
    out["part"] = part(stages[-1], path, last)
    if dist.get_world_size() <= 2:
        out["bf16"] = train([1], "bf16", "untied")
    return out


def part(stage: int, path: str, last: int) -> dict[str, Any]:
    """A part of an elastic run."""
    from raypt.parallel import comm
    from raypt.training.checkpoint.directory import latest_checkpoint
    from raypt.training.checkpoint.reader import CheckpointReader

    engine, first = engine_for(stage), 0
    if (info := latest_checkpoint(path)) is not None:
        engine.restore(CheckpointReader(info))
        first = info.progress.step
    comm.barrier()
    rows = steps(engine, first, last)
    meshes.saved(engine, path, last)
    return {"rows": rows, "state": digest(engine, "gqa")}


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        for precision in ("fp32", "bf16"):
            for model in ("gqa", "untied"):
                arguments = {"stages": list(STAGES), "precision": precision, "model": model}
                found = {w: run_ranks(w, HERE, "train", Path(tmp), **arguments) for w in (1, 2, 4)}
                want = found[1][0][0]
                for world, ranks in found.items():
                    for i, stage in enumerate(STAGES):
                        same = all(rank[i] == want for rank in ranks)
                        failed += not same
                        what = f"{precision} {model} dp{world} zero{stage}"
                        print(f"{what}: {'the same bits' if same else 'OTHER BITS'}, loss {want['rows'][-1][0]:.6f}")
        for at, (world, stage) in enumerate([(4, 1), (2, 3), (1, 0), (4, 2)]):
            last = [2, 3, 4, STEPS][at]
            got = run_ranks(world, HERE, "part", Path(tmp), stage=stage, path=str(Path(tmp) / "elastic"), last=last)
        found = run_ranks(2, HERE, "train", Path(tmp), stages=[1], precision="fp32", model="gqa")
        same = got[0]["state"] == found[0][0]["state"]
        failed += not same
        print(f"elastic 4, 2, 1, 4 ranks under ZeRO 1, 3, 0, 2: {'the same bits' if same else 'OTHER BITS'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
