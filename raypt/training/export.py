"""From a checkpoint to what other people load: Hugging Face files, and a sample of generated text."""

import logging
from collections.abc import Sequence

import torch

from raypt import storage
from raypt.errors import UserError
from raypt.model import ModelConfig, export_hf, load_hf
from raypt.model.generation import generate
from raypt.model.llama import parameter_shapes
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.checkpoint.directory import latest_checkpoint, list_checkpoints
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.checkpoint.reader import CheckpointReader

log = logging.getLogger("raypt")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def export_checkpoint(
    info: CheckpointInfo, tokenizer_uri: str, out_uri: str, *, precision: str = "fp32", shard_bytes: int = 4 << 30
) -> None:
    """Write `model.safetensors` (or shards), `config.json` and the tokenizer's files to `out_uri`.

    Works for any number of workers and any ZeRO stage, one parameter at a time, with neither Ray nor DeepSpeed.
    """
    model = ModelConfig.model_validate(info.meta["model"])
    tokenizer = Tokenizer.load(tokenizer_uri)
    reader = CheckpointReader(info)
    shapes = parameter_shapes(model)
    tokenizer.save(out_uri)
    export_hf(
        model,
        lambda name: reader.full(name, shapes[name]),
        out_uri,
        dtype=DTYPES[precision],
        bos=tokenizer.bos_id,
        eos=tokenizer.eos_id,
        shard_bytes=shard_bytes,
    )
    log.info("exported step %d to %s", info.step, out_uri)


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


def generate_text(
    export_uri: str,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
) -> list[str]:
    """A continuation of each prompt by the exported model. An empty prompt starts from the BOS token, else EOS."""
    tokenizer = Tokenizer.load(export_uri)
    model = load_hf(export_uri)
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    texts = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt) or ([start] if start is not None else [])
        if not ids:
            raise UserError("an empty prompt needs a tokenizer with a BOS or EOS token")
        new = generate(
            model,
            ids,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=tokenizer.eos_id,
        )
        texts.append(tokenizer.decode(new))
    return texts


def write_sample(run_uri: str, export_uri: str, prompts: Sequence[str], *, seed: int = 0) -> list[dict[str, str]]:
    """Generate and keep a sample as `sample.json` in the run directory."""
    texts = generate_text(export_uri, prompts, seed=seed)
    sample = [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
    storage.write_json(storage.join(run_uri, "sample.json"), sample)
    return sample
