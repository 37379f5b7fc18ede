"""Optional verification: another definition of a duplicate than sharing a band with what shares a band.

Within a component, in the order of the keep policy, a document is removed only if its similarity to one that is kept
reaches the threshold; otherwise it is kept too, and later ones are compared with it as well. So chains of near copies
do not drag in what no kept document resembles. Similarity is the exact Jaccard similarity of the shingle sets, or its
estimate, the share of equal signature values.
"""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.dedup.config import FuzzyConfig
from raypt.dedup.exchange import column
from raypt.dedup.minhash import permutations
from raypt.dedup.shingles import shingle, sketch
from raypt.dedup.tokenise import fuzzy_tokens
from raypt.kernels import allocating_kernel

EVIDENCE = "evidence"
"""Column of cluster members: what their similarity is computed from, list<uint64>."""


def evidence(text: pa.Array, fuzzy: FuzzyConfig) -> pa.LargeListArray:
    """The signature of each text, or its set of shingles in ascending order, as `fuzzy.verify` needs it. Pure."""
    shingles, offsets = shingle(fuzzy_tokens(text, fuzzy), fuzzy.ngram)
    if fuzzy.verify == "signature":
        signatures = sketch(shingles, offsets, permutations(fuzzy.num_perm, fuzzy.seed))
        ends = np.arange(len(text) + 1, dtype=np.int64) * fuzzy.num_perm
        return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(signatures.reshape(-1).astype(np.uint64)))
    sets = [np.unique(shingles[i:j]) for i, j in itertools.pairwise(offsets)]
    ends = np.append(0, np.cumsum([len(s) for s in sets], dtype=np.int64))
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(np.concatenate([np.zeros(0, np.uint64), *sets])))


@allocating_kernel
def _lead(starts: Any, values: Any, offsets: Any, signatures: bool, threshold: float, leader: Any) -> None:
    """leader[i]: the first kept member of i's component that is similar enough; i itself if there is none."""
    kept = np.empty(leader.shape[0], np.int64)
    for c in range(starts.shape[0] - 1):
        count = 0
        for i in range(starts[c], starts[c + 1]):
            leader[i] = i
            a, a_end = offsets[i], offsets[i + 1]
            for k in range(count):
                b, b_end = offsets[kept[k]], offsets[kept[k] + 1]
                x, y, shared = a, b, 0
                if signatures:
                    while x < a_end:
                        shared += values[x] == values[y]
                        x += 1
                        y += 1
                    total = a_end - a
                else:
                    while x < a_end and y < b_end:
                        if values[x] == values[y]:
                            shared += 1
                            x += 1
                            y += 1
                        elif values[x] < values[y]:
                            x += 1
                        else:
                            y += 1
                    total = a_end - a + b_end - b - shared
                if shared >= threshold * total:
                    leader[i] = kept[k]
                    break
            if leader[i] == i:
                kept[count] = i
                count += 1


def refine(members: pa.Table, fuzzy: FuzzyConfig) -> pa.Table:
    """`members` (ranked: components together, the best first; with EVIDENCE) with the roots of verified clusters.

    Those that end up alone are left out: they are no duplicates. Components of the index (negative roots) stay as they
    are: the index holds no text to compare with. Pure.
    """
    root, keys = column(members, "root").copy(), column(members, "doc_key")
    lists = members[EVIDENCE].combine_chunks()
    values, offsets = lists.flatten().to_numpy(), np.append(0, np.cumsum(lists.value_lengths().to_numpy()))
    bounds = np.append(np.flatnonzero(np.append(True, root[1:] != root[:-1])[: len(root)]), len(root))
    leader = np.empty(len(root), np.int64)
    threshold = fuzzy.verify_threshold - 1e-12
    _lead(bounds, values, offsets.astype(np.int64), fuzzy.verify == "signature", threshold, leader)
    least = np.full(len(root), np.iinfo(np.int64).max)
    np.minimum.at(least, leader, keys)
    members_of = np.bincount(leader, minlength=len(root))
    verified = root >= 0
    root[verified] = least[leader[verified]]
    stays = ~verified | (members_of[leader] > 1)
    at = members.column_names.index("root")
    return members.set_column(at, "root", pa.array(root)).drop_columns(EVIDENCE).filter(pa.array(stays))
