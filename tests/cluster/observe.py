"""Every panel and alert in a real Prometheus: python -m tests.cluster.observe [PROMETHEUS]

Runs the main job on a small corpus, then goes on with it under a stated peak (so that both shares of speed are told),
with a real Prometheus (Debian's package, or the binary at PROMETHEUS) that scrapes it as
cluster/observability/prometheus.yml says, and evaluates each expression of the dashboard while it runs: each must have
a value at some time. Alerts must be expressions that Prometheus takes, and must be quiet at the end. Three to six
minutes; starts Ray.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.test_observability import ALERTS, FOLDER, PANELS
from tests.jobs.helpers import ROOT, TINY, environment

PORT = 29090


def ask(path: str, **query: str) -> Any:
    url = f"http://127.0.0.1:{PORT}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as e:
        sys.exit(f"{path} {query}: {e.read().decode()}")


def main() -> None:
    binary = sys.argv[1] if len(sys.argv) > 1 else shutil.which("prometheus")
    assert binary, "no prometheus: apt-get install prometheus, or name the binary"
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    wanted = {f"{p['title']} {t['refId']}": t["expr"].replace("$run", ".*") for p in PANELS for t in p["targets"]}
    seen: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="raypt-observe-") as folder:
        scratch = Path(folder)
        config["global"]["scrape_interval"] = "1s"
        config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["file_sd_configs"][0]["refresh_interval"] = "1s"
        (scratch / "prometheus.yml").write_text(yaml.safe_dump(config))
        Path("/tmp/ray/prom_metrics_service_discovery.json").unlink(missing_ok=True)
        prometheus = subprocess.Popen(
            [
                binary,
                f"--config.file={scratch / 'prometheus.yml'}",
                f"--storage.tsdb.path={scratch / 'data'}",
                f"--web.listen-address=127.0.0.1:{PORT}",
                "--log.level=error",
            ]
        )
        # Text for some seconds of reading, or its rate would be of one scrape; a line of it cannot be read.
        options = [o for o in TINY if o != "ray.dashboard=false" and not o.startswith("corpus.")]
        options += ["corpus.builtin.max_bytes=30000000", "corpus.builtin.files=40"]
        (scratch / "broken.jsonl").write_text('{"text": "cut\n')
        options += ["corpus.sources=[{paths: 'builtin:python-docs'}, {name: broken, paths: broken.jsonl}]"]
        job = None
        try:
            for part in (["train.steps=60"], ["train.steps=120", "train.peak_tflops=0.1"]):
                job = subprocess.Popen(
                    [
                        *(sys.executable, str(ROOT / "jobs" / "pretrain.py"), *options, *part),
                        *("run.name=watched", "curation.quality.reference=[]"),
                        *("curation.stages=[language, gopher_quality]", "train.checkpoint.every_steps=20"),
                    ],
                    cwd=scratch,
                    env=environment()
                    | {"RAY_METRICS_REPORT_INTERVAL_MS": "1000"}
                    | {k: v for k, v in os.environ.items() if k == "HOME"},
                    stdout=(scratch / "job.log").open("a"),
                    stderr=subprocess.STDOUT,
                )
                while job.poll() is None:
                    time.sleep(1)
                    for name, expression in wanted.items():
                        if name not in seen and (found := _values(expression)):
                            seen[name] = found
                if job.returncode:
                    break
            firing = [a["labels"]["alertname"] for a in ask("alerts")["alerts"] if a["state"] == "firing"]
            rules = ask("rules")["groups"][0]["rules"]
        finally:
            for process in (job, prometheus):
                if process is not None:
                    process.terminate()
                    process.wait(60)
        log = (scratch / "job.log").read_text()
    assert job is not None and job.returncode == 0, log[-3000:]
    for name in wanted:
        print(f"{'series ' + str(seen[name]) if name in seen else 'EMPTY':>10}  {name}")
    broken = [rule["name"] for rule in rules if rule["health"] == "err"]
    print(f"alerts: {len(rules)} of {len(ALERTS)} loaded, {broken or 'none'} broken, {firing or 'none'} firing")
    sys.exit(len(wanted) - len(seen) + len(broken) + len(firing))


def _values(expression: str) -> int:
    try:
        return len(ask("query", query=expression)["result"])
    except OSError:  # it is still starting
        return 0


if __name__ == "__main__":
    main()
