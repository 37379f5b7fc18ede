"""From a checkpoint to what other people load: Hugging Face files."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from raypt import storage
from raypt.errors import UserError
from raypt.model import ModelConfig, export_hf
from raypt.model.hf import CONFIG
from raypt.model.llama import parameter_shapes
from raypt.model.weights import BLOCK, is_weight_file, runs
from raypt.parallel.state import MASTER, Box, StateKey, Want
from raypt.tokens.tokenizer.tokenizer import CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE, load_tokenizer
from raypt.training.bos import save_as_used
from raypt.training.checkpoint.directory import latest_checkpoint, list_checkpoints
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.checkpoint.reader import CheckpointReader

log = logging.getLogger("raypt")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GENERATION = "generation_config.json"
_OTHERS = (GENERATION, TOKENIZER_FILE, CONFIG_FILE, MODEL_FILE, "special_tokens_map.json", "chat_template.jinja")
"""Files of a model directory besides its weights."""


def export_checkpoint(
    info: CheckpointInfo,
    tokenizer_uri: str,
    out_uri: str,
    *,
    precision: str | None = None,
    shard_bytes: int = 4 << 30,
    mean_with: Sequence[CheckpointInfo] = (),
) -> None:
    """Write `model.safetensors` (or shards), `config.json`, `generation_config.json` and the tokenizer's files to
    `out_uri`, which then holds nothing of an earlier export. The tokenizer puts BOS before a text if documents began
    with it in training. `precision` None: that the run computed in. `mean_with`: other checkpoints of the same run; the
    weights are the mean of all, in fp32.

    Works for any number of workers and any ZeRO stage, with neither Ray nor DeepSpeed, block by block: some hundred
    megabytes of memory, whatever the model's size.
    """
    model = ModelConfig.model_validate(info.meta["model"])
    tokenizer = load_tokenizer(tokenizer_uri)
    reader = CheckpointReader(info)
    clear(out_uri)
    save_as_used(tokenizer, out_uri, add_bos=info.meta.get("add_bos", False), max_length=model.max_length)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    storage.write_json(storage.join(out_uri, GENERATION), {k: v for k, v in ids.items() if v is not None})
    export_hf(
        model,
        mean_of([blocks_of(r, model) for r in (reader, *map(CheckpointReader, mean_with))]),
        out_uri,
        dtype=DTYPES[precision or info.meta["precision"]],
        bos=tokenizer.bos_id,
        eos=tokenizer.eos_id,
        shard_bytes=shard_bytes,
        cleared=True,
    )
    log.info("exported step %d to %s", info.step, out_uri)


def clear(uri: str) -> None:
    """Delete what an earlier export has left in a directory, `config.json` first: half of it is no model."""
    names = storage.listdir(uri)
    if CONFIG in names:
        storage.remove_file(storage.join(uri, CONFIG))
    storage.remove_files(uri, [name for name in names if name in _OTHERS or is_weight_file(name)])


def blocks_of(reader: CheckpointReader, model: ModelConfig) -> Callable[[str], Iterator[Tensor]]:
    """The master weights, as `export_hf` takes them. Small ones that it asks for one after the other are read together,
    a quarter of BLOCK at most: they lie together.
    """
    shapes = parameter_shapes(model)
    names, most = list(shapes), BLOCK // 16
    ahead: dict[str, Tensor] = {}

    def read_from(first: str) -> None:
        ahead.clear()
        wants, left = [], most
        for name in itertools.islice(names, names.index(first), None):
            whole = Box.whole(shapes[name])
            if (left := left - whole.numel) < 0:
                break
            ahead[name] = torch.empty(whole.numel)
            wants.append(Want(StateKey(name, MASTER, whole), ahead[name].view(whole.shape)))
        reader.read(wants)

    def values(name: str) -> Iterator[Tensor]:
        whole = Box.whole(shapes[name])
        if whole.numel <= most:
            if name not in ahead:
                read_from(name)
            yield ahead.pop(name)
            return
        for start, numel in runs(whole.numel, BLOCK // 4):
            flat, at, wants = torch.empty(numel), 0, []
            for box in whole.run(start, numel):
                wants.append(Want(StateKey(name, MASTER, box), flat[at : at + box.numel].view(box.shape)))
                at += box.numel
            reader.read(wants)
            yield flat

    return values


def mean_of(models: Sequence[Callable[[str], Iterator[Tensor]]]) -> Callable[[str], Iterator[Tensor]]:
    """The mean of several models, block by block, as `export_hf` takes it; one is itself, bit for bit."""
    if len(models) == 1:
        return models[0]

    def values(name: str) -> Iterator[Tensor]:
        for blocks in zip(*(model(name) for model in models), strict=True):
            yield sum(blocks[1:], blocks[0]) / len(blocks)

    return values


def choose_before(checkpoints_uri: str, info: CheckpointInfo, count: int) -> list[CheckpointInfo]:
    """The `count` checkpoints before one, newest first. Raises UserError with the steps there are."""
    if not count:
        return []
    found = [other for other in list_checkpoints(checkpoints_uri) if other.step <= info.step]
    before = [other for other in reversed(found) if other.step < info.step][:count]
    if len(before) < count:
        raise UserError(
            f"export.average={count + 1}: up to step {info.step} {checkpoints_uri} holds steps "
            f"{[other.step for other in found]} alone; lower it, or keep more (train.checkpoint.keep_last)"
        )
    return before


def choose_checkpoint(checkpoints_uri: str, step: int | None) -> CheckpointInfo:
    """The newest checkpoint, or that of one step. Raises UserError with the steps there are."""
    if step is None:
        newest = latest_checkpoint(checkpoints_uri)
        if newest is None:
            raise UserError(f"{checkpoints_uri}: there is no whole checkpoint; has the run saved one yet?")
        return newest
    found = list_checkpoints(checkpoints_uri)
    for info in reversed(found):
        if info.step == step:
            return info
    raise UserError(f"{checkpoints_uri}: no checkpoint of step {step}; there are {[info.step for info in found]}")
