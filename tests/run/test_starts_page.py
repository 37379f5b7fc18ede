"""What the report says of machines, hours and cost."""

import json
import time
from pathlib import Path

from raypt.cluster_use import USE
from raypt.run.diary import Start, written_down
from raypt.run.report import build_report
from raypt.run.starts_page import hours_section
from raypt.run_dir import RunDir

STAGE = {"seconds": 3600.0, "cpu_s": 7200.0, "cpu_there_s": 36000.0}
GPUS = {"gpu_s": 14400.0, "gpu_there_s": 28800.0}


def start(**stages: dict[str, float]) -> Start:
    use = {"machines": [["8 CPUs, 4 H100, 64 GiB", 2]], "stages": stages}
    return Start("pretrain", "c", 0.0, "h", 8, 2**30, "3.12", "1", None, use=use)


def test_hours_of_all_starts_are_added_up_by_stage_and_have_a_price() -> None:
    shown = hours_section([start(train=STAGE | GPUS), start(curate=STAGE, train=STAGE | GPUS)], 2.5)
    assert "2 x (8 CPUs, 4 H100, 64 GiB)" in shown
    cells = "</td><td class=n>".join(["2.00", "8.00", "16.00", "4.00", "20.00"])
    assert f"<td>train</td><td class=n>{cells}</td>" in shown
    assert "At 2.5 an hour of a GPU (plan.price_per_hour): <b>20.00</b> for what was reserved, 40.00 for all" in shown


def test_a_cluster_without_gpus_costs_its_cpus_and_none_without_a_price() -> None:
    assert "an hour of a CPU (plan.price_per_hour): <b>2.00</b>" in hours_section([start(curate=STAGE)], 1.0)
    assert "price" not in hours_section([start(curate=STAGE)], None)
    assert "GPU hours" not in hours_section([start(curate=STAGE)], None)


def test_the_price_is_that_of_the_settings(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    (tmp_path / "config.yaml").write_text("plan: {price_per_hour: 3}")
    (tmp_path / "work" / "diary").mkdir(parents=True)
    (tmp_path / "work" / "diary" / "1.json").write_text(json.dumps(vars(start(curate=STAGE))))
    assert "At 3 an hour of a CPU" in build_report(run, "run")


def test_what_a_cluster_was_used_for_is_noted_while_the_job_runs_and_at_its_end(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    with written_down(run, "curate") as note:
        note.keep()
        (name,) = (tmp_path / "work" / "diary").iterdir()
        assert json.loads(name.read_text())["use"] is None
        USE.look([({"CPU": 4.0}, {"CPU": 1.0})])
        note.keep()
        assert json.loads(name.read_text())["use"]["machines"] == [["4 CPUs, 0 GiB", 1]]
        time.sleep(0.2)
    USE.clear()
    assert json.loads(name.read_text())["use"]["stages"]["before the first stage"]["cpu_there_s"] >= 0.8
