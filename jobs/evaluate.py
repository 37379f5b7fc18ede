"""`raypt evaluate` as a script, for `ray job submit -- python jobs/evaluate.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["evaluate", *sys.argv[1:]]))
