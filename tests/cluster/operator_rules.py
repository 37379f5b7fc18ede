"""What KubeRay's operator refuses though the API server took it: the rules of its validation (operator 1.5.1 to 1.6),
for what these manifests use. A refused cluster is not made, and says so in an event alone.
"""

import re
from collections.abc import Iterator
from typing import Any

MOST_NAME = {"RayCluster": 63 - len("-serve-svc") - 3, "RayJob": 47}
"""Characters: pods and services are named by adding to it, within DNS's 63. RayCluster's is kept below the operator's
own bound."""
MEASURED = ("num-cpus", "num-gpus", "memory", "resources")


def refusals(manifest: dict[str, Any]) -> list[str]:
    """One line for each reason that the operator would give."""
    kind, name, spec = manifest["kind"], manifest["metadata"]["name"], manifest["spec"]
    found = []
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > MOST_NAME[kind]:
        found.append(f"name {name!r} is no DNS label of at most {MOST_NAME[kind]} characters")
    if kind == "RayJob":
        return found + list(_job(spec))
    return found + list(_cluster(spec, manifest["metadata"].get("annotations", {})))


def _job(spec: dict[str, Any]) -> Iterator[str]:
    selector = spec.get("clusterSelector")
    if selector is None and "rayClusterSpec" not in spec:
        yield "one of rayClusterSpec and clusterSelector must be set"
    if selector is not None and not selector.get("ray.io/cluster"):
        yield "the selector names no cluster"
    if selector and spec.get("suspend"):
        yield "a job on a selected cluster cannot be suspended"
    if selector and spec.get("submissionMode") == "SidecarMode":
        yield "SidecarMode needs a cluster of its own"
    if spec.get("submissionMode") == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        yield "InteractiveMode does not retry"
    if not spec.get("shutdownAfterJobFinishes") and (spec.get("suspend") or spec.get("ttlSecondsAfterFinished", 0) > 0):
        yield "suspend and ttlSecondsAfterFinished need shutdownAfterJobFinishes"
    if spec.get("backoffLimit", 0) < 0 or spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "backoffLimit and activeDeadlineSeconds must be positive"
    if "rayClusterSpec" in spec:
        yield from _cluster(spec["rayClusterSpec"], {})


def _cluster(spec: dict[str, Any], annotations: dict[str, str]) -> Iterator[str]:
    head, workers = spec["headGroupSpec"], spec.get("workerGroupSpecs", [])
    for name, group in [("head", head), *((g["groupName"], g) for g in workers)]:
        params = group["rayStartParams"]
        if not group["template"]["spec"].get("containers"):
            yield f"{name}: no container"
        if "labels" in params:
            yield f"{name}: labels stand at the top of the group, not in rayStartParams"
        if group.get("resources") and any(params.get(key) for key in MEASURED):
            yield f"{name}: resources are both in rayStartParams and at the top of the group"
        for key, value in group.get("labels", {}).items():
            if not re.fullmatch(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", key):
                yield f"{name}: {key!r} is no label"
            if not re.fullmatch(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", value):
                yield f"{name}: {value!r} is no value of a label"
    environment = {entry["name"] for entry in head["template"]["spec"]["containers"][0].get("env", [])}
    tolerant = spec.get("gcsFaultToleranceOptions")
    if tolerant is not None:
        if annotations.get("ray.io/ft-enabled") or annotations.get("ray.io/external-storage-namespace"):
            yield "fault tolerance is set by annotations as well"
        if head["rayStartParams"].get("redis-password") or {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} & environment:
            yield "Redis is named outside of gcsFaultToleranceOptions"
    elif "RAY_REDIS_ADDRESS" in environment and not annotations.get("ray.io/ft-enabled"):
        yield "RAY_REDIS_ADDRESS without gcsFaultToleranceOptions"
    if head["rayStartParams"].get("redis-username") or "REDIS_USERNAME" in environment:
        yield "Redis' user is named outside of gcsFaultToleranceOptions"
    scaled = spec.get("enableInTreeAutoscaling", False)
    version = spec.get("autoscalerOptions", {}).get("version")
    if "RAY_enable_autoscaler_v2" in environment and (not scaled or version):
        yield "RAY_enable_autoscaler_v2 beside autoscalerOptions.version, or without an autoscaler"
    for name, group in [("head", head), *((g["groupName"], g) for g in workers)]:
        if scaled and group.get("suspend"):
            yield f"{name}: suspended under an autoscaler"
        if scaled and version == "v2" and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy must be Never with autoscaler v2"
    if spec.get("authOptions", {}).get("mode") == "token":
        numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", spec.get("rayVersion", ""))
        if numbers is None or tuple(map(int, numbers.groups())) < (2, 52, 0):
            yield "token authentication needs rayVersion 2.52.0 or later"
