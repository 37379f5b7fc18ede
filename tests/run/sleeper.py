"""A job that waits, for the tests of the frame: it says when it began, and when it was unwound."""

import sys
import time

from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.job import run_job


def main(config: RunConfig) -> None:
    if config.run.name == "fails":
        raise RuntimeError("a bug")
    if config.run.name == "mistake":
        raise UserError("corpus.sources: mend me")
    try:
        print("began", flush=True)
        time.sleep(60)
    except Exception:
        print("swallowed", flush=True)
    finally:
        print("unwound", flush=True)
        if config.run.name == "slow":
            time.sleep(60)


if __name__ == "__main__":
    sys.exit(run_job("sleep", __spec__.name, "Waits.", sys.argv[1:]))
