"""Stages of a user's own: twenty lines in a module, named in the configuration, without a fork.

The functions and the class below are the example of raypt/curation/README.md.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
from pydantic import ValidationError

from raypt import storage
from raypt.config_io import validate
from raypt.corpus.manifest import build_manifest
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.tagger import Tagger
from raypt.curation.tagging import tag
from raypt.curation.view import Measured, View
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir
from tests.curation.helpers import table

# --- the example


def shouting(batch: pa.Table) -> pa.Array:
    """A reason for documents without a single small letter."""
    small = pc.match_substring_regex(batch["text"], r"\p{Ll}")
    return pc.if_else(small, None, "no_small_letter")


def questions(batch: pa.Table) -> dict[str, pa.Array]:
    """A metric, bounded by `settings` of its entry in `curation.stages`."""
    return {"per_byte": pc.divide(pc.count_substring(batch["text"], "?"), byte_floats(batch["text"]))}


def byte_floats(text: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.max_element_wise(pc.binary_length(text), 1).cast(pa.float64())


class Ascii(RuleSettings):
    """A whole stage: settings with thresholds, and what they bound."""

    stage: ClassVar[str] = "ascii"
    metrics: ClassVar[tuple[str, ...]] = ("fraction",)

    fraction_min: float | None = 0.5
    """Smallest share of ASCII characters, by bytes."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        data, offsets = view.text.data, view.text.offsets
        plain = np.concatenate([[0], np.cumsum(data < 0x80)])
        return Measured(struct({"fraction": ratio(np.diff(plain[offsets]), np.diff(offsets))}))


# --- the tests

TEXTS = ["HELLO", "Why? What? Who?", "我们都会说中文", "a plain sentence of words"]


def decided(**curation: Any) -> list[str | None]:
    config = CurationConfig.model_validate({"stages": (), **curation})
    tagged = Tagger(config).tag(table(list(TEXTS)))
    reasons = decide(tagged, config)
    curation_ledger(tagged, reasons, config)
    return reasons.to_pylist()


def test_a_function_of_reasons_is_a_stage() -> None:
    assert decided(custom=[f"{__name__}:shouting"]) == [
        "shouting.no_small_letter", None, "shouting.no_small_letter", None,
    ]  # fmt: skip


def test_a_function_of_metrics_is_bounded_by_its_entry() -> None:
    entry = {"stage": f"{__name__}:questions", "settings": {"per_byte_max": 0.1}}
    assert decided(stages=[entry]) == [None, "questions.per_byte_max", None, None]


def test_a_class_is_a_stage_with_settings() -> None:
    assert decided(stages=[f"{__name__}:Ascii"]) == [None, None, "ascii.fraction_min", None]
    assert decided(stages=[{"stage": f"{__name__}:Ascii", "settings": {"fraction_min": None}}]) == [None] * 4
    entry = {"stage": f"{__name__}:Ascii@strict", "settings": {"fraction_min": 1.1}}
    assert decided(stages=[f"{__name__}:Ascii", entry])[0] == "ascii@strict.fraction_min"


def test_custom_stages_run_last_or_where_they_are_named() -> None:
    for stages, expected in ((["length"], ["length", "shouting"]), (["custom", "length"], ["shouting", "length"])):
        config = CurationConfig.model_validate({"stages": stages, "custom": [f"{__name__}:shouting"]})
        assert [stage.name for stage in config.plan()] == expected


@pytest.mark.parametrize(
    ("curation", "message"),
    [
        ({"custom": ["nowhere.at:all"]}, r"curation\.custom\[0\]=nowhere\.at:all: there is no module 'nowhere'"),
        ({"custom": [f"{__name__}:shoutin"]}, "did you mean shouting"),
        ({"stages": [f"{__name__}:TEXTS"]}, r"curation\.stages\[0\].* is a list, neither a class nor a function"),
        ({"stages": [f"{__name__}:Path"]}, "is a class, but not a stage"),
        (
            {"stages": [{"stage": f"{__name__}:Ascii", "settings": {"fracton_min": 1}}]},
            "its settings are wrong: fracton_min",
        ),
        (
            {"stages": [{"stage": f"{__name__}:questions", "settings": {"per_byte": 1}}]},
            "a threshold is named <metric>_min or <metric>_max",
        ),
    ],
)
def test_code_that_cannot_be_a_stage_is_named_before_any_work(curation: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CurationConfig.model_validate(curation)


def test_a_threshold_on_no_metric_of_a_function_raises() -> None:
    with pytest.raises(UserError, match="has no metric 'per_bite' that per_bite_max could bound; it returns per_byte"):
        decided(stages=[{"stage": f"{__name__}:questions", "settings": {"per_bite_max": 0.1}}])


def wrong_length(batch: pa.Table) -> pa.Array:
    return pa.array([1.0])


def wrong_reason(batch: pa.Table) -> pa.Array:
    return pa.array(["no good\n"] * len(batch))


@pytest.mark.parametrize(
    ("function", "message"),
    [("wrong_length", "a value for each of the 4 documents"), ("wrong_reason", "letters, digits and '_'")],
)
def test_what_a_function_returns_is_checked(function: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decided(custom=[f"{__name__}:{function}"])


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False)
    yield
    ray.shutdown()


def run_of(tmp_path: Path, function: str) -> Any:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    corpus = {"sources": [{"name": "s", "paths": str(tmp_path / "a.jsonl")}]}
    config = validate(RunConfig, {"corpus": corpus, "curation": {"stages": [], "custom": [function]}})
    run = RunDir(str(tmp_path / "run"))
    manifest = build_manifest(config.corpus, run.uri)
    storage.write_json(run.manifest, manifest.to_json())
    tag(run, manifest, config.corpus, config.curation, None, config.ray, "sizes")
    return decide(storage.read_parquet(run.tagged(0)), config.curation).to_pylist()


def test_workers_import_the_function_for_themselves(local_ray: None, tmp_path: Path) -> None:
    assert run_of(tmp_path, f"{__name__}:shouting").count("shouting.no_small_letter") == 2


def test_a_worker_without_the_module_ends_the_run_with_its_name(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here_only.py").write_text("from tests.curation.test_custom import shouting as function\n")
    monkeypatch.syspath_prepend(tmp_path)  # after Ray has told its workers where this process finds modules
    with pytest.raises(UserError, match="there is no module 'here_only'"):
        run_of(tmp_path, "here_only:function")


def test_an_order_that_switches_a_rule_off_is_refused() -> None:
    for stages, message in (
        (["gopher_quality", "language"], "stop_word_count_min would never apply; put language before it"),
        ([{"stage": "length", "when": {"lang": "en"}}, "language"], "asks for lang, which only language after it"),
        ([{"stage": "length", "when": {"c4.sentence_count": {"min": 2}}}, "c4"], "which only c4 after it"),
    ):
        with pytest.raises(ValidationError, match=message):
            CurationConfig.model_validate({"stages": stages})
    CurationConfig.model_validate({"stages": ["gopher_quality", "language"], "language": {"assume": "en"}})
    off = {"stages": ["gopher_quality", "language"], "gopher_quality": {"stop_word_count_min": None}}
    CurationConfig.model_validate(off)
