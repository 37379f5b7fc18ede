"""What ranks do where a model is judged on meshes, and what one process finds."""

from functools import partial
from pathlib import Path
from typing import Any

from raypt.corpus.config import CorpusConfig
from raypt.errors import UserError
from raypt.parallel.config import ParallelConfig, ZeroConfig
from raypt.parallel.state import Want
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.config import EvaluateConfig, TrainConfig
from raypt.training.evaluate import judge, sources_of
from raypt.training.judged import Judged
from raypt.training.judging import answer, judging
from raypt.training.starting_point import find_model
from raypt.training.starting_weights import HubState
from tests.training.tiny_run import LENGTH

PROMPTS = ("the river", "a stone walks under", "light")
MESHES: dict[str, tuple[ParallelConfig, int]] = {
    "tp2 pp2": (ParallelConfig(tensor=2, pipeline=2), 1),
    "tp2 dp2 zero3": (ParallelConfig(tensor=2), 3),
    "cp2 pp2": (ParallelConfig(context=2, pipeline=2), 0),
}
"""Mesh of four ranks and ZeRO stage, by name."""


def config_for(root: Path, out: Path) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {
            "sources": [
                {"name": name, "paths": str(root / f"{name}.txt"), "format": "lines"} for name in ("english", "chinese")
            ],
            "stride": 24,
            "batch_size": 3,
            "out": str(out),
        }
    )


def train_for(parallel: ParallelConfig, stage: int) -> TrainConfig:
    return TrainConfig(
        workers=4,
        global_batch_tokens=LENGTH * 16,
        micro_batch_size=2,
        parallel=parallel,
        zero=ZeroConfig.model_validate({"stage": stage}),
    )


def everything(model: Judged, tokenizer: Tokenizer, root: str, uri: str, out: str) -> dict[str, Any]:
    """Losses by source, scores of continuations, and texts, greedy and drawn, one of which ends early."""
    config = config_for(Path(root), Path(out))
    manifest = sources_of(config, CorpusConfig(), root)
    found = judge(model, tokenizer, config, CorpusConfig(), manifest, root, uri)
    ids = [tokenizer.encode(prompt) for prompt in PROMPTS]
    greedy = [model.generate(x, max_new_tokens=3) for x in ids]
    drawn = [model.generate(x, max_new_tokens=4, temperature=0.8, top_p=0.95, seed=3) for x in ids]
    drawn += [model.generate(ids[0], max_new_tokens=4, stop=greedy[0][1])]
    # One that is the likeliest, others that are not, one of no tokens, and one of a context that is cut.
    pairs = [(x, y) for x, y in zip(ids, greedy, strict=True)] + [(ids[0], ids[1]), (ids[1], []), (ids[2] * 40, ids[0])]
    scores = [[s.log_probability, s.is_greedy] for s in model.score(pairs)]
    return found | {"scores": scores, "greedy": greedy, "drawn": drawn}


def on_ranks(root: str, uri: str, out: str) -> dict[str, Any]:
    """By mesh: what rank 0 found, and how many elements of the weights this rank has read."""
    results: dict[str, Any] = {}
    read: list[int] = []
    whole = HubState._fill

    def counted(self: HubState, want: Want) -> None:
        read.append(want.key.box.numel)
        whole(self, want)

    HubState._fill = counted  # type: ignore[method-assign]
    found = find_model(uri, "evaluate.model")
    for name, (parallel, stage) in MESHES.items():
        read.clear()
        results[name] = {}

        def work(model: Judged, tokenizer: Tokenizer, name: str = name) -> None:
            results[name] |= everything(model, tokenizer, root, uri, str(Path(out) / f"{name}.json"))

        answer(judging(found, train_for(parallel, stage), LENGTH, work, workers=4, batch_size=3, max_length=LENGTH))
        results[name]["read"] = sum(read)
    results["refused"] = refused(found, partial(train_for, *MESHES["tp2 pp2"]))
    return results


def refused(found: Any, train: Any) -> str:
    """What a rank raises where rank 0's work does."""

    def work(model: Judged, tokenizer: Tokenizer) -> None:
        model.log_probability([([1], [2])])
        raise UserError("there is nothing in it")

    try:
        answer(judging(found, train(), LENGTH, work, workers=4))
    except UserError as e:
        return str(e)
    return ""
