"""What data, size and repetition do to a model: laws fitted to a table of runs.

raypt study fit FILE... --law chinchilla|isoflop|envelope|repetition|mixture

Parameters under the papers' names with bootstrap intervals, and what follows from them: the best size and number of
tokens of a budget, what a token seen the k-th time is worth, the best mixture. `raypt study fit --help` says more.
"""

import os
import sys


def main(argv: list[str]) -> int:
    """Exit status: 0, or 2 for a mistake in the table or the options."""
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if argv[:1] != ["fit"]:
        said = f"there is no {argv[0]!r}; " if argv else ""
        print(f"raypt study: {said}write raypt study fit FILE... --law LAW", file=sys.stderr)
        return 2
    # Before scipy is loaded: its L-BFGS on a few parameters is 40 times slower when BLAS has threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from raypt.run.study import fit

    return fit.main(argv[1:])
