"""`raypt curate` as a script, for `ray job submit -- python jobs/curate.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["curate", *sys.argv[1:]]))
