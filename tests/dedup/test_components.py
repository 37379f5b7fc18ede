import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raypt.dedup.components import components, spanning_forest, star_edges


def oracle(edges: np.ndarray) -> dict[int, int]:
    """vertex -> smallest vertex of its component, by repeated relaxation."""
    label = {int(v): int(v) for v in edges.ravel()}
    changed = True
    while changed:
        changed = False
        for a, b in edges.tolist():
            least = min(label[a], label[b])
            changed |= label[a] != least or label[b] != least
            label[a] = label[b] = least
    return label


def found(edges: np.ndarray) -> dict[int, int]:
    vertices, roots = components(edges)
    return dict(zip(vertices.tolist(), roots.tolist(), strict=True))


def random_graph() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 1500, (1200, 2))


SHAPES = {
    "random": random_graph(),
    "chain": np.column_stack([np.arange(1999), np.arange(1, 2000)]),
    "shuffled chain": np.random.default_rng(2).permutation(np.column_stack([np.arange(1, 2000), np.arange(1999)])),
    "star": np.column_stack([np.full(1999, 1999), np.arange(1999)]),
    "far apart keys": (random_graph() << 40) + 7,
    "negative keys": random_graph() - 700,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_components_are_those_of_relaxation(shape: str) -> None:
    assert found(SHAPES[shape]) == oracle(SHAPES[shape])


@pytest.mark.parametrize("shape", SHAPES)
def test_forests_of_parts_merge_to_the_components_of_the_whole(shape: str) -> None:
    edges = SHAPES[shape]
    forests = [spanning_forest(part) for part in np.array_split(edges, 7)]
    left = spanning_forest(np.concatenate(forests[:3]))
    right = spanning_forest(np.concatenate(forests[3:]))
    merged = found(np.concatenate([right, left]))
    whole = oracle(edges)
    assert all(whole[v] == r for v, r in merged.items())
    assert set(whole) - set(merged) == {v for v in whole if (edges == v).any(axis=1).sum() and is_lonely(edges, v)}


def is_lonely(edges: np.ndarray, vertex: int) -> bool:
    """Only loops touch it: a component of one vertex needs no edge in a forest."""
    touching = edges[(edges == vertex).any(axis=1)]
    return bool((touching[:, 0] == touching[:, 1]).all())


def test_a_spanning_forest_has_one_edge_a_vertex_that_is_no_root() -> None:
    edges = SHAPES["random"]
    vertices, roots = components(edges)
    assert len(spanning_forest(edges)) == (vertices != roots).sum()


def test_no_edges_have_no_components() -> None:
    assert spanning_forest(np.empty((0, 2), np.int64)).shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-50, 50)), max_size=60))
def test_star_edges_tie_each_member_of_a_group_to_its_smallest_key(rows: list[tuple[int, int]]) -> None:
    groups = np.array([g for g, _ in rows], np.uint64)
    keys = np.array([k for _, k in rows], np.int64)
    edges = star_edges((groups,), keys)
    expected = {(min(k for h, k in rows if h == g), key) for g, key in rows}
    assert {(a, b) for a, b in edges.tolist()} == {(a, b) for a, b in expected if a != b}


def test_star_edges_of_two_columns_need_both_equal() -> None:
    high, low = np.array([1, 1, 2, 1], np.uint64), np.array([5, 6, 5, 5], np.uint64)
    assert star_edges((high, low), np.array([10, 11, 12, 13])).tolist() == [[10, 13]]
