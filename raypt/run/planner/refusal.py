"""What cannot fit is refused before any data is read."""

import logging
from typing import Any

from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.planner.answer import describe, model_of, own_layout
from raypt.run.planner.catalogue import ACCELERATORS
from raypt.run.planner.cluster import RAY_NAMES
from raypt.run.planner.memory import memory
from raypt.run.planner.shape import Shape

log = logging.getLogger("raypt")


def capacity(nodes: list[dict[str, Any]], *, gpu: bool) -> dict[str, float]:
    """What there is, from Ray's nodes: `device`, bytes of the largest GPU of a known kind (absent: not known), or
    `all`, bytes of memory of all nodes together."""
    resources = [n["Resources"] for n in nodes if n["Alive"]]
    if not gpu:
        # Ray offers tasks what its object store leaves of a node's memory.
        return {"all": sum(r.get("memory", 0.0) + r.get("object_store_memory", 0.0) for r in resources)}
    kinds = [r.removeprefix("accelerator_type:") for n in resources if n.get("GPU") for r in n]
    known = [ACCELERATORS[RAY_NAMES[k]].memory_bytes for k in kinds if k in RAY_NAMES]
    return {"device": float(max(known))} if known else {}


def refuse_what_cannot_fit(config: RunConfig, workers: int, nodes: list[dict[str, Any]]) -> None:
    """Raises UserError, with the parts of its memory, if the layout of the configuration needs more than there is.

    Margins are left out: what is refused surely does not fit. Devices of an unknown kind are not judged.
    """
    gpu = config.train.use_gpu
    if config.ray.autoscaling:
        return
    if config.train.strategy != "collective":
        log.info("memory: the planner knows train.strategy=collective, so nothing is said of %s", config.train.strategy)
        return
    have = capacity(nodes, gpu=gpu)
    if not have:
        log.info("memory: the cluster's kind of GPU is not in the planner's catalogue, so nothing is said of it")
        return
    shape = Shape.of(model_of(config, least=True))
    layout = own_layout(config, workers, gpu=gpu)
    need = memory(shape, layout, gpu=gpu)
    each = need.total - need.margin
    wanted, limit = (each, have["device"]) if gpu else (each * workers, have["all"])
    log.info("memory: a worker needs about %.3g GB (%s)", each / 1e9, describe(layout))
    if wanted <= limit:
        return
    parts = ", ".join(f"{name} {n / 1e9:.3g}" for name, n in need.to_json().items() if name not in ("total", "margin"))
    where = "a GPU has" if gpu else f"{workers} workers together; the cluster has"
    raise UserError(
        f"train: this run does not fit its devices. A worker needs {each / 1e9:.3g} GB ({parts}; {describe(layout)}), "
        f"{wanted / 1e9:.3g} GB for {where} {limit / 1e9:.3g} GB. Most of it is {need.largest}: raise train.zero.stage "
        "or train.activation_checkpointing, lower train.micro_batch_size, or add workers; `raypt plan` shows what fits"
    )
