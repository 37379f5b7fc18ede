"""`raypt study` as a command, as small as one can be; what larger ones claim is in test_study.py."""

import copy
import json
from pathlib import Path

import yaml

from tests.jobs.helpers import run_job
from tests.jobs.study_corpus import STUDY, write_corpus


def test_a_study_of_two_variants_answers_its_question(cluster_address: str, tmp_path: Path) -> None:
    write_corpus(tmp_path)
    config = copy.deepcopy(STUDY)
    config["base"]["train"] |= {"steps": 4, "checkpoint": {"every_steps": 4}, "evaluation": {"every_steps": None}}
    config["variants"] = [{"name": "clean"}, {"name": "faster", "set": {"train.optimizer.lr": 1e-2}}]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    done = run_job("study.py", "--config", "study.yaml", cwd=tmp_path, address=cluster_address)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "study" / "study.json").read_text())
    assert found["cost"]["trainings, each made once"] == "2 of 2"
    assert found["sentence"] in done.stdout
    assert (tmp_path / "study" / "study.html").is_file()
