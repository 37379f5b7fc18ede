"""The README's cluster commands: token, `ray start --head`, `ray job submit`, and `ray job stop`; in namespaces."""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raypt.training.checkpoint.directory import list_checkpoints
from tests.jobs.helpers import ROOT, TINY, environment, rows

README = (ROOT / "README.md").read_text()

ENDS_WITHIN_S = 60
"""From `ray job stop` to the end of the job, its last checkpoint and Ray's own looking (each 1 to 2 s) included; raypt
takes `train.stop_timeout_s` for it at most, 120 s by default, and the README has Ray wait longer than that."""
TRAINS = [
    *[option for option in TINY if not option.startswith(("corpus.", "dedup.", "ray."))],
    *("train.steps=100000", "train.workers=1", "train.checkpoint.every_steps=1000000"),
    *("train.evaluation.every_steps=1000000", "train.log_every=1"),
]

SCRIPT = """
set -e
ip link set lo up
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray
{commands}
jobs=http://127.0.0.1:8265/api/jobs/
curl -s -H "Authorization: Bearer $(cat ~/.ray/auth_token)" $jobs >"$HOME/jobs.json"
curl -s -o "$HOME/answer" -w "%{{http_code}}" -X POST -H "Content-Type: application/json" \\
  -d "{{\\"entrypoint\\": \\"touch $HOME/entered\\"}}" $jobs >"$HOME/status"
ray job submit --no-wait --submission-id stopped --address http://127.0.0.1:8265 --working-dir . -- \\
  python jobs/pretrain.py {options}
timeout 300 ray job logs --follow --address http://127.0.0.1:8265 stopped | grep -q "step 3/" || true
date +%s.%N >"$HOME/stop.begun"
ray job stop --address http://127.0.0.1:8265 stopped || true
date +%s.%N >"$HOME/stop.done"
ray job status --address http://127.0.0.1:8265 stopped >"$HOME/stop.status" 2>&1 || true
ray job logs --address http://127.0.0.1:8265 stopped >"$HOME/stop.log" 2>&1 || true
ray stop >/dev/null
"""

NAMESPACES = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--net"]


def namespaces_work() -> bool:
    """`ray stop` ends every Ray process it sees, and the dashboard has one port: other tests must be out of sight."""
    if shutil.which("unshare") is None or shutil.which("ip") is None or shutil.which("curl") is None:
        return False
    return subprocess.run([*NAMESPACES, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


WORDS = ("river", "bridge", "town", "market", "spring", "water", "house", "winter", "road", "people", "garden", "ship")


def document(number: int) -> str:
    """English enough for `language`, and like no other."""
    rng = random.Random(number)
    return " ".join(
        f"The {rng.choice(WORDS)} by the {rng.choice(WORDS)} was as old as the {rng.choice(WORDS)} of {number}{i}."
        for i in range(60)
    )


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory after the README's commands, a request without the token, and a job that was stopped."""
    if not namespaces_work():
        pytest.skip("no rights to make namespaces, or no ip, curl: `ray job submit` untried")
    home = tmp_path_factory.mktemp("submitted")
    lines = [json.dumps({"id": str(i), "text": document(i)}) for i in range(50)]
    (home / "x.jsonl").write_text("\n".join(lines))
    block = next(b for b in re.findall(r"```bash\n(.*?)```", README, re.S) if "ray job submit" in b and "get-auth" in b)
    options = f"run.dir={home}/run 'corpus.sources=[{{name: x, paths: {home}/x.jsonl}}]' 'curation.stages=[language]'"
    # The README's own lines; only the job is a shorter one.
    commands, replaced = re.subn(r"jobs/pretrain\.py .*", f"jobs/curate.py {options}", block)
    assert replaced == 1
    more = " ".join(shlex.quote(option) for option in TRAINS)
    script = SCRIPT.format(commands=commands, options=f"{options} {more}")
    env = environment() | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env.pop("RAY_TMPDIR", None)  # /tmp/ray is its own there
    done = subprocess.run([*NAMESPACES, "bash", "-c", script], cwd=ROOT, capture_output=True, text=True, env=env)
    (home / "all.log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return home


def test_the_readmes_cluster_commands_run_a_job(submitted: Path) -> None:
    assert [j["status"] for j in json.loads((submitted / "jobs.json").read_text())] == ["SUCCEEDED"]
    run = submitted / "run"
    assert rows(run / "curated").num_rows + rows(run / "removed").num_rows == 50


def test_without_the_token_no_job_is_taken(submitted: Path) -> None:
    assert (submitted / "status").read_text() == "401"
    assert not (submitted / "entered").exists()


def test_a_stopped_job_ends_in_time_with_a_checkpoint(submitted: Path) -> None:
    log = (submitted / "stop.log").read_text()
    assert "Job 'stopped' was stopped" in (submitted / "stop.status").read_text(), log[-4000:]
    begun, done = (float((submitted / f"stop.{name}").read_text()) for name in ("begun", "done"))
    assert done - begun < ENDS_WITHIN_S
    whole = re.search(r"the checkpoint of step (\d+) is whole", log)
    assert whole, log[-4000:]
    assert int(whole[1]) in [info.step for info in list_checkpoints(str(submitted / "run" / "checkpoints"))]
