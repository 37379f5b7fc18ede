"""`raypt study` as a script, for `ray job submit -- python jobs/study.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["study", *sys.argv[1:]]))
