"""Duplicate groups to star edges to spanning forests to connected components. Pure numpy and numba.

Groups never become all pairs: the members of a group are tied to its smallest key. A forest of one part of the edges
has fewer edges than vertices, and the union of two forests has the same components as the union of what they came
from, so forests merge in any order and grouping to the same components. A component's name is its smallest doc_key.
"""

from typing import Any

import numpy as np

from raypt.kernels import kernel


def star_edges(groups: tuple[np.ndarray, ...], keys: np.ndarray) -> np.ndarray:
    """int64[e, 2] edges (smallest key, other key) of each group of equal values; one edge a further member.

    `groups` are one or two uint64 columns that together name the group of each of `keys` (int64).
    """
    if len(keys) == 0:
        return np.empty((0, 2), np.int64)
    order = np.argsort(groups[0]) if len(groups) == 1 else np.lexsort(groups[::-1])
    new = np.zeros(len(keys), bool)
    new[0] = True
    for group in groups:
        ordered = group[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(new)
    ordered_keys = keys[order]
    least = np.minimum.reduceat(ordered_keys, starts)
    centre = np.repeat(least, np.diff(np.append(starts, len(keys))))
    other = centre != ordered_keys
    return np.column_stack([centre[other], ordered_keys[other]])


@kernel
def _union(a: Any, b: Any, parent: Any, joins: Any) -> None:
    """Union by smaller index with path halving; joins[i] says whether edge i connected two trees."""
    for i in range(a.shape[0]):
        x, y = a[i], b[i]
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        while parent[y] != y:
            parent[y] = parent[parent[y]]
            y = parent[y]
        if x < y:
            parent[y] = x
        elif y < x:
            parent[x] = y
        joins[i] = x != y


@kernel
def _flatten(parent: Any) -> None:
    """parent[i] = root of i; parents never have a greater index."""
    for i in range(parent.shape[0]):
        parent[i] = parent[parent[i]]


def components(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(vertices int64[v] sorted, roots int64[v]): for each vertex of an edge the smallest key of its component."""
    vertices, index = np.unique(edges, return_inverse=True)
    index = index.reshape(edges.shape)
    parent = np.arange(len(vertices))
    joins = np.empty(len(edges), bool)
    _union(np.ascontiguousarray(index[:, 0]), np.ascontiguousarray(index[:, 1]), parent, joins)
    _flatten(parent)
    return vertices, vertices[parent]


def spanning_forest(edges: np.ndarray) -> np.ndarray:
    """int64[e, 2] sorted star edges (root, vertex) of the components of `edges`: one a vertex that is no root."""
    vertices, roots = components(edges)
    other = vertices != roots
    return np.column_stack([roots[other], vertices[other]])
