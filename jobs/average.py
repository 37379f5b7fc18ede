"""`raypt average` as a script, for `ray job submit -- python jobs/average.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["average", *sys.argv[1:]]))
