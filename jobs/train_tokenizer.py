"""`raypt train-tokenizer` as a script, for `ray job submit -- python jobs/train_tokenizer.py ...`; see --help."""

import sys

from raypt.run.cli import run

if __name__ == "__main__":
    sys.exit(run(["train-tokenizer", *sys.argv[1:]]))
