"""`raypt bench` as a script, for `ray job submit -- python jobs/bench.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["bench", *sys.argv[1:]]))
