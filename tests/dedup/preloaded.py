"""Imported once by the process off which a test's processes are forked, so that none of them pays for it: what
deduplication imports at its first use, tables of Unicode, and the kernels that most passes call. No thread is started.
"""

import numba  # noqa: F401
import pandas  # noqa: F401
import pyarrow as pa

import raypt.kernel_cache  # noqa: F401
import tests.dedup.test_faults  # noqa: F401
from raypt.dedup.exact import content_hashes
from raypt.dedup.minhash import permutations
from raypt.dedup.shingles import sign
from raypt.dedup.tokenise import tokenise

TEXTS = pa.array(["One small text. With two sentences, 一二."])
sign(tokenise(TEXTS), ngram=5, permutations=permutations(112, 1), bands=14, rows=8)
content_hashes(TEXTS, "whitespace")
