"""What a run with `train.init` begins from: found, and made to fit, before any work."""

from dataclasses import dataclass
from typing import Any

from raypt import storage
from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.model.hf import CONFIG, read_config
from raypt.model.llama import parameter_shapes
from raypt.tokens.tokenizer.loaders import load_any
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.manifest import MANIFEST, CheckpointInfo, read_info
from raypt.training.config import InitConfig, TrainConfig
from raypt.training.starting_weights import StartingWeights
from raypt.training.worker import CHECKPOINTS

MAY_DIFFER = {
    "preset", "vocab_size", "vocab_multiple", "max_length", "rope_theta", "rope_scaling", "init_std",
    "depth_scaled_init", "family",
}  # fmt: skip
"""Keys of `model` that may say otherwise than the weights: they change none of them."""


@dataclass(frozen=True)
class StartingPoint:
    """A model to begin from, and the tokenizer that it was trained with."""

    uri: str
    model: ModelConfig
    tokenizer_uri: str
    checkpoint: CheckpointInfo | None = None

    @property
    def adds_bos(self) -> bool:
        """Whether documents began with BOS, where a checkpoint says it; of other models the tokenizer does."""
        return self.checkpoint is not None and bool(self.checkpoint.meta.get("add_bos"))


def find(init: InitConfig) -> StartingPoint:
    """The model that `train.init.from` names. Raises as `find_model` does."""
    return find_model(init.source, "train.init.from")


def find_model(where: str, key: str) -> StartingPoint:
    """The model of a Hugging Face directory, of a checkpoint or, its newest one, of a run. `key` is where it stands in
    the configuration, for messages.

    Raises:
        UserError: there is none, or it is of a family that raypt does not compute.
    """
    uri = storage.absolute(where)
    if storage.exists(storage.join(uri, CONFIG)):
        return StartingPoint(uri, read_config(uri)[0], uri)
    if storage.exists(storage.join(uri, MANIFEST)):
        info, run_uri = read_info(uri), uri.rsplit("/", 2)[0]
    else:
        info, run_uri = latest_checkpoint(storage.join(uri, CHECKPOINTS)), uri
    if info is None:
        raise UserError(
            f"{key}: {uri} holds no model: neither {CONFIG} (a Hugging Face directory) nor {MANIFEST} (a "
            f"checkpoint) nor {CHECKPOINTS}/ with a whole checkpoint in it (a run)"
        )
    model = ModelConfig.model_validate(info.meta["model"])
    return StartingPoint(info.uri, model, storage.join(run_uri, "tokenizer"), info)


def check_fit(found: StartingPoint, train: TrainConfig, wanted: ModelConfig) -> None:
    """Raises UserError if `wanted` is another shape than what was found, or the optimizer's state is asked for and not
    there.
    """
    _same_shape(found, _said(wanted))
    _check_optimizer(found, train)


def shape(found: StartingPoint, wanted: ModelConfig) -> ModelConfig:
    """The shape of what was found with what `wanted` says of positions, length and vocabulary."""
    said = _said(wanted)
    kept = ("max_length", "rope_theta", "rope_scaling", "vocab_multiple", "vocab_size")
    return ModelConfig.model_validate(found.model.model_dump() | {name: said[name] for name in kept if name in said})


def _said(wanted: ModelConfig) -> dict[str, Any]:
    """What the configuration says of the model: a key that has its default says nothing."""
    fields = ModelConfig.model_fields.items()
    return {n: value for n, field in fields if (value := getattr(wanted, n)) != field.get_default()}


def fitted(
    found: StartingPoint, train: TrainConfig, wanted: ModelConfig, tokenizer: Tokenizer
) -> tuple[ModelConfig, StartingWeights]:
    """The model to train, and the weights that it begins from: the shape of what was found, with the vocabulary of
    `tokenizer`, and with what `wanted` says of positions and length.

    Raises:
        UserError: the tokenizer gives known tokens other ids.
    """
    assert train.init is not None
    known = None
    rows = _rows(found, _said(wanted).get("vocab_size"), wanted.vocab_multiple, tokenizer)
    if rows != found.model.vocab or train.init.tokenizer is not None:
        known = min(_known(found, tokenizer), found.model.vocab)
    model = shape(found, wanted).model_copy(update={"vocab_size": rows})
    assert known is not None or parameter_shapes(model) == parameter_shapes(found.model)
    weights = StartingWeights(
        found.uri,
        is_checkpoint=found.checkpoint is not None,
        model=found.model,
        known_tokens=known,
        optimizer=train.init.optimizer,
    )
    return model, weights


def _same_shape(found: StartingPoint, said: dict[str, Any]) -> None:
    wrong = {
        name: value for name, value in said.items() if name not in MAY_DIFFER and getattr(found.model, name) != value
    }
    if wrong.get("head_dim") == found.model.head_width:
        del wrong["head_dim"]
    if wrong:
        raise UserError(
            f"train.init.from: the weights of {found.uri} have "
            + ", ".join(f"{name}={getattr(found.model, name)}" for name in wrong)
            + ", and the configuration says "
            + ", ".join(f"model.{name}={value}" for name, value in wrong.items())
            + "; leave these keys out, the weights say them"
        )


def _rows(found: StartingPoint, said: int | None, multiple: int, tokenizer: Tokenizer) -> int:
    """Of the vocabulary's matrices: those there are, or more."""
    there, size = found.model.vocab, tokenizer.vocab_size
    if said is None:
        return there if size <= there else -(-size // multiple) * multiple
    if said < max(there, size):
        raise UserError(
            f"model.vocab_size={said}: the weights of {found.uri} have {there} rows and the tokenizer has {size} ids; "
            "leave it out, or raise it"
        )
    return said


def _known(found: StartingPoint, tokenizer: Tokenizer) -> int:
    """How many ids the model knows; the tokenizer must give them to the same tokens."""
    old = load_any(found.tokenizer_uri)
    for i in range(old.vocab_size):
        was, now = old.backend.id_to_token(i), tokenizer.backend.id_to_token(i)
        if was is not None and was != now:
            raise UserError(
                f"train.init.tokenizer: id {i} is {was!r} to the model of {found.uri} and {now!r} to this tokenizer; "
                "new tokens can be added behind the known ones only"
            )
    return old.vocab_size


def _check_optimizer(found: StartingPoint, train: TrainConfig) -> None:
    if train.init is None or not train.init.optimizer:
        return
    if found.checkpoint is None:
        raise UserError(
            f"train.init.optimizer: {found.uri} holds weights alone; leave it unset, or begin from a run's checkpoint"
        )
    if (kind := found.checkpoint.meta["optimizer"]) != train.optimizer.kind:
        raise UserError(
            f"train.init.optimizer: {found.uri} holds the state of {kind}, and train.optimizer.kind="
            f"{train.optimizer.kind}; take {kind}, or leave train.init.optimizer unset"
        )
