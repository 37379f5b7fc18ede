"""From a study's file to the configuration of each variant, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from raypt.config_help import documented
from raypt.config_io import read
from raypt.errors import UserError
from raypt.run.study.config import RandomMixtures, StudyConfig
from raypt.run.study.variants import Resolved, random_mixtures, resolve

READY = sorted((Path(__file__).parents[3] / "jobs" / "configs" / "studies").glob("*.yaml"))
SMALL = {"train": {"steps": 20, "global_batch_tokens": 2048}, "corpus": {"sources": [{"paths": ["x.jsonl"]}]}}


def resolved(tmp_path: Path, **study: Any) -> list[Resolved]:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"base": SMALL} | study))
    loaded = read(StudyConfig, str(tmp_path / "study.yaml"), [])
    return resolve(loaded.config, loaded.tree["base"])[1]


@pytest.mark.parametrize("path", READY, ids=lambda p: p.stem)
def test_ready_studies_resolve(path: Path) -> None:
    loaded = read(StudyConfig, str(path), [])
    _, variants = resolve(loaded.config, loaded.tree["base"])
    assert len({v.name for v in variants}) == len(variants)
    assert (len(variants) > 1) == (loaded.config.study.kind != "learned")
    assert loaded.config.study.question
    assert all(v.config.train.workers == 1 for v in variants)


def test_a_variant_is_the_base_and_what_it_sets(tmp_path: Path) -> None:
    sets = {"train.optimizer.lr": 1e-4, "curation.stages": ["c4"], "corpus.sources[0].weight": 2, "train.steps": "20"}
    base, other = resolved(tmp_path, variants=[{"name": "a"}, {"name": "b", "set": sets}])
    assert base.config.train.optimizer.lr == 3e-3
    assert other.config.train.optimizer.lr == 1e-4
    assert other.config.corpus.sources[0].weight == 2
    assert other.config.curation.stages == ("c4",)
    assert other.config.train.steps == base.config.train.steps == 20


def test_a_preset_fills_in_for_what_nobody_said(tmp_path: Path) -> None:
    a, b = resolved(tmp_path, variants=[{"name": "a"}, {"name": "b", "set": {"curation.preset": "fineweb"}}])
    assert a.config.curation.stages != b.config.curation.stages
    assert "fineweb" in b.config.curation.stages


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({}, "variants: name one at least"),
        (
            {"variants": [{"name": "a", "set": {"train.stesp": 3}}]},
            "variants[0] (a): train.stesp: unknown key; did you",
        ),
        ({"variants": [{"name": "a", "set": {"train.steps": -3}}]}, "variants[0] (a): train.steps: "),
        ({"variants": [{"name": "a", "set": {"run.dir": "x"}}]}, "is the study's, not a variant's"),
        ({"variants": [{"name": "a", "set": {"train.workers": 2}}]}, "a study gives each training one worker"),
        (
            {"variants": [{"name": "a"}, {"name": "b", "set": {"train.steps": 40}}]},
            "study.match=tokens: b trains on 81,920 tokens and a on 40,960",
        ),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variants: two have one name"),
        ({"variants": [{"name": "a"}], "study": {"reference": "z"}}, "study.reference=z: the variants are a"),
        ({"variants": [{"name": "a"}], "study": {"gpus_per_training": 0.5}}, "go together"),
        ({"variants": [{"name": "a"}], "study": {"seeds": [1, 1]}}, "each once"),
        (
            {"variants": [{"name": "a"}, {"name": "b", "against": "c"}]},
            "variants[1].against=c: the other variants are a",
        ),
        ({"variants": [{"name": "a", "against": "a"}]}, "variants[0].against=a: the other variants are "),
        ({"variants": [{"name": "a", "held_out": True}]}, "variants[].held_out: is for study.kind=scale"),
        ({"study": {"kind": "freshness"}}, "study.kind=freshness and `periods` go together"),
        ({"variants": [{"name": "a"}], "heldout": {"fractoin": 0.1}}, "did you mean heldout.fraction?"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, study: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as e:
        resolved(tmp_path, **study)
    assert said in str(e.value)


def test_equal_compute_gives_a_larger_model_fewer_steps(tmp_path: Path) -> None:
    large = {"model.hidden_size": 384, "model.intermediate_size": 1024}
    study = {"match": "compute"}
    a, b = resolved(tmp_path, study=study, variants=[{"name": "a"}, {"name": "b", "set": large}])
    flops = []
    for v in (a, b):
        model = v.config.model.for_vocabulary(v.config.tokens.tokenizer.vocab_size)
        tokens = v.config.train.steps * v.config.train.global_batch_tokens
        flops.append(tokens * model.flops_per_token(v.config.tokens.packing.sequence_length))
    assert b.config.train.steps < a.config.train.steps
    assert flops[1] == pytest.approx(flops[0], rel=0.5 / b.config.train.steps)


def test_random_mixtures_are_shares_and_the_same_each_time() -> None:
    config = RandomMixtures(count=200, groups=("a", "b", "c"))
    drawn = random_mixtures(config)
    assert drawn == random_mixtures(config)
    assert all(sum(w.values()) == pytest.approx(1, abs=2e-3) for _, w in drawn)  # three roundings to .001
    for group in config.groups:
        mean = sum(w[group] for _, w in drawn) / 200
        assert mean == pytest.approx(1 / 3, abs=0.06)  # 200 draws of deviation .25: three of the mean's deviations


def test_every_key_of_a_study_says_what_it_means() -> None:
    assert not [key for key, doc in documented(StudyConfig) if not doc]
