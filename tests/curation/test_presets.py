"""The tables of raypt/curation/README.md say, preset by preset, what the code does: stages in order, every value."""

import re
from pathlib import Path
from typing import Any

import pytest

import raypt.curation
from raypt.curation.config import CurationConfig
from raypt.curation.presets import PRESETS
from raypt.curation.rules.base import RuleSettings

README = Path(raypt.curation.__path__[0]) / "README.md"
PUBLISHED = [name for name in PRESETS if name != "documentation"]  # a recipe of raypt's own


def values(config: CurationConfig, stage: str) -> dict[str, Any]:
    """What a stage does in a preset: the thresholds that are on, the numbers and switches of its edits."""
    section = getattr(config, stage)
    if stage == "language":
        found = {"keep": " ".join(section.keep or ()), "score_min": section.score_min}
        return {key: value for key, value in found.items() if value not in (None, "")}
    if stage == "quality":
        return {k: v for k, v in section.threshold.model_dump().items() if isinstance(v, float | int)}
    if stage == "pii":
        return {"kinds": " ".join(section.kinds)}
    assert isinstance(section, RuleSettings)
    return {k: v for k, v in section.model_dump().items() if isinstance(v, bool | float | int)}


def stated(preset: str) -> list[tuple[str, dict[str, str], str]]:
    """Rows of the table of a preset: stage, values, source."""
    (part,) = re.findall(rf"^#### `{preset}`\n(.*?)(?=^#|\Z)", README.read_text("utf-8"), re.M | re.S)
    rows = re.findall(r"^\| `(\w+)` \| (.*)\| (.+) \|$", part, re.M)
    return [(stage, dict(re.findall(r"`(\w+)=([^`]*)`", listed)), source) for stage, listed, source in rows]


@pytest.mark.parametrize("preset", PUBLISHED)
def test_the_table_of_a_preset_is_what_the_preset_does(preset: str) -> None:
    config = CurationConfig.model_validate({"preset": preset})
    rows = stated(preset)
    assert [stage for stage, _, _ in rows] == list(config.stages)
    for stage, listed, _ in rows:
        assert listed == {key: str(value) for key, value in values(config, stage).items()}, stage
