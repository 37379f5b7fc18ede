"""From a base and what differs to the configuration of each variant."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raypt.config_io import apply_override, validate
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.curate import resolve_builtin
from raypt.run.study.config import Periods, RandomMixtures, StudyConfig, Variant

ELSEWHERE = ("run.name", "run.dir", "ray", "export", "evaluate", "plan")
"""Keys of a run that a variant cannot set: the study has one place and one cluster."""


@dataclass(frozen=True)
class Resolved:
    """A variant, with all settings of its runs."""

    name: str
    config: RunConfig
    weights: dict[str, float] | None = None
    """Shares of the groups, of a random mixture."""


def random_mixtures(config: RandomMixtures) -> list[tuple[Variant, dict[str, float]]]:
    """Dirichlet draws around equal shares, with the shares."""
    rng = np.random.default_rng(config.seed)
    out = []
    for i in range(config.count):
        drawn = rng.standard_gamma(np.full(len(config.groups), rng.uniform(*config.concentration)))
        shares = np.round(drawn / drawn.sum(), 3)
        weights = dict(zip(config.groups, (float(s) for s in shares), strict=True))
        out.append((Variant(name=f"mixture-{i:02d}", set={"tokens.mixture.weights": weights}), weights))
    return out


def of_periods(config: Periods) -> list[tuple[Variant, dict[str, float] | None]]:
    """A variant a period, which trains on nothing else."""
    return [(Variant(name=p, set={"tokens.mixture.weights": {p: 1.0}}), None) for p in config.naming.ranges]


def _grouped(base: Mapping[str, Any], periods: Periods) -> dict[str, Any]:
    """The base with its text in groups by period."""
    tree = copy.deepcopy(dict(base))
    mixture = tree.setdefault("tokens", {}).setdefault("mixture", {})
    if mixture.get("by") is not None:
        raise UserError("base.tokens.mixture.by: is that of `periods`; leave it out")
    mixture["by"] = [str(periods.naming)]
    return tree


def resolve(config: StudyConfig, base: Mapping[str, Any]) -> tuple[RunConfig, list[Resolved]]:
    """The base and the variants as runs of one worker. `base`: what was said of it, without defaults.

    Raises:
        UserError: a key that is none, a value that it does not take, tokens or FLOP that do not match.
    """
    drawn = random_mixtures(config.mixtures) if config.mixtures else []
    listed = [*((v, None) for v in config.variants), *drawn]
    if config.periods is not None:
        if config.variants or config.mixtures:
            raise UserError("study.kind=freshness: takes its variants from `periods`; leave the others empty")
        listed, base = of_periods(config.periods), _grouped(base, config.periods)
    if not listed and config.study.kind == "learned":
        listed = [(Variant(name="base"), None)]
    if not listed:
        raise UserError("variants: name one at least, with what it sets, or ask for random `mixtures`")
    out = []
    for i, (variant, weights) in enumerate(listed):
        where = f"variants[{i}] ({variant.name})"
        tree = copy.deepcopy(dict(base))
        defaults = RunConfig().model_dump(mode="json")
        for key, value in variant.set.items():
            if any(key == k or key.startswith(f"{k}.") for k in ELSEWHERE):
                raise UserError(f"{where}.set.{key}: is the study's, not a variant's")
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            try:
                apply_override(tree, f"{key}={text}", defaults, cls=RunConfig)
            except UserError as e:
                raise UserError(f"{where}.set: {e}") from None
        try:
            out.append(Resolved(variant.name, _of_one_worker(validate(RunConfig, tree), tree), weights))
        except UserError as e:
            raise UserError(f"{where}: {e}") from None
    reference = _of_one_worker(validate(RunConfig, dict(base)), base)
    return reference, _matched(config, out)


def reference_of(config: StudyConfig, variants: list[Resolved]) -> str:
    """Name of the variant that the others are held against."""
    return config.study.reference or variants[0].name


def _of_one_worker(config: RunConfig, said: Mapping[str, Any]) -> RunConfig:
    workers = (said.get("train") or {}).get("workers", 1)
    if workers != 1:
        raise UserError(
            f"train.workers={workers}: a study gives each training one worker, and runs many side by side; leave it out"
        )
    train = config.train.model_copy(update={"workers": 1, "tensorboard": False})
    return resolve_builtin(config.model_copy(update={"train": train}))


def flops_per_token(config: RunConfig, vocabulary: int) -> float:
    """Training FLOP of a token: forward and backward."""
    return config.model.for_vocabulary(vocabulary).flops_per_token(config.tokens.packing.sequence_length)


def _matched(config: StudyConfig, variants: list[Resolved]) -> list[Resolved]:
    if config.study.match is None:
        return variants
    reference = next(v for v in variants if v.name == reference_of(config, variants))
    tokens = reference.config.train.steps * reference.config.train.global_batch_tokens
    if config.study.match == "tokens":
        for v in variants:
            mine = v.config.train.steps * v.config.train.global_batch_tokens
            if mine != tokens:
                raise UserError(
                    f"study.match=tokens: {v.name} trains on {mine:,} tokens and {reference.name} on {tokens:,}; make "
                    "train.steps x train.global_batch_tokens equal, or set study.match=null"
                )
        return variants
    # The vocabulary is what each configures: FLOP are compared before a tokenizer is there.
    budget = tokens * flops_per_token(reference.config, reference.config.tokens.tokenizer.vocab_size)
    out = []
    for v in variants:
        a_step = v.config.train.global_batch_tokens * flops_per_token(v.config, v.config.tokens.tokenizer.vocab_size)
        train = v.config.train.model_copy(update={"steps": max(1, round(budget / a_step))})
        out.append(Resolved(v.name, v.config.model_copy(update={"train": train}), v.weights))
    return out
