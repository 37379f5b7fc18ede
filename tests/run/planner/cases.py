"""Shapes and settings whose memory is measured; `python -m tests.run.planner.cases` measures all of them on 1, 2 and 4
ranks and prints each beside the prediction (some minutes)."""

import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from raypt.model.config import ModelConfig
from raypt.parallel.config import ZeroConfig
from raypt.run.planner.answer import with_zero
from raypt.run.planner.memory import memory
from raypt.run.planner.shape import Layout, Shape
from raypt.run.planner.states import states

MODULE = "tests.run.planner.measured"
BUCKET, CHUNK, ACCUMULATION = 200_000, 64, 2
A_LAUNCH = 8


def _shape(
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    tied: bool = False,
    qk_norm: bool = False,
) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "intermediate_size": inner, "num_layers": layers, "num_heads": heads,
        "num_kv_heads": kv_heads, "vocab_size": vocab, "tie_embeddings": tied, "qk_norm": qk_norm,
    }  # fmt: skip


SHAPES: list[tuple[dict[str, Any], int, int]] = [
    (_shape(64, 160, 3, 4, 2, 512), 2, 128),
    (_shape(96, 256, 5, 6, 6, 320, tied=True), 3, 160),
    (_shape(128, 344, 2, 4, 1, 2048), 1, 256),
    (_shape(192, 512, 6, 6, 3, 1000, tied=True), 2, 96),
    (_shape(126, 300, 3, 7, 7, 777), 2, 128),
    (_shape(256, 512, 2, 8, 2, 512), 1, 64),
    (_shape(64, 128, 8, 2, 2, 4096, tied=True), 4, 128),
    (_shape(160, 416, 4, 5, 5, 640, qk_norm=True), 2, 192),
]
"""(shape, sequences of a micro-batch, their length)."""


def _case(which: int, stage: int, checkpointing: str, precision: str) -> dict[str, Any]:
    shape, micro, length = SHAPES[which]
    return {
        "shape": shape, "micro": micro, "length": length, "stage": stage, "checkpointing": checkpointing,
        "precision": precision, "chunk": CHUNK, "count": ACCUMULATION, "reduce_bucket_elements": BUCKET,
    }  # fmt: skip


def every() -> list[dict[str, Any]]:
    kinds, precisions = ("none", "selective", "full"), ("fp32", "bf16")
    return [_case(w, s, c, p) for w in range(len(SHAPES)) for p in precisions for s in range(4) for c in kinds]


def quick() -> list[dict[str, Any]]:
    """One of each stage, checkpointing and precision, over four shapes, and over a fifth an override and offloading.

    In bf16 the small ones: many a CPU multiplies that way 60 times as slowly.
    """
    chosen = [(0, 0, "none", "bf16"), (4, 1, "selective", "fp32"), (3, 2, "full", "fp32"), (7, 3, "none", "fp32")]
    chosen += [(0, 3, "selective", "bf16"), (6, 2, "none", "fp32"), (0, 2, "full", "bf16")]
    others = [{**each, "precision": "fp32"} for each in (overridden()[1], overridden()[-3])]
    return [*(_case(*each) for each in chosen), *others]


OVERRIDES: list[dict[str, Any]] = [
    {"stage3_param_persistence_threshold": 0},
    {"stage3_param_persistence_threshold": 20_000, "stage3_prefetch_bucket_size": 50_000},
    {"sub_group_size": 100_000},
]
"""What a person may write below `train.zero.deepspeed.zero_optimization` that changes memory at stage 3."""


def overridden() -> list[dict[str, Any]]:
    """Stage 3 with each of these, and what is offloaded to the memory that a CPU has anyway."""
    with_overrides = [
        {**_case(which, 3, "none", "bf16"), "deepspeed": {"zero_optimization": said}}
        for which, said in itertools.product((2, 5), OVERRIDES)
    ]
    offloaded = [(2, 1, "none", "bf16"), (2, 2, "none", "fp32"), (5, 3, "none", "bf16")]
    return [*with_overrides, *({**_case(*each), "offload_optimizer": "cpu"} for each in offloaded)]


def terms(case: dict[str, Any], world: int) -> tuple[Shape, Layout]:
    """A case in the planner's terms."""
    zero = {name: case[name] for name in case if name in ZeroConfig.model_fields}
    layout = Layout(
        data=world,
        zero=case["stage"],
        micro_batch=case["micro"],
        accumulation=case["count"],
        length=case["length"],
        checkpointing=case["checkpointing"],
        precision=case["precision"],
        attention="blocked",
        chunk=case["chunk"],
        fused_norms=False,
    )
    return Shape.of(ModelConfig.model_validate(case["shape"])), with_zero(layout, ZeroConfig(**zero), gpu=False)


def judged(case: dict[str, Any], world: int, found: list[dict[str, Any]]) -> tuple[str, bool]:
    """What the planner says beside what was found on every rank, and whether it is right."""
    shape, layout = terms(case, world)
    told = Counter(s.bytes for s in states(shape, layout))
    wrong = [there for value in found if (there := Counter(value["states"])) != told]
    ratio = memory(shape, layout, gpu=False).total / max(value["peak"] for value in found)
    right = not wrong and abs(ratio - 1) <= 0.1
    said = f"states {dict(wrong[0] - told)} {dict(told - wrong[0])}" if wrong else "states exact"
    extra = case.get("deepspeed", {}).get("zero_optimization", "") or case.get("offload_optimizer", "")
    return (
        f"{world} ranks h{shape.hidden:<4}{case['precision']} ZeRO {case['stage']} {case['checkpointing']:10}{said}, "
        f"peak {ratio:.3f} {extra}{'' if right else '   !'}",
        right,
    )


def main(worlds: list[int]) -> int:
    from tests.parallel.ranks import LONG_S, run_ranks

    wrong, todo = 0, [*every(), *overridden()]
    for world in worlds:
        for first in range(0, len(todo), A_LAUNCH):
            chosen = todo[first : first + A_LAUNCH]
            with tempfile.TemporaryDirectory() as tmp:
                ranks = run_ranks(world, MODULE, "measure_all", Path(tmp), limit_s=LONG_S, cases=chosen)
            for case, *found in zip(chosen, *ranks, strict=True):
                line, right = judged(case, world, found)
                wrong += not right
                print(line, flush=True)
    print(f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main([int(a) for a in sys.argv[1:]] or [1, 2, 4]))
