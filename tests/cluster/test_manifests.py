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
