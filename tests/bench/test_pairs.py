"""Pairs of nodes: each is measured once in each direction, and the slow one is named."""

import itertools
import json
import socket
import threading
from functools import partial

import pytest

from raypt.bench.pairs import Link, NodeSpeed, _serve, findings, probe, rounds, slow
from raypt.bench.pairs_job import listed, over_nodes, shown
from tests.bench.token_bucket import slowed

RATE = 20e6
"""Bytes a second of the slowed link; loopback moves hundreds of MB/s on a busy machine."""


def _nodes(count: int) -> list[NodeSpeed]:
    return [NodeSpeed(f"n{i}", 1e11 * (1 + 0.01 * i), 1e10) for i in range(count)]


def _links(count: int) -> dict[tuple[int, int], Link]:
    pairs = itertools.combinations(range(count), 2)
    return {pair: Link(1e9 * (1 + 0.02 * (i % 3)), 3e-5 * (1 + 0.02 * (i % 4))) for i, pair in enumerate(pairs)}


@pytest.mark.fast
@pytest.mark.parametrize("nodes", [2, 3, 4, 7, 64])
def test_every_pair_meets_once_and_no_node_is_in_two_pairs_at_a_time(nodes: int) -> None:
    met = list(rounds(nodes))
    assert len(met) == nodes - 1 + nodes % 2
    assert sorted(pair for pairs in met for pair in pairs) == list(itertools.combinations(range(nodes), 2))
    for pairs in met:
        assert len({node for pair in pairs for node in pair}) == 2 * len(pairs)


@pytest.mark.fast
def test_alike_means_nobody_is_named() -> None:
    found = findings(_nodes(8), _links(8))
    assert not found.slow_links and not found.slow_nodes
    assert slow([1.0, 0.1]) == [False, False]  # of two, nobody knows which is the odd one
    assert slow([1.0, 0.9, 1.1, 0.2]) == [False, False, False, True]
    assert slow([1.0, 0.7, 1.4, 0.8, 0.02]) == [False, False, False, False, True]  # they scatter, and one is far off


@pytest.mark.fast
@pytest.mark.parametrize(("of", "value"), [("bandwidth", Link(3e8, 3e-5)), ("latency", Link(1e9, 3e-4))])
def test_a_slow_link_is_named_and_its_nodes_are_not(of: str, value: Link) -> None:
    found = findings(_nodes(8), _links(8) | {(2, 5): value})
    assert list(found.slow_links) == [(2, 5)] and of in found.slow_links[2, 5]
    assert not found.slow_nodes


@pytest.mark.fast
def test_a_node_whose_links_are_all_slow_is_named_and_they_are_not() -> None:
    links = {pair: Link(3e8, 3e-5) if 3 in pair else link for pair, link in _links(8).items()}
    found = findings(_nodes(8), links)
    assert list(found.slow_nodes) == [3] and "links at 3" in found.slow_nodes[3]
    assert not found.slow_links


@pytest.mark.fast
def test_a_node_with_slow_products_or_memory_is_named() -> None:
    nodes = _nodes(8)
    nodes[1], nodes[6] = NodeSpeed("n1", 4e10, 1e10), NodeSpeed("n6", 1e11, 2e9)
    found = findings(nodes, _links(8))
    assert "matrix products" in found.slow_nodes[1] and "memory" in found.slow_nodes[6]
    assert len(found.slow_nodes) == 2


@pytest.mark.fast
def test_a_token_bucket_in_the_path_is_what_is_measured() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    address = server.getsockname()
    link = probe(slowed(address, RATE), 1 << 21)
    # The bucket's burst, 64 KiB of 2 MiB, passes at once: 3 %; a busy machine can only be slower than the bucket.
    assert 0.5 * RATE < link.bandwidth < 1.05 * RATE
    assert probe(address, 1 << 21).bandwidth > 2 * RATE


@pytest.mark.ray
def test_the_link_with_a_token_bucket_in_its_path_is_the_one_named() -> None:
    """Four raylets on this machine. All links pass buckets, those of the others four times as wide: without one they
    have what their processes get of the cores, some twice as much as others.
    """
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes()
        routes = {pair: partial(slowed, rate=4 * RATE) for pair in itertools.combinations(range(4), 2)}
        routes[0, 2] = partial(slowed, rate=RATE)
        nodes, links, found = over_nodes(nbytes=1 << 22, slowed=routes)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(nodes) == 4 and len(links) == 6
    by_bandwidth = [pair for pair, why in found.slow_links.items() if "bandwidth" in why]
    assert by_bandwidth == [(0, 2)], shown(nodes, links, found)
    assert min(links, key=lambda pair: links[pair].bandwidth) == (0, 2)
    assert "slow link 0 - 2: bandwidth is" in shown(nodes, links, found)
    as_json = json.loads(json.dumps(listed(nodes, links, found)))
    assert [0, 2] in [entry["nodes"] for entry in as_json["links"] if entry["slow"]]
