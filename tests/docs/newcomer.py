"""Follow the start page literally, as a newcomer would: its commands, in order, in a copy of the checkout.

    python -m tests.docs.newcomer [PAGE]

Ten minutes and more: it installs raypt in an environment of its own. Ends with 1 at the first command that fails.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.docs.pages import ROOT, blocks


def main(argv: list[str]) -> int:
    page = ROOT / (argv[0] if argv else "docs/start.md")
    with tempfile.TemporaryDirectory(prefix="newcomer") as directory:
        home = Path(directory, "raypt")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(home)], check=True)
        script = "\n".join(["set -euo pipefail", *blocks(page)])
        environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        environment["PATH"] = os.pathsep.join(p for p in environment["PATH"].split(os.pathsep) if ".venv" not in p)
        began = time.monotonic()
        done = subprocess.run(["bash", "-c", script], cwd=home, env=environment)
        print(f"{page.name}: exit status {done.returncode} after {time.monotonic() - began:.0f} s")
        for name in ("runs/default/report.html", "runs/mine/report.html", "resolved.txt"):
            if not (home / name).exists():
                print(f"{name} is not there")
                return 1
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
