"""A user's own mixture: the function's shares are those of the stream, and its mistakes are told with its name."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raypt.errors import UserError
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.tokens.config import MixtureConfig
from raypt.tokens.shares import own_shares
from raypt.tokens.stream.spec import check_fingerprint, mixture_of, plan_stream
from tests.tokens.conftest import PlanMaker

pytestmark = pytest.mark.fast

HERE = "tests.tokens.test_shares"
SIZES = {"wiki": 10, "books": 40, "web": 1000}
_COUNTER = itertools.count(1)

# --- the example of docs/data.md

BUDGET = 400


def unimax(sizes: dict[str, int]) -> dict[str, float]:
    """As even as can be with at most four passes over any group (Chung et al. 2023)."""
    left, shares = BUDGET, {}
    for i, (group, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        shares[group] = min(left / (len(sizes) - i), 4 * size)
        left -= shares[group]
    return shares


# --- what goes wrong


def failing(sizes: dict[str, int]) -> dict[str, float]:
    return {"web": 1 / sizes["papers"]}


def wandering(sizes: dict[str, int]) -> dict[str, float]:
    return {"web": 1.0, "books": float(next(_COUNTER))}


def strange(sizes: dict[str, int]) -> dict[str, float]:
    return {"papers": 1.0}


def negative(sizes: dict[str, int]) -> dict[str, float]:
    return {"web": -1.0}


def worded(sizes: dict[str, int]) -> dict[str, Any]:
    return {"web": "much"}


def nothing(sizes: dict[str, int]) -> dict[str, float]:
    return {}


def listed(sizes: dict[str, int]) -> list[float]:
    return [1.0, 2.0]


def test_the_shares_of_the_stream_are_the_functions(make_plan: PlanMaker) -> None:
    plan, config, _ = make_plan(mixture={"weights": f"{HERE}:halves"})
    sources, phases = mixture_of(plan, config.mixture, 32)
    total = sum(phases[0].weights)
    found = {s.name: w / total for s, w in zip(sources, phases[0].weights, strict=True)}
    assert found == {"books": pytest.approx(0.25), "web": pytest.approx(0.75)}


def halves(sizes: dict[str, int]) -> dict[str, float]:
    """The first by name has a third of the second's share."""
    return dict(zip(sizes, (1.0, 3.0), strict=True))


def test_groups_come_by_name_whatever_their_order_and_even_shares_end_at_four_passes() -> None:
    assert own_shares(f"{HERE}:unimax", SIZES) == {"books": 160.0, "web": 200.0, "wiki": 40.0}
    assert own_shares(f"{HERE}:unimax", dict(reversed(SIZES.items()))) == own_shares(f"{HERE}:unimax", SIZES)
    assert list(own_shares(f"{HERE}:unimax", SIZES)) == sorted(SIZES)


def test_a_stream_is_continued_with_the_same_shares_alone(
    make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def stream(module: str, share: int) -> str:
        (tmp_path / f"{module}.py").write_text(f"def shares(sizes):\n    return {{'web': {share}, 'books': 1}}\n")
        plan, config, _ = make_plan(name=module, mixture={"weights": f"{module}:shares"})
        return plan_stream(plan, config, samples=100, global_batch=8, ranks=(1, 2)).fingerprint

    first = stream("mixture_one", 3)
    assert stream("mixture_two", 3) == first
    with pytest.raises(UserError, match=r"(?s)another stream.*\n  mixture: was"):
        check_fingerprint(first, stream("mixture_three", 4))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("failing", r"test_shares:failing failed at .*test_shares\.py:\d+: KeyError: 'papers'"),
        ("wandering", "test_shares:wandering gives other shares when it is called again"),
        ("strange", r"test_shares:strange gives a share to 'papers', which is none of the groups \['books', 'web'"),
        ("negative", r"test_shares:negative gives 'web' the share -1\.0; it must be a number >= 0"),
        ("worded", "test_shares:worded gives 'web' the share 'much'"),
        ("nothing", "test_shares:nothing gives no group of .* a share above 0"),
        ("listed", "test_shares:listed must return a mapping from group to share, not a list"),
        ("BUDGET", "test_shares:BUDGET is a int, not a function"),
    ],
)
def test_what_a_function_does_wrong_is_told_with_its_name(name: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"tokens\.mixture\.weights=tests\.tokens\.{said}"):
        own_shares(f"{HERE}:{name}", SIZES)


def test_a_function_that_is_not_there_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    settings = {"corpus": {"sources": [{"name": "a", "paths": str(tmp_path / "a.txt")}]}}
    config = RunConfig.model_validate({**settings, "tokens": {"mixture": {"weights": f"{HERE}:unimx"}}})
    with pytest.raises(UserError, match=r"has no 'unimx'; did you mean unimax\?"):
        check(config)


def test_a_name_of_another_form_is_no_function() -> None:
    with pytest.raises(ValidationError, match=r"write it as package\.module:name"):
        MixtureConfig.model_validate({"weights": "unimax"})
