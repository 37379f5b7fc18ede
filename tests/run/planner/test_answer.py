"""`raypt plan` as a whole: its answers, their forms, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from raypt.config_io import validate
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.planner.answer import answer, best_config
from raypt.run.planner.cluster import of_nodes
from raypt.run.planner.config import PlanConfig
from raypt.run.planner.page import page
from raypt.run.planner.refusal import refuse_what_cannot_fit
from raypt.run.planner.search import Plan
from raypt.run.planner.table import text
from raypt.training.sizes import check_mesh, check_workers
from tests.run.test_cli import raypt

BIG: dict[str, Any] = {
    "model": {"preset": "llama-3-8b"},
    "tokens": {"packing": {"sequence_length": 8192}},
    "train": {"use_gpu": True, "precision": "bf16", "global_batch_tokens": 4_194_304, "steps": 100_000},
    "plan": {"cluster": {"accelerator": "h100", "nodes": 8}, "price_per_hour": 2.0},
}
COMMAND = [
    "model.preset=llama-3-8b", "tokens.packing.sequence_length=8192", "train.global_batch_tokens=4194304",
    "train.precision=bf16", "train.use_gpu=true", "plan.cluster={accelerator: h100, nodes: 8}",
]  # fmt: skip


def config(**sections: dict[str, Any]) -> RunConfig:
    return validate(RunConfig, {k: {**BIG.get(k, {}), **sections.get(k, {})} for k in {*BIG, *sections}})


def test_json_has_the_published_schema_and_needs_no_ray_or_torch(tmp_path: Path) -> None:
    done = raypt("plan", "--json", *COMMAND, "plan.yaml=best.yaml", "plan.page=plan.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].split() == ["HEAVY"]
    found = json.loads(done.stdout)
    keys = {"mesh", "zero", "micro_batch", "checkpointing", "fits", "memory_bytes", "step_s", "mfu", "bubble", "days"}
    for plan in [found["best"], *found["configurations"]]:
        assert keys | {"tokens_per_s_per_device", "cost"} <= plan.keys()
        parts = plan["memory_bytes"]
        assert {"weights", "gradients", "optimizer", "activations", "logits", "buffers", "total"} <= parts.keys()
        assert parts["total"] == sum(n for name, n in parts.items() if name != "total")
    assert found["best"] == found["configurations"][0] and 0.2 < found["best"]["mfu"] < 0.6
    best = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert best["train"]["workers"] == 64
    again = validate(RunConfig, best)  # as jobs/pretrain.py reads it
    assert again.train.micro_batch_size == found["best"]["micro_batch"]
    html = (tmp_path / "plan.html").read_text()
    assert html.count("<svg") >= 3 and "Roofline" in html and "src=" not in html


def test_the_text_names_machines_parts_and_the_best() -> None:
    found = answer(config())
    shown = text(found)
    assert found.best is not None
    for part in ("8 x 8 h100", "weights", "curate", "Daly 2006", "tokens a parameter", "workers: 64"):
        assert part in shown, part
    assert page(found).startswith("<!doctype html>")
    assert found.best.cost == pytest.approx(found.best.days * 24 * 64 * 2.0)


def test_the_best_is_judged_the_same_when_it_is_the_configuration() -> None:
    found = answer(config())
    best = best_config(found)
    own = answer(best.model_copy(update={"plan": best.plan.model_copy(update={"cluster": None})})).own
    assert own is not None and found.best is not None
    assert own.to_json() == found.best.to_json()


def test_too_few_cores_that_tokenize_make_every_step_wait(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text('{"tokenize": 1e7}')
    plan = {"bench": str(tmp_path / "bench.json"), "bytes_per_token": 4.0}
    free, starved = answer(config(plan=plan)), answer(config(plan={**plan, "data_cpus": 0.1}))
    assert free.best is not None and starved.best is not None and free.data is not None
    assert free.best.data_wait_s == 0
    # 4,194,304 tokens of 4 bytes at 1 MB/s.
    assert starved.best.step_s == pytest.approx(16.777216)
    assert starved.best.data_wait_s + float(starved.best.seconds.step) == starved.best.step_s
    assert "waiting for data" in text(starved)
    enough = answer(config(plan={**plan, "data_cpus": free.data.cores_beside})).best
    assert enough is not None and enough.step_s == free.best.step_s


LARGE = {"model": {"preset": "llama-3-70b"}}


def test_a_pipeline_that_wins_is_written_down_as_pretrain_takes_it() -> None:
    found = answer(config(**LARGE))
    assert found.best is not None and found.best.layout.pipeline > 1 and found.best.runs
    best = best_config(found)
    assert best.train.parallel.pipeline == found.best.layout.pipeline
    assert f"pipeline: {found.best.layout.pipeline}" in text(found)
    length = best.tokens.packing.sequence_length
    assert check_workers(best.train, length) == [64]
    check_mesh(best.model, best.train, length)
    again = answer(best.model_copy(update={"plan": best.plan.model_copy(update={"cluster": None})})).own
    assert again is not None and again.to_json() == found.best.to_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {**LARGE["model"], "tie_embeddings": True}},
        {**LARGE, "train": {"optimizer": {"kind": "muon"}}},
    ],
)
def test_a_mesh_that_pretrain_refuses_is_never_the_best(changed: dict[str, Any]) -> None:
    """Pipelines of tied embeddings, and under Muon, are; they are shown as such, and never chosen."""
    found = answer(config(**changed))
    assert found.best is not None and found.best.layout.pipeline == 1
    pipelines = [p for p in found.plans if p.layout.pipeline > 1]
    assert pipelines and not any(p.runs for p in pipelines)


def test_the_schedule_that_is_configured_is_reckoned_with() -> None:
    def with_schedule(**parallel: Any) -> Plan:
        plan = {"cluster": None}
        parallel = {"tensor": 4, "pipeline": 8, **parallel}
        train = {"workers": 64, "micro_batch_size": 1, "parallel": parallel}
        own = answer(config(**LARGE, train=train, plan=plan)).own
        assert own is not None
        return own

    plain, zero_bubble = with_schedule(), with_schedule(schedule="zero_bubble")
    interleaved, gpipe = with_schedule(schedule="interleaved_1f1b"), with_schedule(schedule="gpipe")
    assert zero_bubble.seconds.bubble == pytest.approx(plain.seconds.bubble / 3)
    # It hands on twice as much, which takes a little longer.
    assert interleaved.seconds.bubble == pytest.approx(plain.seconds.bubble / 2, rel=1e-2)
    assert plain.memory.activations < interleaved.memory.activations < gpipe.memory.activations


def test_a_cluster_is_sized_for_days_and_for_a_budget() -> None:
    plan = {"cluster": None, "accelerator": "h100", "price_per_hour": 2.0}
    soon = answer(config(plan={**plan, "days": 5.0}))
    late = answer(config(plan={**plan, "days": 40.0}))
    assert soon.best is not None and late.best is not None
    assert soon.best.days <= 5 < 2.5 * soon.best.days + 1 and late.best.days <= 40
    assert soon.machines.devices > late.machines.devices
    cheap = answer(config(plan={**plan, "budget": 60_000.0}))
    assert cheap.best is not None and cheap.best.cost is not None and cheap.best.cost <= 60_000


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"plan": {"cluster": {"accelerator": "v100"}}}, "plan.cluster.accelerator: 'v100' is not in the catalogue"),
        ({"plan": {"cluster": None, "days": 0.01}}, r"plan.days=0.01: .*times too slow"),
        (
            {"plan": {"cluster": None, "budget": 10.0, "price_per_hour": 2.0}},
            r"plan.budget=10: the cheapest cluster costs .* times as much",
        ),
        (
            {"model": {"preset": "llama-3-70b"}, "plan": {"cluster": {"accelerator": "a100-40", "nodes": 1}}},
            r"8 x a100-40 \(plan.cluster\) cannot hold this run: .* GB too much\), most of it .* nodes of 8 would hold",
        ),
        (  # 37 divides neither three sequences nor heads, and there are fewer layers
            {
                "train": {**BIG["train"], "global_batch_tokens": 8192 * 3},
                "plan": {"cluster": {"accelerator": "h100", "nodes": 37}},
            },
            "make it a multiple of",
        ),
        (
            {
                "model": {
                    "hidden_size": 96,
                    "num_layers": 4,
                    "num_heads": 3,
                    "num_kv_heads": 3,
                    "tie_embeddings": True,
                },
                "train": {**BIG["train"], "global_batch_tokens": 8192 * 3},
                "plan": {"cluster": {"accelerator": "h100", "per_node": 2}},
            },
            r"2 x h100 .*: of the layouts .* none can be run; 2 pipeline.*set model.tie_embeddings=false",
        ),
        (
            {"model": {"preset": "125m"}, "tokens": {**BIG["tokens"], "tokenizer": {"path": "hub/tokenizer"}}},
            r"plan.vocab_size: the tokenizer of tokens.tokenizer.path=hub/tokenizer is not read",
        ),
    ],
)
def test_what_cannot_be_planned_is_answered_with_the_key(sections: dict[str, Any], message: str) -> None:
    values = {k: v for k, v in sections.items() if k != "model"}
    whole = {**BIG, **values, "model": {**sections.get("model", BIG["model"]), "max_length": 8192}}
    with pytest.raises(UserError, match=message):
        answer(validate(RunConfig, whole))


def test_contradicting_questions_are_refused_before_anything() -> None:
    with pytest.raises(UserError, match=r"plan\.cluster is given"):
        config(plan={"cluster": {"accelerator": "h100"}, "days": 3.0})
    with pytest.raises(UserError, match=r"plan\.budget needs plan\.price_per_hour"):
        config(plan={"cluster": None, "budget": 3.0, "price_per_hour": None})


def node(**resources: float) -> dict[str, Any]:
    return {"Alive": True, "Resources": resources}


GPU_NODES = [node(**{"GPU": 8.0, "accelerator_type:A100-40G": 1.0}) for _ in range(8)]


def test_a_live_cluster_is_its_gpus_or_the_cpus_of_its_nodes() -> None:
    machines = of_nodes([*GPU_NODES, node(CPU=64.0), {**node(GPU=8.0), "Alive": False}], PlanConfig(), gpu=True)
    assert (machines.device.name, machines.nodes, machines.per_node) == ("a100-40", 8, 8)
    cpus = of_nodes([node(CPU=4.0, memory=12e9, object_store_memory=4e9)] * 2, PlanConfig(), gpu=False)
    assert (cpus.device.name, cpus.nodes, cpus.per_node, cpus.device.memory_bytes) == ("cpu", 2, 4, 4_000_000_000)
    with pytest.raises(UserError, match=r"plan.cluster=live: the Ray cluster has no GPUs; .*train.use_gpu=false"):
        of_nodes([node(CPU=4.0)], PlanConfig(), gpu=True)
    mixed = [*GPU_NODES, node(**{"GPU": 8.0, "accelerator_type:H100": 1.0})]
    with pytest.raises(UserError, match=r"several kinds \(a100-40, h100\)"):
        of_nodes(mixed, PlanConfig(), gpu=True)


def test_pretraining_refuses_what_cannot_fit_its_gpus_in_the_planners_words() -> None:
    with pytest.raises(
        UserError, match=r"A worker needs .* GB \(weights .*; 64 data, ZeRO 0, .*Most of it is .*raypt plan"
    ):
        refuse_what_cannot_fit(config(train={"zero": {"stage": 0}, "micro_batch_size": 1}), 64, GPU_NODES)
    full = {"zero": {"stage": 3}, "micro_batch_size": 1, "activation_checkpointing": "full"}
    refuse_what_cannot_fit(config(train=full), 64, GPU_NODES)
    # 8 B parameters over 4 devices: 14 bytes each of them at stage 3, of which only what is gathered stays.
    few = {**full, "workers": 4, "global_batch_tokens": 32_768}
    with pytest.raises(UserError, match=r"4 data, ZeRO 3"):
        refuse_what_cannot_fit(config(train=few), 4, GPU_NODES[:1])
    away = {"stage": 3, "offload_optimizer": "cpu", "offload_params": "cpu"}
    refuse_what_cannot_fit(config(train={**few, "zero": away}), 4, GPU_NODES[:1])
    unknown = [node(**{"GPU": 8.0, "accelerator_type:X9": 1.0})]
    refuse_what_cannot_fit(config(train={"zero": {"stage": 0}, "micro_batch_size": 1}), 64, unknown)


def test_pretraining_refuses_what_cannot_fit_the_memory_of_its_cpus() -> None:
    on_cpus = config(train={"use_gpu": False, "precision": "fp32", "micro_batch_size": 1})
    with pytest.raises(UserError, match="2 workers together; the cluster has 64 GB"):
        refuse_what_cannot_fit(on_cpus, 2, [node(CPU=16.0, memory=44e9, object_store_memory=20e9)])
    small = RunConfig()
    refuse_what_cannot_fit(small, 2, [node(CPU=2.0, memory=4e9, object_store_memory=1e9)])
