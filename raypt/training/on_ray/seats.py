"""On which nodes the workers go, so that those of one matrix are together: of tables of nodes, as Ray has them.

Ray Train packs a group onto few nodes, bundle by bundle, and numbers the ranks by node in the order of the bundles
(`WorkerGroup._sort_workers_by_gpu_id_grouped_by_node`). Where each node holds a multiple of `train.parallel.tensor`
workers, that is the mesh's order. Where one has three places and t = 2, packing puts three there, and the neighbour of
the third on another node. So each bundle says by its label on which node it is to be.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.v2.api.config import ScalingConfig

from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.parallel.tensor.sizes import valid_sizes
from raypt.training.config import TrainConfig

NODE = "ray.io/node-id"
"""Label that Ray gives each node."""


def worker_resources(train: TrainConfig) -> dict[str, float]:
    """That each rank of the train loop reserves."""
    cpus = train.parameter_server.cpus_per_server if train.asynchronous else train.cpus_per_worker
    return {"CPU": cpus} | ({"GPU": 1.0} if train.use_gpu else {})


def together(train: TrainConfig) -> int:
    """Workers that have to be on one node."""
    return 1 if train.parallel.tensor_across_nodes else train.parallel.tensor


def places(have: Mapping[str, float], each: Mapping[str, float]) -> int:
    """Workers that a node's resources hold."""
    return min(int(have.get(name, 0.0) / need + 1e-9) for name, need in each.items())


def selected(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node's labels are those wanted: `v`, `!v`, `in(v, w)`, `!in(v, w)`, as Ray reads them."""
    for key, wanted in selector.items():
        no, listed, value = re.fullmatch(r"(!?)(in\()?(.*?)\)?", wanted.strip()).groups()  # type: ignore[union-attr]
        values = {v.strip() for v in value.split(",")} if listed else {value}
        if (labels.get(key) in values) == bool(no):
            return False
    return True


def by_node(
    nodes: Sequence[Mapping[str, Any]],
    each: Mapping[str, float],
    selector: Mapping[str, str],
    free: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, int]:
    """Places of each live node with the labels, by its id.

    Args:
        nodes: as `ray.nodes()` has them.
        free: what is not reserved of each; None = all that it has is counted.
    """
    found = {}
    for node in nodes:
        if node["Alive"] and selected(node.get("Labels", {}), selector):
            have = node["Resources"] if free is None else free.get(node["NodeID"], {})
            found[node["NodeID"]] = places(have, each)
    return found


def seated(slots: Mapping[str, int], workers: int, group: int) -> list[str] | None:
    """The node of each of `workers`, by rank: on each node a multiple of `group`, on as few nodes as there can be; None
    if they do not fit so.
    """
    out: list[str] = []
    for node, count in sorted(slots.items(), key=lambda item: -item[1]):
        out += [node] * min(count - count % group, workers - len(out))
    return out if len(out) == workers else None


def check_seats(
    train: TrainConfig,
    workers: Sequence[int],
    model: ModelConfig,
    nodes: Sequence[Mapping[str, Any]],
    *,
    autoscaling: bool,
) -> None:
    """Raises UserError where the workers of a matrix cannot be on one node each time, with the sizes that can.

    Args:
        workers: numbers of them that the run may have.
        nodes: as `ray.nodes()` has them.
        autoscaling: others may come, of which nothing is known: nothing is refused.
    """
    group = together(train)
    if group == 1 or autoscaling:
        return
    slots = by_node(nodes, worker_resources(train), train.labels)
    if any(seated(slots, n, group) is not None for n in workers):
        return
    counts = sorted(slots.values(), reverse=True)
    each = ", ".join(f"{count:g} {name}" for name, count in worker_resources(train).items())
    labels = f" with train.labels={train.labels}" if train.labels else ""
    shown = ", ".join(map(str, counts[:8])) + (", ..." if len(counts) > 8 else "")
    at = f"train.parallel.tensor={train.parallel.tensor}"
    across = "or set train.parallel.tensor_across_nodes=true (they would exchange activations in every layer)"
    least = workers[0]
    sizes = [t for t in valid_sizes(model) if t < group and least % t == 0 and seated(slots, least, t) is not None]
    smaller = f"lower it to {' or '.join(map(str, sizes))}, " if sizes else ""
    if not counts or counts[0] < group:
        raise UserError(
            f"{at}: the workers of a matrix must be on one node, but the nodes{labels} hold {shown or 'none'} workers "
            f"of {each} each; {smaller}lower train.cpus_per_worker, add larger nodes, {across}"
        )
    room = sum(count - count % group for count in counts)
    raise UserError(
        f"{at} with train.workers={train.workers}: the nodes{labels} hold {shown} workers of {each} each, so {room} "
        f"workers where those of a matrix are on one node; {smaller}lower train.workers, add nodes, {across}"
    )


@dataclass
class Seated(ScalingConfig):
    """Ray Train's, whose bundles say on which nodes they go, found anew at each start of the workers: on what is free
    if they fit there, else on what there is, once it is free. Where they do not fit at all today, Ray may wait.
    """

    group: int = 1
    """Workers that have to be on one node."""

    def _label_selector_per_worker(self, num_workers: int) -> list[dict[str, str]] | None:
        plain: list[dict[str, str]] | None = super()._label_selector_per_worker(num_workers)
        if self.group == 1:
            return plain
        assert self.label_selector is None or isinstance(self.label_selector, dict)
        selector = self.label_selector or {}
        each, nodes = self._resources_per_worker_not_none, ray.nodes()
        free = ray._private.state.available_resources_per_node()
        found = seated(by_node(nodes, each, selector, free), num_workers, self.group)
        found = found or seated(by_node(nodes, each, selector), num_workers, self.group)
        if found is None:
            return plain
        return [{**selector, NODE: node} for node in found]
