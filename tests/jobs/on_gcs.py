"""The whole main job on Google Cloud Storage's API, killed and resumed: python -m tests.jobs.on_gcs

As `tests.jobs.on_s3`, on an emulator through gcsfs (`pip install -e ".[test,test-gcs]"`), without faults of the server:
it must end well, with the ledger and the samples of a run that nothing disturbed, on a local disk. Some minutes; starts
Ray.
"""

import os
import sys
import tempfile
from pathlib import Path

from raypt import storage
from tests.gcs import gcs_server
from tests.jobs.on_s3 import as_undisturbed, killed_twice, upload


def main() -> None:
    os.environ.pop("RAY_ADDRESS", None)
    with tempfile.TemporaryDirectory(prefix="raypt-on-gcs-") as folder, gcs_server(Path(folder)) as bucket:
        inputs, run = storage.join(bucket, "in"), storage.join(bucket, "runs", "a")
        upload(inputs, Path(folder))
        killed_twice(inputs, run, Path(folder) / "gcs.log.txt", Path(folder) / "work")
        sys.exit(0 if as_undisturbed(run, inputs, Path(folder)) else 1)


if __name__ == "__main__":
    main()
