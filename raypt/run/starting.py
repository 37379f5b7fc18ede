"""Continued pretraining: the configuration of a run that begins from the weights of another model."""

from raypt import storage
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.training.starting_point import StartingPoint, check_fit, context, find


def with_start(config: RunConfig) -> tuple[RunConfig, StartingPoint | None]:
    """The configuration with the tokenizer of the model that `train.init` names, and that model; as it is without one.

    Raises:
        UserError: there is no such model, or the configuration asks for another tokenizer or shape.
    """
    init = config.train.init
    if init is None:
        return config, None
    found = find(init)
    check_fit(found, config.train, config.model)
    length, declared = config.tokens.packing.sequence_length, context(found, config.model)
    if length > declared:
        raise UserError(
            f"tokens.packing.sequence_length={length} is more than the {declared} tokens of context of the model of "
            f"{found.uri}; raise model.max_length (and see to its rotary positions)"
        )
    tokenizer, path = config.tokens.tokenizer, storage.absolute(init.tokenizer or found.tokenizer_uri)
    if tokenizer.path is not None and storage.absolute(tokenizer.path) != path:
        raise UserError(
            f"tokens.tokenizer.path={tokenizer.path}: with train.init the tokenizer is that of the model, {path}; "
            "leave it out, or set train.init.tokenizer to one that has more tokens"
        )
    tokens = config.tokens.model_copy(update={"tokenizer": tokenizer.model_copy(update={"path": path})})
    return config.model_copy(update={"tokens": tokens}), found
