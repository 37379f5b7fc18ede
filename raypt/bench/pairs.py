"""Every pair of nodes, and every node: what is slower than its like, before a long run finds out.

A process on each node sends to one of each other node over TCP, as gloo does (what NCCL does over InfiniBand or NVLink
is not told by this). n nodes meet in n - 1 rounds, each node with one other at a time, in both directions: 64 nodes
with 64 MiB a message and 10 Gb/s links take some minutes and 64 KiB of results.
"""

import contextlib
import math
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raypt.training.peak import matmul_flops

Address = tuple[str, int]
Pair = tuple[int, int]
Route = Callable[[Address], Address]
"""From a node's own address to that of something in between."""
DEVIATIONS = 3.5
"""An outlier is so many deviations below the median (Iglewicz and Hoaglin 1993), where 1.4826 times the median absolute
deviation is taken for the standard deviation."""
LEAST_SHARE = 2 / 3
"""And no faster than this share of the median: of links that are all alike, some are always a few deviations away."""
_CHUNK = 1 << 20
_PINGS, _REPEATS = 50, 5


@dataclass(frozen=True)
class Link:
    """Between two nodes, the worse of the two directions."""

    bandwidth: float
    """Bytes a second, the best of some messages."""
    latency_s: float
    """Half a round trip, the median of some."""


@dataclass(frozen=True)
class NodeSpeed:
    """What one process on a node reaches."""

    name: str
    matmul_flops: float
    memory_bandwidth: float
    """Bytes a second that copying reads and writes."""


@dataclass(frozen=True)
class Findings:
    """What stands out."""

    slow_links: dict[Pair, str]
    """With what is slow about it. A link of a slow node is not named beside it."""
    slow_nodes: dict[int, str]


class NodeActor:
    """On one node: answers other nodes, and asks them."""

    def listen(self) -> Address:
        """Answer for as long as this process lives."""
        import ray.util

        address = ray.util.get_node_ip_address()
        server = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        return address, server.getsockname()[1]

    def name(self) -> str:
        return socket.gethostname()

    def probe(self, to: Address, nbytes: int) -> Link:
        return probe(to, nbytes)

    def speed(self) -> NodeSpeed:
        torch.set_num_threads(1)
        source = torch.ones(1 << 26, dtype=torch.uint8)  # beyond any cache
        target = torch.empty_like(source)
        best = float("inf")
        for _ in range(_REPEATS):
            started = time.perf_counter()
            target.copy_(source)
            best = min(best, time.perf_counter() - started)
        return NodeSpeed(self.name(), matmul_flops(torch.device("cpu"), "fp32"), 2 * source.numel() / best)


def probe(to: Address, nbytes: int) -> Link:
    """Latency and bandwidth from this process to one that `_serve`s."""
    with socket.create_connection(to, timeout=60.0) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(_PINGS):
            started = time.perf_counter()
            _send(link, b"x")
            trips.append(time.perf_counter() - started)
        payload = bytes(nbytes)
        seconds = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            _send(link, payload)
            seconds.append(time.perf_counter() - started)
    return Link(nbytes / min(seconds), statistics.median(trips) / 2)


def _send(link: socket.socket, payload: bytes) -> None:
    """A message, and the answer that all of it has come."""
    link.sendall(len(payload).to_bytes(8, "big"))
    link.sendall(payload)
    if link.recv(1) != b"k":
        raise ConnectionError("the other node closed the connection")


def _serve(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    with connection, contextlib.suppress(ConnectionError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head := connection.recv(8, socket.MSG_WAITALL):
            left = int.from_bytes(head, "big")
            while left:
                got = connection.recv_into(buffer, min(left, _CHUNK))
                if not got:
                    return
                left -= got
            connection.sendall(b"k")


def rounds(nodes: int) -> Iterator[list[Pair]]:
    """Every pair once, each node in at most one pair of a round (the circle method of tournaments)."""
    places: list[int | None] = [*range(nodes), *([None] if nodes % 2 else [])]
    for _ in range(len(places) - 1):
        half = len(places) // 2
        met = zip(places[:half], reversed(places[half:]), strict=True)
        yield [(min(a, b), max(a, b)) for a, b in met if a is not None and b is not None]
        places = [places[0], places[-1], *places[1:-1]]


def measure_links(
    actors: Sequence[Any], *, nbytes: int, slowed: Mapping[Pair, Route] | None = None
) -> dict[Pair, Link]:
    """Every pair's link, lower number first; `actors` are Ray's handles of `NodeActor`. `slowed`: what the first of a
    pair sends to the second goes another way.
    """
    import ray

    slowed = slowed or {}
    addresses: list[Address] = ray.get([a.listen.remote() for a in actors])
    found: dict[Pair, Link] = {}
    for pairs in rounds(len(actors)):
        for ways in (pairs, [(b, a) for a, b in pairs]):
            to = [slowed[way](addresses[way[1]]) if way in slowed else addresses[way[1]] for way in ways]
            links = [actors[a].probe.remote(at, nbytes) for (a, _), at in zip(ways, to, strict=True)]
            for (a, b), link in zip(ways, ray.get(links), strict=True):
                pair = min(a, b), max(a, b)
                known = found.get(pair, link)
                found[pair] = Link(min(known.bandwidth, link.bandwidth), max(known.latency_s, link.latency_s))
    return found


def slow(values: Sequence[float]) -> list[bool]:
    """Which speeds are outliers below the others; none of fewer than three. Deviations are those of the logarithms:
    where speeds scatter by a fifth and more, 3.5 deviations below the median itself would be below zero.
    """
    if len(values) < 3:
        return [False] * len(values)
    logs = [math.log(v) for v in values]
    median = statistics.median(logs)
    deviation = 1.4826 * statistics.median(abs(v - median) for v in logs)
    limit = median - max(DEVIATIONS * deviation, -math.log(LEAST_SHARE))
    return [v < limit for v in logs]


def findings(nodes: Sequence[NodeSpeed], links: Mapping[Pair, Link]) -> Findings:
    """What is slow: a node by its products, its memory, or more than half of its links; a link by itself."""
    slow_nodes: dict[int, list[str]] = {}

    def note(what: str, values: Sequence[float]) -> None:
        for node, is_slow in enumerate(slow(values)):
            if is_slow:
                share = values[node] / statistics.median(values)
                slow_nodes.setdefault(node, []).append(f"{what} at {100 * share:.0f} % of the median")

    note("matrix products", [n.matmul_flops for n in nodes])
    note("memory", [n.memory_bandwidth for n in nodes])
    if len(nodes) > 2:
        of_node = [[link for pair, link in links.items() if node in pair] for node in range(len(nodes))]
        note("links", [statistics.median_high([link.bandwidth for link in own]) for own in of_node])
    slow_links: dict[Pair, list[str]] = {}
    by_link = {node for node, why in slow_nodes.items() if any(w.startswith("links") for w in why)}
    for what, speeds in (
        ("bandwidth", {pair: link.bandwidth for pair, link in links.items()}),
        ("latency", {pair: 1 / link.latency_s for pair, link in links.items()}),
    ):
        median = statistics.median(speeds.values())
        for pair, is_slow in zip(speeds, slow(list(speeds.values())), strict=True):
            if is_slow and not by_link.intersection(pair):
                share = speeds[pair] / median
                text = f"{100 * share:.0f} % of" if what == "bandwidth" else f"{1 / share:.1f} times"
                slow_links.setdefault(pair, []).append(f"{what} is {text} the median")
    return Findings(
        {pair: ", ".join(why) for pair, why in sorted(slow_links.items())},
        {node: ", ".join(why) for node, why in sorted(slow_nodes.items())},
    )
