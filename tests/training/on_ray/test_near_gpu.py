"""What one process does near the GPUs of a cluster whose driver has none."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from raypt.config_io import validate
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig, export_hf
from raypt.model.weights import in_blocks
from raypt.run.config import RunConfig
from raypt.run.evaluate import main
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.config import TrainConfig
from raypt.training.on_ray.near_gpu import near_gpu
from tests.training import tiny_run

GPU = TrainConfig(use_gpu=True)


@pytest.fixture(scope="module")
def gpu_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address of a cluster of a head and a node that says it has a GPU; the node's id."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    yield cluster.address, node.node_id
    cluster.shutdown()


def where() -> str:
    return ray.get_runtime_context().get_node_id()


def refuse() -> None:
    raise UserError("no such thing")


def test_it_runs_on_the_node_with_the_gpu_and_its_errors_are_its_own(gpu_node: tuple[str, str]) -> None:
    address, node = gpu_node
    with ray.init(address=address, log_to_driver=False):
        assert near_gpu(GPU, where) == node
        assert near_gpu(TrainConfig(use_gpu=False), where) != node
        with pytest.raises(UserError, match=r"^no such thing$"):
            near_gpu(GPU, refuse)


def test_evaluation_there_gives_what_it_gives_here(
    gpu_node: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("a driver with a GPU of its own evaluates there")
    tokenizer = prepare_tokenizer(
        tiny_run.write_text(tmp_path), TokenizerConfig(vocab_size=300), str(tmp_path / "tokenizer"), 0
    )
    config = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, max_length=48)
    model = Llama(config.for_vocabulary(tokenizer.vocab_size)).initialise(0)
    tokenizer.save(str(tmp_path / "export"))
    parameters = dict(model.named_parameters())
    export_hf(model.config, lambda name: in_blocks(parameters[name]), str(tmp_path / "export"))
    (tmp_path / "texts.txt").write_text("the river moves slowly\na stone")
    source = {"name": "l", "paths": [str(tmp_path / "texts.txt")], "format": "lines"}
    monkeypatch.setenv("RAY_ADDRESS", gpu_node[0])
    found = []
    for use_gpu in (False, True):
        settings = {
            "run": {"dir": str(tmp_path)}, "evaluate": {"sources": [source]}, "train": {"use_gpu": use_gpu},
        }  # fmt: skip
        main(validate(RunConfig, settings))
        found.append(json.loads(capsys.readouterr().out)["perplexity"]["l"])
    here, there = found
    assert there["loss"] == pytest.approx(here["loss"], rel=1e-6)  # another process, another number of threads
    assert here["tokens"] == there["tokens"] > 5
