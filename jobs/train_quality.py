"""`raypt train-quality` as a script, for `ray job submit -- python jobs/train_quality.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["train-quality", *sys.argv[1:]]))
