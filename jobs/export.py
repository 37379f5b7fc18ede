"""`raypt export` as a script, for `ray job submit -- python jobs/export.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["export", *sys.argv[1:]]))
