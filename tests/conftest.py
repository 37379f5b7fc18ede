"""For all tests: what Ray may do, and the markers, which follow from where a test lies and what it starts.

`fast` is what has no other mark: without Ray, all of it in four minutes on two idle cores. A new test is fast
until it is named here; one that starts Ray in its own process without being named fails.
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import ray

# A stray call into Ray after a test has shut it down must fail. Ray would start a cluster for it instead, and end the
# whole process a minute after that cluster is gone.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # scipy's L-BFGS is 40 times slower with threads that spin
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Ray writes there which cluster is the machine's: that of another process of tests must not be joined. A socket's
    # path has 107 characters at most.
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="rt-")
    atexit.register(shutil.rmtree, os.environ["RAY_TMPDIR"], ignore_errors=True)

# The first example of a kernel pays for its compilation, and CI's cores are shared: time is no property of the code.
hypothesis.settings.register_profile("raypt", deadline=None)
hypothesis.settings.load_profile("raypt")

HERE = Path(__file__).parent

STARTS_RAY = {"local_ray", "cluster", "connected"}
"""Fixtures that start Ray or join it, wherever they are defined."""

PLACES = {
    # Drivers, jobs and clusters in processes of their own.
    "ray": (
        "jobs/",
        "parallel/server/test_asynchronous.py",
        "parallel/server/test_training.py",
        "run/planner/test_live.py",
        "tokens/stream/test_dataset_cluster.py",
        "training/on_ray/",
    ),
    # Processes are killed, or a raylet goes, while others work.
    "chaos": (
        "training/on_ray/test_chaos.py",
        "training/on_ray/test_elastic.py",
        "tokens/stream/test_dataset_cluster.py",
        "tokens/stream/test_order_on_cluster.py",
        "jobs/test_pretrain.py",
        "jobs/test_study.py",
    ),
    # Minutes, for a claim whose parts shorter tests hold: not in CI.
    "long": (
        "jobs/test_study.py",
        # A worker's and a driver's death, once each, are in on_ray/test_run.py.
        "training/on_ray/test_chaos.py",
    ),
    # Ten seconds and more without Ray: process groups under DeepSpeed, readers that die, studies of many documents.
    "slow": (
        "corpus/formats/test_tables.py",
        "curation/quality/test_train.py",
        "curation/rules/test_editing_rules.py",
        "curation/test_poison.py",
        "curation/test_readings.py",
        "bench/test_gpu.py",
        "fuzz/",
        "parallel/context/test_training.py",
        "parallel/local_sgd/test_training.py",
        "parallel/pipeline/test_training.py",
        "parallel/tensor/test_training.py",
        "parallel/test_comm_clock.py",
        "parallel/zero/exact/test_training.py",
        "parallel/zero/test_deepspeed_config.py",
        "parallel/zero/test_engine.py",
        "parallel/zero/test_gradients.py",
        "parallel/zero/test_muon.py",
        "parallel/zero/test_options.py",
        "run/planner/test_memory.py",
        "run/study/test_fit.py",
        "run/test_requests_s3.py",
        "tokens/stream/test_memory.py",
        "training/checkpoint/test_reshard.py",
        "training/checkpoint/test_saving.py",
        "training/test_afterwards.py",
        "training/test_engines.py",
        "training/test_worker.py",
    ),
}
"""Files and folders of tests by mark."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        marks = {mark for mark, places in PLACES.items() if place.startswith(places)}
        if STARTS_RAY & set(getattr(item, "fixturenames", ())):
            marks.add("ray")
            if place == "dedup/test_faults.py":
                marks.add("chaos")
        own = {mark.name for mark in item.iter_markers()}
        for mark in sorted(marks or ({"fast"} if not own & {"ray", "chaos", "slow"} else set())):
            item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """No fast test starts Ray in this process."""
    real = ray.init
    if item.get_closest_marker("fast"):

        def refuse(*args: object, **options: object) -> None:
            raise AssertionError("a fast test starts Ray: name its fixture or its file in tests/conftest.py")

        ray.init = refuse
    try:
        return (yield)
    finally:
        ray.init = real


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Iterator[None]:
    """Ends the process once all is told and written, without the interpreter's shutdown.

    Ray's and gRPC's threads outlive the clusters of a hundred tests, and after 72 minutes of passed tests the shutdown
    once ended in a segmentation fault, which is the command's exit status.
    """
    code = yield
    if not hasattr(config, "workerinput"):  # workers of xdist have more to tell
        ray.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code or 0))
    return code
