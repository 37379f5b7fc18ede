"""Exporting: a directory that holds one model, written block by block, with a tokenizer that does as was trained."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from raypt import storage
from raypt.corpus.config import CorpusConfig
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig, load_hf
from raypt.model.weights import WeightFiles
from raypt.tokens.config import PackingConfig, TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training import export, room
from raypt.training.bos import as_it_is_used, save_as_used
from raypt.training.checkpoint import reader
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import EvaluateConfig
from raypt.training.evaluate import evaluate_model
from raypt.training.export import choose_before, export_checkpoint
from tests.training import tiny_run
from tests.training.one_rank import checkpoint

torch.set_num_threads(1)
X = torch.arange(48)[None] % 300
MODEL = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, num_kv_heads=1, max_length=48)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    root = tmp_path_factory.mktemp("tokenizer")
    return prepare_tokenizer(tiny_run.write_text(root), TokenizerConfig(vocab_size=300), str(root / "tokenizer"), 0)


def run(root: Path, tokenizer: Tokenizer, *, seed: int = 0, add_bos: bool = False) -> tuple[CheckpointInfo, Llama]:
    model = Llama(MODEL.for_vocabulary(tokenizer.vocab_size)).initialise(seed)
    tokenizer.save(str(root / "tokenizer"))
    return checkpoint(root / "checkpoints", model, add_bos=add_bos), model


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"shard_bytes": 20_000}, {"shard_bytes": 1 << 30, "precision": "bf16"}),
        ({"shard_bytes": 1 << 30}, {"shard_bytes": 20_000}),
        ({"shard_bytes": 20_000}, {"shard_bytes": 30_000}),
    ],
)
def test_an_export_over_an_earlier_one_leaves_nothing_of_it(
    before: dict, after: dict, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "export"
    old, _ = run(tmp_path / "old", tokenizer, seed=1)
    new, model = run(tmp_path / "new", tokenizer, seed=2)
    export_checkpoint(old, str(tmp_path / "old" / "tokenizer"), str(out), **before)
    (out / "notes.txt").write_text("mine")
    export_checkpoint(new, str(tmp_path / "new" / "tokenizer"), str(out), **after)
    fresh = tmp_path / "fresh"
    export_checkpoint(new, str(tmp_path / "new" / "tokenizer"), str(fresh), **after)
    assert set(storage.listdir(str(out))) == {*storage.listdir(str(fresh)), "notes.txt"}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    ours = load_hf(str(out))
    tolerance = 0.05 if after.get("precision") == "bf16" else 1e-5  # bf16 keeps 8 bits of weights of some 0.02
    with torch.no_grad():
        torch.testing.assert_close(ours(X), model(X), atol=tolerance, rtol=0)
        torch.testing.assert_close(theirs(X).logits, ours(X), atol=1e-5, rtol=0)


def test_an_export_that_is_interrupted_is_no_model(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, _ = run(tmp_path, tokenizer)
    out = tmp_path / "export"
    export_checkpoint(info, str(tmp_path / "tokenizer"), str(out))

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "blocks_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(info, str(tmp_path / "tokenizer"), str(out))
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        load_hf(str(out))


def test_weights_of_two_exports_in_one_directory_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As an earlier version, or another program, may have left them."""
    info, _ = run(tmp_path, tokenizer)
    out = tmp_path / "export"
    export_checkpoint(info, str(tmp_path / "tokenizer"), str(out), shard_bytes=20_000)
    (out / "model.safetensors").write_bytes(next(out.glob("model-00001-of-*")).read_bytes())
    with pytest.raises(UserError, match=r"both model\.safetensors and model\.safetensors\.index\.json"):
        load_hf(str(out))


def test_the_memory_of_an_export_does_not_grow_with_the_model(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Two matrices of 61 MB in blocks of 4 MB: the most that is in memory is a few blocks. In a process of its own,
    where nothing else gives memory back or takes it.
    """
    tokenizer.save(str(tmp_path / "tokenizer"))
    code = f"from tests.training.test_export import export_in_blocks as f; print(f({str(tmp_path)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "export" / "model.safetensors").stat().st_size > 120e6
    # A block in fp32, the reads it is filled from and the chunks they are checked in: 4 MB each.
    assert float(done.stdout.splitlines()[-1]) < 32e6


def export_in_blocks(root: str) -> float:
    """Bytes of memory that the export of a large model takes beyond what was in use before it."""
    path, tokenizer = Path(root), Tokenizer.load(str(Path(root) / "tokenizer"))
    config = MODEL.model_copy(update={"vocab_size": 60_000, "hidden_size": 256, "tie_embeddings": False})
    info = checkpoint(path / "checkpoints", Llama(config).initialise(0))
    export.BLOCK = reader.BLOCK = 4 << 20
    small, _ = run(path / "small", tokenizer)
    export_checkpoint(small, str(path / "tokenizer"), str(path / "warm"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status("VmRSS")
    export_checkpoint(info, str(path / "tokenizer"), str(path / "export"))
    return _status("VmHWM") - before


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * float(line.split()[1])
    raise KeyError(key)


@pytest.mark.parametrize("add_bos", [True, False])
def test_the_exported_tokenizer_begins_a_text_as_documents_began_in_training(
    add_bos: bool, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    info, _ = run(tmp_path, tokenizer, add_bos=add_bos)
    out = tmp_path / "export"
    export_checkpoint(info, str(tmp_path / "tokenizer"), str(out))
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    plain = tokenizer.encode("the river")
    assert theirs("the river").input_ids == ([tokenizer.bos_id] if add_bos else []) + plain
    assert theirs("the river", add_special_tokens=False).input_ids == plain
    assert theirs.model_max_length == MODEL.max_length
    assert theirs.pad_token is not None
    assert Tokenizer.load(str(out)).adds_bos == add_bos
    generation = transformers.GenerationConfig.from_pretrained(out)
    assert (generation.bos_token_id, generation.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)


def with_template(tokenizer: Tokenizer, directory: Path) -> Tokenizer:
    """As published LLaMA tokenizers come: a post-processor that adds BOS, behind one that trims offsets."""
    save_as_used(tokenizer, str(directory), add_bos=True, max_length=8)
    file = directory / "tokenizer.json"
    raw = json.loads(file.read_text())
    trim = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    raw["post_processor"] = {"type": "Sequence", "processors": [trim, raw["post_processor"]]}
    file.write_text(json.dumps(raw))
    return Tokenizer.load(str(directory))


def test_a_tokenizer_that_adds_bos_is_trained_as_it_is_used_unless_it_is_said_otherwise(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    hub = with_template(tokenizer, tmp_path)
    assert as_it_is_used(PackingConfig(), hub).add_bos
    assert not as_it_is_used(PackingConfig(add_bos=False), hub).add_bos
    assert not as_it_is_used(PackingConfig(), tokenizer).add_bos


def test_a_model_trained_without_bos_on_such_a_tokenizer_exports_one_that_adds_none(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    hub = with_template(tokenizer, tmp_path / "hub")
    save_as_used(hub, str(tmp_path / "out"), add_bos=False, max_length=48)
    out = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert out.encode("the river").ids == tokenizer.encode("the river")
    kept = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["post_processor"]
    assert [p["type"] for p in kept["processors"]] == ["ByteLevel"]


def test_without_a_word_the_weights_are_of_the_type_that_the_run_computed_in(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    info, _ = run(tmp_path, tokenizer)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        meta = info.meta | {"precision": precision}
        out = str(tmp_path / precision)
        export_checkpoint(replace(info, meta=meta), str(tmp_path / "tokenizer"), out)
        assert {entry.dtype for entry in WeightFiles(out).entries.values()} == {dtype}
        assert storage.read_json(storage.join(out, "config.json"))["torch_dtype"] == str(dtype).removeprefix("torch.")


def test_a_model_too_large_for_this_machine_is_not_evaluated_by_one_process(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, model = run(tmp_path, tokenizer)
    export_checkpoint(info, str(tmp_path / "tokenizer"), str(tmp_path / "export"))
    nbytes = 4 * sum(p.numel() for p in model.parameters())
    monkeypatch.setattr(room, "free_bytes", lambda device: int(1.2 * nbytes) + 1)
    assert room.too_large(str(tmp_path / "export"), None, "cpu") is None
    monkeypatch.setattr(room, "free_bytes", lambda device: nbytes)
    with pytest.raises(UserError, match=r"evaluate\.model: the model of .* needs"):
        evaluate_model(EvaluateConfig(tasks=("any",)), CorpusConfig(), str(tmp_path))


def test_a_damaged_piece_ends_an_export_with_its_name(tokenizer: Tokenizer, tmp_path: Path) -> None:
    info, _ = run(tmp_path, tokenizer)
    file = Path(info.uri) / "rank-00000.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=str(file)):
        export_checkpoint(info, str(tmp_path / "tokenizer"), str(tmp_path / "export"))


def test_the_mean_of_checkpoints_is_exported_and_more_than_there_are_is_refused(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    infos, models = zip(*(run(tmp_path / str(seed), tokenizer, seed=seed) for seed in range(3)), strict=True)
    export_checkpoint(infos[2], str(tmp_path / "0" / "tokenizer"), str(tmp_path / "out"), mean_with=infos[:2])
    mean = load_hf(str(tmp_path / "out"))
    for name, p in mean.named_parameters():
        expected = torch.stack([model.get_parameter(name).detach().double() for model in models]).mean(dim=0)
        torch.testing.assert_close(p.detach(), expected.float(), rtol=1e-6, atol=1e-8)  # rounding of fp32 sums
    assert choose_before(str(tmp_path / "0" / "checkpoints"), infos[0], 0) == []
    with pytest.raises(UserError, match=r"export\.average=3: up to step 1 .* holds steps \[1\] alone"):
        choose_before(str(tmp_path / "0" / "checkpoints"), infos[0], 2)
