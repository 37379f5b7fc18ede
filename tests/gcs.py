"""An emulator of Google Cloud Storage for tests, in a process of its own, asked through gcsfs.

Not in the test extra, since gcsfs brings some twenty packages of Google's: pip install -e ".[test,test-gcs]".
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "raypt-test"
ENDPOINT = "STORAGE_EMULATOR_HOST"
"""What gcsfs and Google's own clients ask instead of Google, in this process and those that it starts."""


@contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """The URI of a bucket of an emulator; its log is in `folder`."""
    import gcsfs

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "gcs.log"
    command = [sys.executable, "-c", "from gcp_storage_emulator.__main__ import main; main()", "start", "--in-memory"]
    command += ["--host=127.0.0.1", f"--port={port}", f"--default-bucket={BUCKET}"]
    with log.open("wb") as f:
        server = subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT)
    os.environ[ENDPOINT] = f"http://127.0.0.1:{port}"
    gcsfs.GCSFileSystem.clear_instance_cache()
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/storage/v1/b/{BUCKET}", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no emulator: {log.read_text()[-2000:]}") from None
                time.sleep(0.1)
        yield f"gs://{BUCKET}"
    finally:
        server.terminate()
        server.wait(10)
        del os.environ[ENDPOINT]
        gcsfs.GCSFileSystem.clear_instance_cache()
