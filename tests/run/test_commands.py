"""Every word of `raypt`: its help, a mistake, and that it does what it is for."""

import json
from pathlib import Path

import pytest
import torch

from raypt.config_io import validate
from raypt.model import Llama, ModelConfig, load_hf
from raypt.run.cli import JOBS, TOOLS, job_doc, run
from raypt.run.config import RunConfig
from raypt.run.open import open_run
from raypt.run.stages import timed_stage
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from tests.training import tiny_run
from tests.training.one_rank import checkpoint

TESTS = Path(__file__).parents[1]

MISTAKES = {
    "pretrain": (["train.workers=3"], "train.workers=3: "),
    "plan": (["plan.cluster.accelerator=h1000"], "plan.cluster"),
    "curate": (["corpus.sources[0].paths=nowhere/*.jsonl"], "no file matches"),
    "tokenize": (["tokens.megatron=[nowhere]"], "nowhere"),
    "train-quality": (["curation.quality.referense=x"], "did you mean curation.quality.reference?"),
    "train-tokenizer": (["tokens.tokenizer.vocab_size=-1"], "tokens.tokenizer.vocab_size"),
    "evaluate": ([], "evaluate"),
    "export": (["run.dir=nowhere"], "nowhere"),
    "average": (["run.dir=RUN", "export.average=3"], "export.average=3: up to step 2 RUN/checkpoints holds"),
    "rebuild-index": (["dedup.index=nowhere"], "nowhere: there is no index to rebuild from"),
    "bench": (["raed"], "there is no benchmark 'raed'; did you mean read?"),
    "study": (["study.qestion=why"], "did you mean study.question?"),
    "status": (["nowhere"], "nowhere is no run directory"),
    "report": (["nowhere"], "nowhere is no run directory"),
    "compare": (["nowhere", "nowhere"], "nowhere is no run directory"),
    "ls": (["nowhere"], "there is no run in nowhere"),
    "rm": (["nowhere"], "nowhere is no run directory"),
    "completion": (["tcsh"], "name one shell of bash, zsh, fish"),
}
"""What is asked wrongly of each, and what the answer has in it."""

SUCCESSES = {
    "plan": (["train.steps=2k"], "memory"),
    "export": (["run.dir=RUN"], "step 2 of RUN exported to RUN/export"),
    "average": (["run.dir=RUN", "export.average=2"], "the mean of steps [1, 2] of RUN exported to RUN/averaged"),
    "bench": (["read", "RUN/a.jsonl", "--repeat", "1"], '"docs": 3'),
    "study": (["pairs", "pairs/en", "--count", "2"], '{"'),
    "status": (["RUN"], "done "),
    "report": (["RUN"], "report.html"),
    "compare": (["RUN", "RUN", "--out", "c.html"], "c.html"),
    "ls": (["."], "RUN  done"),
    "rm": (["RUN", "--work"], "would delete"),
    "completion": (["bash"], "complete -"),
}
"""Of each that needs no Ray: what it is asked, and what it says."""

WITH_RAY = {
    "pretrain": "jobs/test_pretrain.py",
    "curate": "jobs/test_mistakes.py",
    "tokenize": "jobs/test_tokenize.py",
    "train-quality": "jobs/test_train_quality.py",
    "train-tokenizer": "jobs/test_train_tokenizer.py",
    "evaluate": "jobs/test_export_and_evaluate.py",
    "rebuild-index": "jobs/test_rebuild_index.py",
}
"""Where each that starts Ray, or trains, is seen to succeed; a study of trainings is in jobs/test_study.py."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with RUN: a job that ended well, a checkpoint, a tokenizer, and a file of three documents."""
    place = tmp_path_factory.mktemp("commands")
    home = place / "RUN"
    source = {"name": "text", "paths": "in.jsonl"}
    config = validate(RunConfig, {"run": {"dir": str(home)}, "corpus": {"sources": [source]}})
    with open_run(config, "pretrain") as made, timed_stage(made, "manifest"):
        (home / "curated").mkdir()
    tokenizer = prepare_tokenizer(
        tiny_run.write_text(place), TokenizerConfig(vocab_size=300), str(home / "tokenizer"), 0
    )
    shape = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_kv_heads=1, max_length=48)
    for step in (1, 2):
        model = Llama(shape.for_vocabulary(tokenizer.vocab_size)).initialise(step)
        checkpoint(home / "checkpoints", model, step=step)
    (home / "a.jsonl").write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(3)))
    return place


def test_every_word_has_a_mistake_and_a_success_here_or_with_ray() -> None:
    words = JOBS.keys() | TOOLS.keys()
    assert words == MISTAKES.keys()
    assert words == SUCCESSES.keys() | WITH_RAY.keys()
    for name, path in WITH_RAY.items():
        text = (TESTS / path).read_text()
        assert f'"{name}"' in text or f'"{name.replace("-", "_")}.py"' in text, name


@pytest.mark.parametrize("name", [*JOBS, *TOOLS])
def test_help_says_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    module = JOBS[name] if name in JOBS else TOOLS[name][0]
    assert job_doc(module).splitlines()[0] in capsys.readouterr().out


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_and_has_status_2(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    arguments, said = MISTAKES[name]
    assert run([name, *arguments]) == 2
    err = capsys.readouterr().err.replace(f"{place}/", "")
    assert said in err
    assert err.lstrip().startswith(f"raypt {name}: ")
    assert "Traceback" not in err
    assert not (place / "runs").exists(), "a directory was claimed"


@pytest.mark.parametrize("name", SUCCESSES)
def test_it_does_what_it_is_for(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    torch.set_num_threads(1)
    arguments, said = SUCCESSES[name]
    status = run([name, *arguments])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert said in captured.out.replace(f"{place}/", "")


def test_what_export_writes_is_a_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert run(["export", "run.dir=RUN", "export.out=out"]) == 0
    assert load_hf(str(place / "out")).config.hidden_size == 32
