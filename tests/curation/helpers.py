"""Short ways to tag and decide in tests."""

from typing import Any

import pyarrow as pa

from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.tagger import Tagger


def table(texts: list[str | None], lang: str | None = "en", **columns: Any) -> pa.Table:
    n = len(texts)
    base = {"doc_key": pa.array(range(n), pa.int64()), "text": pa.array(texts, pa.string())}
    return pa.table({**base, "lang": pa.array([lang] * n, pa.string()), **columns})


def config(stage: str, **values: Any) -> CurationConfig:
    """A configuration of one stage alone."""
    return CurationConfig.model_validate({"stages": (stage,), stage: values})


def metrics(texts: list[str], stage: str, lang: str | None = "en", **values: Any) -> list[dict[str, Any]]:
    return Tagger(config(stage, **values)).tag(table(texts, lang)).column(stage).to_pylist()


def reasons(texts: list[str], stage: str, lang: str | None = "en", **values: Any) -> list[str | None]:
    settings = config(stage, **values)
    return decide(Tagger(settings).tag(table(texts, lang)), settings).to_pylist()


def edited(texts: list[str], stage: str, lang: str | None = "en", **values: Any) -> list[str]:
    return Tagger(config(stage, **values)).tag(table(texts, lang)).column("text").to_pylist()
