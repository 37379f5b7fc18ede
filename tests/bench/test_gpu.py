"""The list of `bench gpu`, as far as a CPU can try it."""

import json
from pathlib import Path

import pytest

from raypt.bench import gpu, gpu_checks


def test_what_is_tried_is_written_down_with_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--only", "device", "varlen", "collectives", "--out", str(out)]) == 0
    device, varlen, collectives = json.loads(out.read_text())["checks"]
    assert device["status"] == "ok" and device["torch"].startswith("2.")
    assert varlen["status"] == "needs a GPU"
    assert collectives["status"] == "ok" and collectives["ranks"] == 2


def test_a_check_that_fails_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no CUDA here: asked for it, the check of the model fails in its process, and the list goes on."""
    if gpu_checks.has_gpu():
        pytest.skip("this machine has a GPU: asking for one fails nowhere")
    out = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cuda", "--only", "model", "device", "--out", str(out)]) == 1
    model, _ = json.loads(out.read_text())["checks"]
    assert model["status"] == "failed"
    assert "CUDA" in model["error"] or "NVIDIA" in model["error"]
    assert "device " in capsys.readouterr().out


def test_a_check_that_hangs_is_ended_and_named() -> None:
    result = gpu.run_check("model", "cpu", 0.3)
    assert result["status"] == "timeout"
    assert "not done after" in result["error"]


def test_what_the_minutes_do_not_reach_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert [r["status"] for r in gpu.run_all("cpu", 0.0, ["device", "model"])] == ["no time left"] * 2


@pytest.mark.parametrize("check", ["model", "zero_stages", "zero1_1b"])
def test_a_check_agrees_with_the_cpu_on_the_cpu(check: str) -> None:
    assert gpu.run_check(check, "cpu", 120)["status"] == "ok"
