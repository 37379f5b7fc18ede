"""raypt.run.config: what reading a configuration costs."""

import subprocess
import sys

HEAVY = ("ray", "torch", "numba", "deepspeed", "pandas", "scipy", "tokenizers", "transformers")
"""What a configuration needs nothing of: with them its import took 1.3 s on an idle core, without 0.3 s."""


def test_a_configuration_is_read_without_ray_torch_and_compilers() -> None:
    code = f"import sys; import raypt.run.config; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
