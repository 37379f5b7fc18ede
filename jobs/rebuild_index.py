"""`raypt rebuild-index` as a script, for `ray job submit -- python jobs/rebuild_index.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["rebuild-index", *sys.argv[1:]]))
