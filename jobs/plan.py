"""`raypt plan` as a script; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["plan", *sys.argv[1:]]))
