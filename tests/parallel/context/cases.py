"""What two ranks do in one launch, since importing DeepSpeed takes seconds."""

from typing import Any

from tests.parallel import meshes


def everything(cells: list[dict[str, Any]], steps: int, moves: list[dict[str, Any]], path: str) -> dict[str, Any]:
    return {
        "trained": meshes.run(cells, steps, path),
        "moved": meshes.chain(moves, path),
    }
