"""Continued pretraining: the configuration of a run that begins from the weights of another model."""

from typing import TYPE_CHECKING

from raypt import storage
from raypt.errors import UserError
from raypt.run.config import RunConfig

if TYPE_CHECKING:  # runs that begin from nothing are spared torch, a second on an idle core
    from raypt.training.starting_point import StartingPoint


def with_start(config: RunConfig) -> "tuple[RunConfig, StartingPoint | None]":
    """The configuration with the tokenizer of the model that `train.init` names, and that model; as it is without one.
    Documents begin with BOS where nothing is said and they did for that model.

    Raises:
        UserError: there is no such model, or the configuration asks for another tokenizer or shape.
    """
    init = config.train.init
    if init is None:
        return config, None
    from raypt.training.starting_point import check_fit, find, shape

    found = find(init)
    check_fit(found, config.train, config.model)
    packing, declared = config.tokens.packing, shape(found, config.model).max_length
    if packing.sequence_length > declared:
        raise UserError(
            f"tokens.packing.sequence_length={packing.sequence_length} is more than the {declared} tokens of context "
            f"of the model of {found.uri}; raise model.max_length (and see to its rotary positions)"
        )
    tokenizer, path = config.tokens.tokenizer, storage.absolute(init.tokenizer or found.tokenizer_uri)
    if tokenizer.path is not None and storage.absolute(tokenizer.path) != path:
        raise UserError(
            f"tokens.tokenizer.path={tokenizer.path}: with train.init the tokenizer is that of the model, {path}; "
            "leave it out, or set train.init.tokenizer to one that has more tokens"
        )
    if found.adds_bos and "add_bos" not in packing.model_fields_set:
        packing = packing.model_copy(update={"add_bos": True})
    tokens = config.tokens.model_copy(
        update={"tokenizer": tokenizer.model_copy(update={"path": path}), "packing": packing}
    )
    return config.model_copy(update={"tokens": tokens}), found


def as_planned(config: RunConfig, found: "StartingPoint | None") -> RunConfig:
    """The configuration with the shape that the weights have, for what is said of memory and time before tokens are
    known: rows for new tokens are left out.
    """
    if found is None:
        return config
    from raypt.training.starting_point import shape

    return config.model_copy(update={"model": shape(found, config.model)})
