"""`bench.py collectives --pairs`: an actor on every node of the cluster, and what is shown of what they find."""

from collections.abc import Mapping, Sequence
from typing import Any

from raypt.bench.collective_table import plain_table
from raypt.bench.pairs import Findings, Link, NodeActor, NodeSpeed, Pair, Route, findings, measure_links
from raypt.errors import UserError


def over_nodes(
    *, nbytes: int, slowed: Mapping[Pair, Route] | None = None
) -> tuple[list[NodeSpeed], dict[Pair, Link], Findings]:
    """Of the cluster that Ray is joined to. Raises UserError where there is one node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ids = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
    if len(ids) < 2:
        raise UserError("--pairs: the cluster has one node; join one with more of them (--address, RAY_ADDRESS)")
    # No CPU is asked for: a node whose CPUs are taken is measured too, and is then seen to be slow.
    actor: Any = ray.remote(num_cpus=0)(NodeActor)
    actors = [
        actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in ids
    ]
    speeds: list[NodeSpeed] = ray.get([a.speed.remote() for a in actors])
    links = measure_links(actors, nbytes=nbytes, slowed=slowed)
    return speeds, links, findings(speeds, links)


def shown(nodes: Sequence[NodeSpeed], links: Mapping[Pair, Link], found: Findings) -> str:
    """Nodes, links from the slowest on (of many, the slowest fifty), and what stands out."""
    lines = [
        plain_table(
            ("node", "name", "matmul GFLOP/s", "memory GB/s"),
            [
                (str(i), n.name, f"{n.matmul_flops / 1e9:.1f}", f"{n.memory_bandwidth / 1e9:.1f}")
                for i, n in enumerate(nodes)
            ],
            left=2,
        ),
        "",
        plain_table(
            ("link", "MB/s", "latency us"),
            [
                (f"{a} - {b}", f"{link.bandwidth / 1e6:,.0f}", f"{1e6 * link.latency_s:,.1f}")
                for (a, b), link in sorted(links.items(), key=lambda entry: entry[1].bandwidth)[:50]
            ],
        ),
        "",
    ]
    lines += [f"slow node {i} ({nodes[i].name}): {why}" for i, why in found.slow_nodes.items()]
    lines += [f"slow link {a} - {b}: {why}" for (a, b), why in found.slow_links.items()]
    if not found.slow_nodes and not found.slow_links:
        lines.append("no node and no link stands out")
    return "\n".join(lines)


def listed(nodes: Sequence[NodeSpeed], links: Mapping[Pair, Link], found: Findings) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "nodes": [
            {"node": i, "name": n.name, "matmul_flops": n.matmul_flops, "memory_bandwidth": n.memory_bandwidth,
             "slow": found.slow_nodes.get(i)}
            for i, n in enumerate(nodes)
        ],
        "links": [
            {"nodes": list(pair), "bandwidth": link.bandwidth, "latency_s": link.latency_s,
             "slow": found.slow_links.get(pair)}
            for pair, link in sorted(links.items())
        ],
    }  # fmt: skip
