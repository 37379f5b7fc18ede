"""`raypt pretrain` as a script, for `ray job submit -- python jobs/pretrain.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["pretrain", *sys.argv[1:]]))
