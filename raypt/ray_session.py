"""Reaching Ray: join the cluster the job was submitted to, or start one on this machine; and refuse one too small."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from pydantic import Field

from raypt.errors import Terminated, UserError
from raypt.node_waits import node_waits
from raypt.ray_dashboard import Dashboard, of_session
from raypt.ray_node import end_monitor, found_soon
from raypt.ray_output import HOOK, MARKS, RayOutput, aside
from raypt.settings import Settings

log = logging.getLogger("raypt")

QUIET = {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class RaySection(Settings):
    """How the job reaches Ray and what the data stages may use."""

    address: str | None = None
    """Cluster to join; null: that of RAY_ADDRESS (`ray job submit` sets it), else a Ray of its own on this machine."""
    num_cpus: int | None = Field(None, ge=1)
    """CPUs of the Ray that the job starts itself (null: all)."""
    dashboard: bool = True
    """Serve the dashboard when the job starts its own Ray."""
    autoscaling: bool = False
    """The cluster grows when asked: start though today's nodes are too few, and ask for more."""
    nodes_timeout_s: float | None = Field(1800.0, gt=0)
    """End the job, naming what it asked for, when nothing has run for so long for want of nodes; null: never."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray node labels (label selector) of the nodes that data stages run on, e.g. {"raypt/pool": "cpu"}: tasks,
    curation actors, and `tokens.stream` where it names none of its own."""
    actor_cpus: float = Field(1.0, gt=0)
    """CPUs each curation actor asks for."""
    min_actors: int = Field(1, ge=1)
    """Curation actors at the start of the stage."""
    max_actors: int | None = Field(None, ge=1)
    """Upper bound of the curation actor pool (null: as many as there are CPUs; with `autoscaling`, as many as there are
    shards: the cluster's own bound holds)."""


OWN = {
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Of the environment of a Ray that a job starts itself. A worker that has nothing to do waits for its next task instead
of being ended after a second (by Ray's default as soon as they are more than CPUs): a new one imports the same modules
again, 1-3 CPU seconds, between all stages. They end with the job. A raylet looks fifty times a second for its object
store, which a thread of it is just making: by default it looks again after a second, in one of two starts. And nobody
takes the one machine away with notice."""

SLOW = "timed out during startup"
"""What Ray says of itself then."""
STARTS = 3
T = TypeVar("T")


def token_hint() -> str:
    """What else to try where a cluster does not answer: Ray shows its token to an address that was given only if told
    to, and says of a cluster that wants one just that it cannot be reached.
    """
    return "" if "RAY_AUTH_MODE" in os.environ else "; where it wants a token (cluster/env.sh), set RAY_AUTH_MODE=token"


def patiently(start: Callable[[], T]) -> T:
    """Start Ray, once more where its processes were not there in the 30 s that it gives them: on a busy machine they
    are later the first time, when their files have to be read, than the second.
    """
    for _ in range(STARTS - 1):
        try:
            return start()
        except Exception as e:
            if SLOW not in str(e):
                raise
            log.warning("Ray has not started in its 30 s (a busy machine?): trying again")
    return start()


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These in the environment for the length of the block, but for those that a person has set there."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _address(config: RaySection) -> str:
    return config.address or os.environ.get("RAY_ADDRESS") or "local"


def is_own(config: RaySection) -> bool:
    """Whether the job starts a Ray of its own, on this machine."""
    return _address(config) == "local"


def _libraries() -> None:
    """What a driver needs of Ray Data and of numba: a second of imports."""
    import raypt.ray_loop  # noqa: F401
    from raypt.kernels import load_compiler

    load_compiler()


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Have a thread do it while the block waits for others; it is done when the block has ended without an error."""
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def session(config: RaySection) -> Iterator[None]:
    """Ray for the length of a job. SIGTERM does what it did before, though Ray would have it end the process."""
    import ray  # here: a configuration is read without it

    from raypt.tasks import Placement, placed

    for key, value in {**QUIET, MARKS: "1"}.items():
        os.environ.setdefault(key, value)
    address = _address(config)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    dashboard = Dashboard()
    with aside() as output, environment(OWN if is_own(config) else {}):
        try:
            with beside(_libraries):
                if is_own(config):
                    # Its processes have this one's environment: see `MARKS` for why not a runtime_env.
                    with dashboard.held(), found_soon():
                        patiently(
                            lambda: ray.init(
                                address="local",
                                num_cpus=config.num_cpus,
                                include_dashboard=config.dashboard,
                                log_to_driver=True,
                                logging_level=logging.WARNING,
                            )
                        )
                    dashboard.start()
                else:
                    env_vars = {key: os.environ[key] for key in QUIET}
                    runtime_env = {"env_vars": env_vars, "worker_process_setup_hook": HOOK}
                    context = ray.init(address=address, runtime_env=runtime_env, logging_level=logging.WARNING)
                    if context.dashboard_url:
                        log.info("Ray's dashboard: http://%s", context.dashboard_url)
        except ConnectionError as e:
            raise UserError(
                f"ray.address={address}: no Ray cluster answers there ({e}); start one with `ray start --head`, "
                f"or leave ray.address unset to use this machine{token_hint()}"
            ) from None
        except SystemExit as e:  # Ray's own handler, while it starts
            raise Terminated("SIGTERM") from e
        finally:
            if threading.current_thread() is threading.main_thread() and on_sigterm is not None:
                signal.signal(signal.SIGTERM, on_sigterm)
        try:
            _set_up_ray_data(output)
            placement = Placement(config.labels, config.autoscaling)
            with output.sort(), placed(placement), node_waits(config.nodes_timeout_s), of_session(dashboard):
                log.info("what Ray prints: %s", output.path)
                yield
        finally:
            with dashboard.ended():
                if is_own(config):
                    end_monitor()
                ray.shutdown()


def _set_up_ray_data(output: RayOutput) -> None:
    import ray.data

    from raypt.ray_loop import rest_when_idle

    # Its progress tables repeat what raypt's own progress lines say.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rest_when_idle(ray.data.DataContext.get_current())
    output.take_over(logging.getLogger("ray.data"))


def check_capacity(needs: dict[str, float], gpus: float, *, autoscaling: bool) -> None:
    """Refuse a cluster on which the job would wait for ever.

    Args:
        needs: CPUs that must be free at the same time, by what they are for.
        gpus: GPUs that must be free at the same time.
        autoscaling: the cluster can grow: what is there now says nothing.

    Raises:
        UserError: the cluster's CPUs or GPUs are fewer than that.
    """
    import ray

    have = ray.cluster_resources()
    total = sum(needs.values())
    log.info("cluster: %g CPUs, %g GPUs", have.get("CPU", 0), have.get("GPU", 0))
    if autoscaling:
        return
    if have.get("CPU", 0) + 1e-9 < total:
        parts = ", ".join(f"{what} {cpus:g}" for what, cpus in needs.items())
        raise UserError(
            f"the cluster has {have.get('CPU', 0):g} CPUs, but {total:g} must be free at once: {parts}. Without them "
            "the job would wait for ever. Add nodes, or lower train.workers, train.cpus_per_worker or "
            "tokens.stream.tokenizer_cpus, or set ray.autoscaling=true if the cluster will grow"
        )
    if have.get("GPU", 0) < gpus:
        raise UserError(
            f"train.use_gpu asks for {gpus:g} GPUs, the cluster has {have.get('GPU', 0):g}: add GPU nodes, lower "
            "train.workers, or set ray.autoscaling=true if the cluster will grow"
        )
