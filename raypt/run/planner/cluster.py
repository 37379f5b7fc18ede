"""Which machines a plan is for: said, asked of Ray, or sized."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from raypt.errors import UserError
from raypt.ray_session import token_hint
from raypt.run.planner.catalogue import ACCELERATORS, Accelerator, accelerator
from raypt.run.planner.config import ClusterConfig, PlanConfig
from raypt.run.planner.search import Job, Plan, search
from raypt.run.planner.shape import Layout

SIZES = tuple(2**i for i in range(12))
"""Nodes that are tried for a cluster that is to be sized."""


@dataclass(frozen=True)
class Machines:
    """Accelerators of one kind, in nodes."""

    device: Accelerator
    nodes: int
    per_node: int
    how: str
    """Where this comes from, in words."""

    @property
    def devices(self) -> int:
        return self.nodes * self.per_node


RAY_NAMES = {
    "A100-40G": "a100-40", "A100": "a100-80", "A100-80G": "a100-80", "H100": "h100", "H200": "h200", "B200": "b200",
    "L40S": "l40s", "A10G": "a10g",
}  # fmt: skip
"""Ray's `accelerator_type:` resources."""


def live(plan: PlanConfig, *, gpu: bool) -> Machines:
    """The GPUs, or the CPUs, of the Ray cluster that this process can reach."""
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address="auto", ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as e:
            raise UserError(f"plan.cluster=live: no Ray cluster is reached from here: {e}{token_hint()}") from None
    return of_nodes(ray.nodes(), plan, gpu=gpu)


def of_nodes(nodes: list[dict[str, Any]], plan: PlanConfig, *, gpu: bool) -> Machines:
    """The same of Ray's list of nodes; of CPUs, a worker each with its share of the node's memory."""
    alive = [n["Resources"] for n in nodes if n["Alive"]]
    if not gpu:
        found = [n for n in alive if n.get("CPU", 0) >= 1]
        if not found:
            raise UserError("plan.cluster=live: the Ray cluster has no CPUs")
        each = int(min(n["CPU"] for n in found))
        # Ray offers tasks what its object store leaves of a node's memory.
        share = min((n.get("memory", 0.0) + n.get("object_store_memory", 0.0)) / int(n["CPU"]) for n in found)
        return Machines(replace(ACCELERATORS["cpu"], memory_bytes=int(share)), len(found), each, "the live Ray cluster")
    found = [n for n in alive if n.get("GPU")]
    if not found:
        raise UserError(
            "plan.cluster=live: the Ray cluster has no GPUs; say plan.cluster={accelerator: ..., nodes: ...}, or set "
            "train.use_gpu=false to plan for its CPUs"
        )
    kinds = {r.removeprefix("accelerator_type:") for n in found for r in n if r.startswith("accelerator_type:")}
    known = {RAY_NAMES[k] for k in kinds if k in RAY_NAMES}
    if len(known) > 1:
        raise UserError(f"plan.cluster=live: the cluster has several kinds ({', '.join(sorted(known))}): name one")
    device = accelerator(known.pop() if known else plan.accelerator, "plan.accelerator")
    return Machines(device, len(found), int(min(n["GPU"] for n in found)), "the live Ray cluster")


def said(cluster: ClusterConfig) -> Machines:
    return Machines(accelerator(cluster.accelerator), cluster.nodes, cluster.per_node, "plan.cluster")


def of_workers(workers: int, plan: PlanConfig, *, gpu: bool) -> Machines:
    """As many devices as training has workers."""
    device = accelerator(plan.accelerator, "plan.accelerator") if gpu else ACCELERATORS["cpu"]
    per_node = min(workers, device.per_node)
    nodes = -(-workers // per_node)
    return Machines(device, nodes, workers // nodes, "train.workers")


def sized(
    job: Job, plan: PlanConfig, axes: frozenset[str], runs: Callable[[Layout], bool]
) -> tuple[Machines, list[Plan]]:
    """The smallest cluster that is done in `plan.days`, or the fastest that costs no more than `plan.budget`.

    Raises UserError, saying how far the largest that was tried is from it.
    """
    device = accelerator(plan.accelerator, "plan.accelerator")
    tried: list[tuple[Machines, Plan, list[Plan]]] = []
    for nodes in SIZES:
        machines = Machines(device, nodes, device.per_node, "sized")
        found = search(job, machines.devices, device, device.per_node, axes=axes, runs=runs)
        fitting = [p for p in found if p.fits and p.runs]
        if not fitting:
            continue
        if plan.days is not None and fitting[0].days <= plan.days:
            return machines, found
        tried.append((machines, fitting[0], found))
    if not tried:
        smallest = search(job, SIZES[-1] * device.per_node, device, device.per_node, axes=axes, runs=runs)
        why = (
            f": {smallest[0].too_big}" if smallest else ", and train.global_batch_tokens is not a multiple of its work"
        )
        raise UserError(f"plan.accelerator={device.name}: even {SIZES[-1]} nodes of it cannot hold this run{why}")
    if plan.days is not None:
        machines, best, _ = min(tried, key=lambda entry: entry[1].days)
        raise UserError(
            f"plan.days={plan.days:g}: {machines.devices} {device.name} need {best.days:.1f} days, and more do not "
            f"help: {best.days / plan.days:.1f} times too slow. Raise train.global_batch_tokens, or lower train.steps"
        )
    assert plan.budget is not None
    affordable = [entry for entry in tried if (entry[1].cost or 0.0) <= plan.budget]
    if not affordable:
        cheapest = min(entry[1].cost or 0.0 for entry in tried)
        raise UserError(
            f"plan.budget={plan.budget:g}: the cheapest cluster costs {cheapest:,.0f}, {cheapest / plan.budget:.1f} "
            "times as much; lower train.steps, take a smaller model, or another plan.accelerator"
        )
    machines, _, found = min(affordable, key=lambda entry: entry[1].days)
    return machines, found
