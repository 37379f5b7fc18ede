"""What the tests of this room share: a curated corpus, its tokenizer, plans of stores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raypt.tokens.config import TokensConfig
from raypt.tokens.stream.spec import StorePlan, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from tests.tokens.helpers import small_config, write_parts

PlanMaker = Callable[..., tuple[StorePlan, TokensConfig, str]]


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Five parts: web in all of them, books in four."""
    sources = [["web" if (i + j) % 3 or i == 4 else "books" for j in range(20 + 5 * i)] for i in range(5)]
    return write_parts(tmp_path_factory.mktemp("curated"), sources)


@pytest.fixture(scope="session")
def tokenizer_uri(curated: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("tokenizer"))
    prepare_tokenizer(curated, small_config().tokenizer, uri, seed=0)
    return uri


@pytest.fixture
def make_plan(curated: list[str], tokenizer_uri: str, tmp_path: Path) -> PlanMaker:
    """The plan of an empty store in a directory of its own, with its configuration and tokenizer directory."""

    def make(name: str = "store", **overrides: Any) -> tuple[StorePlan, TokensConfig, str]:
        config = small_config(**overrides)
        plan = prepare_store(curated, Tokenizer.load(tokenizer_uri), config, str(tmp_path / name), seed=0)
        return plan, config, tokenizer_uri

    return make
