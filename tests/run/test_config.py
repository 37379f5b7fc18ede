"""raypt.run.config: what reading a configuration costs."""

import subprocess
import sys

import pytest

HEAVY = ("ray", "torch", "numba", "deepspeed", "pandas", "scipy", "tokenizers", "transformers")
"""What a configuration needs nothing of: with them its import took 1.3 s on an idle core, without 0.3 s."""


def test_a_configuration_is_read_without_ray_torch_and_compilers() -> None:
    code = f"import sys; import raypt.run.config; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


@pytest.mark.parametrize("job", ["data_side", "tokenize", "status"])
def test_a_job_without_training_imports_no_torch(job: str) -> None:
    code = f"import sys; import raypt.run.{job}; print(*(m for m in ('torch', 'numba', 'scipy') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_a_task_that_decides_imports_neither_torch_nor_ray_data() -> None:
    code = "import sys; import raypt.curation.deciding; print(*(m for m in ('torch', 'ray.data') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
