"""The README's cluster commands: token, `ray start --head`, `ray job submit`, in namespaces of their own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.helpers import ROOT, environment, rows

README = (ROOT / "README.md").read_text()
PROSE = "The bridge over the river was finished in the spring, and the town held a market on it, number {}. "

SCRIPT = """
set -e
ip link set lo up
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray
{commands}
curl -s -H "Authorization: Bearer $(cat ~/.ray/auth_token)" http://127.0.0.1:8265/api/jobs/ >"$HOME/jobs.json"
ray stop >/dev/null
"""

NAMESPACES = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--net"]


def namespaces_work() -> bool:
    """`ray stop` ends every Ray process it sees, and the dashboard has one port: other tests must be out of sight."""
    if shutil.which("unshare") is None or shutil.which("ip") is None or shutil.which("curl") is None:
        return False
    return subprocess.run([*NAMESPACES, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


@pytest.mark.skipif(
    not namespaces_work(), reason="no rights to make namespaces, or no ip, curl: `ray job submit` untried"
)
def test_the_readmes_cluster_commands_run_a_job(tmp_path: Path) -> None:
    lines = [json.dumps({"id": str(i), "text": PROSE.format(i) * 30}) for i in range(50)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    block = next(b for b in re.findall(r"```bash\n(.*?)```", README, re.S) if "ray job submit" in b and "get-auth" in b)
    options = f"run.dir={tmp_path}/run corpus.sources[0].paths={tmp_path}/x.jsonl curation.stages=[language]"
    # The README's own lines; only the job is a shorter one.
    commands, replaced = re.subn(r"jobs/pretrain\.py .*", f"jobs/curate.py {options}", block)
    assert replaced == 1
    script = SCRIPT.format(commands=commands)
    env = environment() | {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([*NAMESPACES, "bash", "-c", script], cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert [j["status"] for j in json.loads((tmp_path / "jobs.json").read_text())] == ["SUCCEEDED"]
    assert rows(tmp_path / "run" / "curated").num_rows + rows(tmp_path / "run" / "removed").num_rows == 50
