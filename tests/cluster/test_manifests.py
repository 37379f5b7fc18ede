"""The cluster files are what Ray's own launcher accepts."""

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]


def test_the_aws_cluster_passes_the_launchers_validation() -> None:
    config = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())
    validate_config(prepare_config(config))
    assert {"head", "cpu", "gpu"} == set(config["available_node_types"])


def test_the_kubernetes_cluster_names_the_ray_version_we_install() -> None:
    manifest = yaml.safe_load((ROOT / "cluster" / "kuberay.yaml").read_text())
    pinned = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if "ray[default" in line)
    assert manifest["spec"]["rayVersion"].rsplit(".", 1)[0] in pinned


def test_no_group_has_labels_among_its_start_parameters() -> None:
    """KubeRay's operator refuses them there from 1.5 on (its validation.go): they stand at the top of the group."""
    spec = yaml.safe_load((ROOT / "cluster" / "kuberay.yaml").read_text())["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert all("labels" not in group["rayStartParams"] for group in groups)
    assert [group["labels"] for group in spec["workerGroupSpecs"]] == [{"raypt/pool": "cpu"}, {"raypt/pool": "gpu"}]
