"""Read damaged files of every format: python -m tests.fuzz.run [--inputs 10000] [--first SEED].

Each input is read in a child process: a crash, more than 10 s, 1 GB of memory in the worker and its children, or
documents that are missing without a word are named with the seed that makes them again. Exit status 1 if there is one.
"""

import argparse
import sys
import time
from collections import Counter

from raypt.corpus.sandbox import ChildDied, ChildTimeout, Sandbox
from tests.fuzz.check import MEMORY_BYTES, SECONDS, Result, check
from tests.fuzz.inputs import FORMATS


def fuzz(
    first: int, inputs: int, formats: tuple[str, ...] = tuple(FORMATS), progress: bool = False
) -> tuple[list[str], list[Result]]:
    """(what is wrong, results) of the inputs of `inputs` seeds from `first` on."""
    problems: list[str] = []
    results: list[Result] = []
    start = time.monotonic()
    with Sandbox() as box:
        box.call(check, first, formats)  # imports are no hang
        for seed in range(first, first + inputs):
            try:
                result = box.call(check, seed, formats, seconds=SECONDS)
            except ChildTimeout:
                problems.append(f"seed {seed}: hangs for {SECONDS:g} s")
                continue
            except ChildDied as e:
                problems.append(f"seed {seed}: crash: {e}")
                continue
            except Exception as e:  # whatever a reader let through
                problems.append(f"seed {seed}: {type(e).__name__}: {str(e)[:200]}")
                continue
            results.append(result)
            if result.problem:
                problems.append(f"seed {seed}: {result.problem} ({result.case})")
            if result.peak_bytes > MEMORY_BYTES:
                problems.append(f"seed {seed}: {result.peak_bytes >> 20} MiB of memory ({result.case})")
                box.close()  # the next peak is another one's
            if progress and (seed - first + 1) % 500 == 0:
                rate = (seed - first + 1) / (time.monotonic() - start)
                print(f"{seed - first + 1} inputs, {rate:.0f}/s, {len(problems)} problems", flush=True)
    return problems, results


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    args = parser.parse_args(argv)
    problems, results = fuzz(args.first, args.inputs, tuple(args.formats), progress=True)
    for problem in problems:
        print(problem)
    counts = Counter(r.case.format for r in results)
    slowest, biggest = max(results, key=lambda r: r.seconds), max(results, key=lambda r: r.peak_bytes)
    print(
        f"{args.inputs} inputs ({', '.join(f'{n} {k}' for k, n in counts.most_common())}): {len(problems)} problems; "
        f"slowest {slowest.seconds:.2f} s (seed {slowest.case.seed}), peak memory {biggest.peak_bytes >> 20} MiB"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
