"""The nodes of a cluster are looked at before work starts: one that has another raypt, or does not see the run
directory, would show hours later, in some task, on some machine.
"""

import logging
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raypt import node_facts
from raypt.errors import UserError
from raypt.node_facts import Facts
from raypt.run.check import named_uris
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")

ANSWERS_WITHIN_S = 120.0
"""A node starts a worker and imports raypt: seconds, or more where it works already or reads its image from afar."""
SHOWN = 8
"""Nodes that are named; of more, the number is said."""


def check_nodes(config: RunConfig, run: RunDir) -> None:
    """Ask every node that is there for what it has (a task each, at once). Nodes that come later are not looked at.

    Raises:
        UserError: nodes that differ, each named with what it lacks.
    """
    own = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != own]
    if not others:
        return
    schemes = {uri.partition("://")[0]: uri for _, uri in named_uris(config) if "://" in uri}
    arguments = (run.config, tuple(schemes.values()), (*config.curation.packages(), *config.corpus.html.packages()))
    driver = node_facts.facts(*arguments)
    asked = {}
    for node in others:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        remote: Any = ray.remote(node_facts.facts).options(
            num_cpus=0, max_retries=0, scheduling_strategy=place, name="look at the node"
        )
        asked[remote.remote(*arguments)] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWERS_WITHIN_S)
    for ref in late:
        log.warning("%s did not say within %.0f s what it has", asked[ref], ANSWERS_WITHIN_S)
        ray.cancel(ref, force=True)
    found = sorted((asked[ref], said) for ref in ready if (said := _said(ref, driver)))
    if found:
        lines = "\n".join(f"  {name}: {'; '.join(said)}" for name, said in found[:SHOWN])
        more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(f"{len(found)} of {len(asked)} nodes cannot work on this run:\n{lines}{more}")
    log.info("nodes: %d, with the same raypt and Python, and run.dir in sight", len(ready) + 1)


def _said(ref: Any, driver: Facts) -> list[str]:
    try:
        node: Facts = ray.get(ref)
    except ray.exceptions.RayTaskError as e:
        return [f"raypt does not run there: {str(e.cause).strip().splitlines()[-1] if e.cause else e}"]
    except ray.exceptions.RayError as e:  # it went while it was asked
        log.warning("a node could not be asked: %s", e)
        return []
    return node_facts.problems(driver, node)
