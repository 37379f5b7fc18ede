"""The Kubernetes manifests: what the API server and KubeRay's operator take, and what they leave closed."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kubernetes_schema import KINDS, differences, problems
from tests.cluster.operator_rules import refusals
from tests.cluster.shell import exported

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster" / "kubernetes"
MANIFESTS = [
    pytest.param(manifest, id=f"{path.stem}-{manifest['kind']}-{manifest['metadata']['name']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]


def named(kind: str, name: str) -> dict[str, Any]:
    return next(
        copy.deepcopy(p.values[0])
        for p in MANIFESTS
        if (p.values[0]["kind"], p.values[0]["metadata"]["name"]) == (kind, name)
    )


def cluster() -> dict[str, Any]:
    return named("RayCluster", "raypt")


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_every_field_is_known_to_the_api_server_and_of_its_type(manifest: dict[str, Any]) -> None:
    assert problems(manifest) == []


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_the_types_written_here_are_those_of_the_operators_crds(kind: str) -> None:
    if not (folder := os.environ.get("RAYPT_KUBERAY_CRDS")):
        pytest.skip("no CRDs: RAYPT_KUBERAY_CRDS is a folder with the operator's ray.io_*.yaml")
    crd = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text())
    version = next(v for v in crd["spec"]["versions"] if v["name"] == "v1")
    of_spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert not list(differences(KINDS["ray.io/v1", kind]["spec"], of_spec, kind))


def test_another_type_than_a_crds_is_told() -> None:
    crd = {
        "type": "object",
        "properties": {
            "replicas": {"type": "integer"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "mode": {"type": "string", "enum": ["a", "b"]},
            "groups": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        },
    }
    same = {"replicas": "int", "labels": "dict(str, str)", "mode": ("a",), "groups": [{"name": "str"}]}
    assert not list(differences(same, crd, "spec"))
    other = {"replicas": "str", "labels": "dict(str, int)", "mode": ("c",), "groups": [{"nam": "str"}]}
    assert len(list(differences(other, crd, "spec"))) == 4


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("spec", "headGroupSpec", "label"), {}, "no such field"),
        (("spec", "autoscalerOptions", "version"), 2, "none of"),
        (("spec", "headGroupSpec", "rayStartParams"), {"num-cpus": 0}, "no str"),
        (("spec", "headGroupSpec", "template", "spec", "restart"), "Never", "no such field"),
        (("spec", "headGroupSpec", "template", "spec", "containers"), [{"image": "x"}], "name"),
    ],
)
def test_the_schema_sees_a_mistake(path: tuple[str, ...], value: Any, problem: str) -> None:
    broken = cluster()
    node = broken
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    assert any(problem in line for line in problems(broken))


@pytest.mark.parametrize("manifest", [p for p in MANIFESTS if p.values[0]["kind"] in ("RayCluster", "RayJob")])
def test_the_operator_refuses_nothing(manifest: dict[str, Any]) -> None:
    assert refusals(manifest) == []


BREAKS: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("labels stand", lambda s: s["workerGroupSpecs"][0]["rayStartParams"].update(labels="a=b")),
    ("both in rayStartParams", lambda s: s["workerGroupSpecs"][1].update(resources={"CPU": "1"})),
    ("restartPolicy", lambda s: s["headGroupSpec"]["template"]["spec"].update(restartPolicy="Always")),
    ("2.52.0", lambda s: s.update(rayVersion="2.51.0")),
    ("suspended", lambda s: s["workerGroupSpecs"][0].update(suspend=True)),
    ("Redis is named", lambda s: s["headGroupSpec"]["rayStartParams"].update({"redis-password": "x"})),
    ("no label", lambda s: s["workerGroupSpecs"][0].update(labels={"raypt/pool/x": "cpu"})),
]


@pytest.mark.parametrize(("reason", "break_it"), BREAKS, ids=[reason for reason, _ in BREAKS])
def test_the_rules_refuse_what_the_operator_refuses(reason: str, break_it: Callable[[dict[str, Any]], Any]) -> None:
    broken = cluster()
    break_it(broken["spec"])
    assert any(reason in line for line in refusals(broken))


def test_the_cluster_names_the_ray_version_we_install() -> None:
    pinned = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if "ray[default" in line)
    assert cluster()["spec"]["rayVersion"].rsplit(".", 1)[0] in pinned


def test_the_environment_is_that_of_the_shell_files() -> None:
    assert named("ConfigMap", "raypt-env")["data"] | {"RAY_AUTH_MODE": "token"} == exported()
    assert cluster()["spec"]["authOptions"] == {"mode": "token"}
    for group in groups(cluster()["spec"]):
        assert group["template"]["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": "raypt-env"}}]


def test_nothing_is_open_to_the_world() -> None:
    for manifest in (p.values[0] for p in MANIFESTS):
        assert manifest["kind"] != "Ingress"
        if manifest["kind"] == "Service":
            assert manifest["spec"].get("type", "ClusterIP") == "ClusterIP"
        if manifest["kind"] == "NetworkPolicy":
            rules = manifest["spec"]["ingress"]
            assert all(rule.get("from") for rule in rules)
            assert not any("ipBlock" in peer for rule in rules for peer in rule["from"])
    assert cluster()["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "enableIngress" not in cluster()["spec"]["headGroupSpec"]


def pods() -> list[dict[str, Any]]:
    templates = [group["template"] for group in groups(cluster()["spec"])]
    return [t["spec"] for t in (*templates, named("StatefulSet", "raypt-redis")["spec"]["template"])]


def test_no_container_is_root_or_can_become_it() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_workers_have_no_token_of_the_api_server_and_no_secret_is_written_out() -> None:
    assert all(
        g["template"]["spec"]["automountServiceAccountToken"] is False for g in cluster()["spec"]["workerGroupSpecs"]
    )
    assert all(p.values[0]["kind"] != "Secret" for p in MANIFESTS)
    assert "valueFrom" in cluster()["spec"]["gcsFaultToleranceOptions"]["redisPassword"]


def test_every_volume_that_is_mounted_is_there_and_memory_covers_shared_memory() -> None:
    for group in groups(cluster()["spec"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
            # Pages of a volume in memory count as the pod's: Ray's store may take 30 %, the rest is for work.
            assert int(volumes["shm"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) <= 0.33 * limit


def test_every_container_of_ray_says_how_it_is_and_liveness_outlasts_a_new_head() -> None:
    wait = float(exported()["RAY_gcs_rpc_server_reconnect_timeout_s"])
    for group in groups(cluster()["spec"]):
        container = group["template"]["spec"]["containers"][0]
        assert "local_raylet_healthz" in container["readinessProbe"]["exec"]["command"][-1]
        live = container["livenessProbe"]
        assert live["failureThreshold"] * live["periodSeconds"] >= wait


def test_the_job_runs_on_that_cluster_with_settings_that_raypt_knows() -> None:
    from raypt.config_io import load
    from raypt.run.config import RunConfig
    from tests.cluster.shell import job_of

    job = named("RayJob", "raypt-first")["spec"]
    assert job["clusterSelector"]["ray.io/cluster"] == cluster()["metadata"]["name"]
    overrides = job_of(job["entrypoint"])
    config = load(RunConfig, None, overrides)
    assert config.ray.autoscaling
    assert config.train.use_gpu
    head = cluster()["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    mounts = {mount["mountPath"] for mount in head["volumeMounts"]}
    assert "/" + config.run_uri.split("/")[1] in mounts
    labels = [group["labels"] for group in cluster()["spec"]["workerGroupSpecs"]]
    assert [dict(config.ray.labels), dict(config.train.labels)] == labels
