"""jobs/export.py and jobs/evaluate.py as commands, on run directories that training left."""

import importlib.util
import json
import math
import subprocess
from pathlib import Path

import pytest
import torch
import transformers

from raypt.model import Llama, ModelConfig, generate
from raypt.model.hf import load_hf
from raypt.model.llama import parameter_shapes
from raypt.training.checkpoint.directory import latest_checkpoint, list_checkpoints
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.records import read_metrics
from tests.jobs import trained
from tests.jobs.helpers import run_here, run_job

torch.set_num_threads(1)
PROMPTS = ["the river moves slowly", "light and", "a stone walks under the wind home"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    trained.make(root)
    return root


@pytest.fixture(scope="module")
def exports(root: Path) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """The first by its script."""
    first, *others = trained.KINDS
    exports = {first: run_job("export.py", f"run.dir={root / first}", cwd=root)}
    return exports | {kind: run_here("export", f"run.dir={root / kind}", cwd=root) for kind in others}


@pytest.fixture(scope="module")
def evaluated(root: Path, exports: object) -> dict:
    (root / "texts.txt").write_text("\n".join(PROMPTS))
    source = [f"evaluate.sources[0].{k}={v}" for k, v in (("name", "l"), ("paths", "texts.txt"), ("format", "lines"))]
    done = run_job("evaluate.py", f"run.dir={root / 'zero-1'}", *source, cwd=root)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def checkpoint(run: Path) -> CheckpointInfo:
    info = latest_checkpoint(str(run / "checkpoints"))
    assert info is not None
    return info


def ours(run: Path) -> Llama:
    """The model as the checkpoint has it, not by way of the export."""
    info = checkpoint(run)
    config = ModelConfig.model_validate(info.meta["model"])
    model, reader = Llama(config), CheckpointReader(info)
    model.load_state_dict(
        {name: reader.full(name, shape) for name, shape in parameter_shapes(config).items()}, strict=False
    )
    return model


def test_average_writes_the_mean_of_the_last_checkpoints_to_a_place_of_its_own(root: Path) -> None:
    run = root / "elastic"
    done = run_here("average", f"run.dir={run}", "export.average=2", cwd=root)
    assert done.returncode == 0, done.stderr
    readers = [CheckpointReader(info) for info in list_checkpoints(str(run / "checkpoints"))[-2:]]
    mean = load_hf(str(run / "averaged"))
    for name, p in mean.named_parameters():
        expected = torch.stack([r.full(name, p.shape).double() for r in readers]).mean(dim=0).float()
        torch.testing.assert_close(p.detach(), expected, rtol=0, atol=0)


def test_the_elastic_run_was_written_by_one_worker_and_begun_by_two(root: Path) -> None:
    workers = [row["workers"] for row in read_metrics(str(root / "elastic"))]
    assert workers == [2] * (trained.STEPS // 2) + [1] * (trained.STEPS // 2)
    assert checkpoint(root / "elastic").meta["world_size"] == 1


def test_a_line_of_metrics_has_the_parts_of_a_step_and_the_z_term_beside_the_loss(root: Path) -> None:
    for row in read_metrics(str(root / "zero-1")):
        parts = [row[key] for key in ("forward_s", "backward_s", "update_s", "communication_s")]
        assert min(parts) > 0
        assert sum(parts) < row["step_s"]
        assert row["mfu_stated"] > 0  # tiny_run states train.peak_tflops
        # log Z of a model that guesses among 320 ids is about ln 320 = 5.8; its square is not part of the loss.
        assert 25 < row["z"] < 50
        assert row["loss"] < 7


@pytest.mark.parametrize("kind", trained.KINDS)
def test_the_command_says_what_it_exported(kind: str, exports: dict, root: Path) -> None:
    assert exports[kind].returncode == 0, exports[kind].stderr
    assert f"step {trained.STEPS} of {root / kind} exported to {root / kind / 'export'}" in exports[kind].stdout


@pytest.mark.parametrize("kind", trained.KINDS)
def test_transformers_generates_the_same_greedy_tokens_as_our_cache(kind: str, exports: dict, root: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(root / kind / "export")
    tokenizer = transformers.AutoTokenizer.from_pretrained(root / kind / "export")
    model = ours(root / kind)
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        # Fp32 on both sides: what is left is the order of summation.
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=0)
        expected = theirs.generate(ids, max_new_tokens=16, do_sample=False, eos_token_id=None)[0, ids.shape[1] :]
        assert generate(model, ids[0].tolist(), max_new_tokens=16) == expected.tolist()


def test_a_step_that_is_not_there_is_answered_with_those_that_are(root: Path) -> None:
    done = run_here("export", f"run.dir={root / 'zero-1'}", "export.step=3", cwd=root)
    assert done.returncode == 2
    assert f"no checkpoint of step 3; there are [{trained.STEPS}]" in done.stderr


def test_perplexity_of_files_is_that_of_transformers(evaluated: dict, root: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(root / "zero-1" / "export")
    tokenizer = transformers.AutoTokenizer.from_pretrained(root / "zero-1" / "export")
    nats, count, size = 0.0, 0, 0
    for text in PROMPTS:
        ids = tokenizer(text, return_tensors="pt").input_ids  # as its files say: without BOS, which it never saw
        with torch.no_grad():
            logits = theirs(ids).logits[0, :-1]
        nats += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.numel() - 1
        size += len(tokenizer.decode(ids[0, 1:]).encode())
    figures = evaluated["perplexity"]["l"]
    assert (figures["documents"], figures["tokens"]) == (len(PROMPTS), count)
    assert figures["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def test_what_is_printed_is_kept_in_the_run(evaluated: dict, root: Path) -> None:
    assert json.loads((root / "zero-1" / "evaluation.json").read_text()) == evaluated


def test_workers_that_hold_a_checkpoint_between_them_find_what_one_process_finds_of_its_export(
    evaluated: dict, root: Path
) -> None:
    source = [f"evaluate.sources[0].{k}={v}" for k, v in (("name", "l"), ("paths", "texts.txt"), ("format", "lines"))]
    done = run_job(
        "evaluate.py",
        f"run.dir={root / 'on-mesh'}",
        f"evaluate.model={root / 'zero-1'}",
        *source,
        "train.parallel.tensor=2",
        "tokens.packing.sequence_length=64",
        "ray.dashboard=false",
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == checkpoint(root / "zero-1").uri
    # Sums of float32 in another order.
    assert found["perplexity"]["l"] == pytest.approx(evaluated["perplexity"]["l"], rel=1e-6)
    assert json.loads((root / "on-mesh" / "evaluation.json").read_text()) == found
    assert not (root / "on-mesh" / "work").exists(), "Ray Train leaves no files of its own"


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="the extra lm-eval is installed")
def test_tasks_without_the_harness_are_answered_with_how_to_install_it(root: Path, exports: object) -> None:
    done = run_here("evaluate", f"run.dir={root / 'zero-1'}", "evaluate.tasks=[hellaswag]", cwd=root)
    assert done.returncode == 2
    assert "pip install 'raypt[lm-eval]'" in done.stderr
