"""The files for `ray up`: what Ray's launcher takes, what the nodes would run, and what stays closed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.shell import CLUSTER, exported, job_of

CLOUDS = ("aws", "gcp")


def prepared(cloud: str) -> dict[str, Any]:
    config: dict[str, Any] = prepare_config(yaml.safe_load((CLUSTER / f"{cloud}.yaml").read_text()))
    return config


def commands(config: dict[str, Any]) -> list[str]:
    """All that a node is told to run, with what Ray's defaults add."""
    kinds = [key for key in config if key.endswith("_commands")]
    return [command for kind in kinds for command in config[kind]]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_cluster_passes_the_launchers_validation(cloud: str) -> None:
    config = prepared(cloud)
    validate_config(config)
    assert set(config["available_node_types"]) == {"head", "cpu", "gpu"}
    assert sum(t["max_workers"] for t in config["available_node_types"].values()) == config["max_workers"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_head_does_no_work_and_both_groups_start_from_nothing(cloud: str) -> None:
    types = prepared(cloud)["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert all(types[name]["min_workers"] == 0 for name in ("cpu", "gpu"))
    assert types["cpu"]["labels"] == {"raypt/pool": "cpu"}
    assert types["gpu"]["labels"] == {"raypt/pool": "gpu"}
    # What 8 workers and their readers take, and no room for a curation actor beside them on a 192-core machine.
    assert types["gpu"]["resources"] == {"CPU": 16, "GPU": 8}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nodes_use_the_environment_that_setup_makes_and_no_other_python(cloud: str) -> None:
    config = prepared(cloud)
    assert any("cluster/setup.sh" in command for command in config["setup_commands"])
    for command in commands(config):
        for program in re.findall(
            r"\S*\b(?:pip|ray|python)(?= )", re.sub(r"RAYPT_\w+=\S+|raypt-venv/bin:", "", command)
        ):
            assert program.startswith("~/raypt-venv/bin/"), command
    assert not docker_of(config)


def docker_of(config: dict[str, Any]) -> Any:
    return config.get("docker") or {}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_node_asks_for_the_token(cloud: str) -> None:
    config = prepared(cloud)
    home = "/home/ubuntu/.ray/auth_token"
    assert config["file_mounts"][home] == "~/.ray/auth_token"
    starts = [c for c in commands(config) if "ray start" in c]
    assert len(starts) == 2
    assert all(c.index("cluster/env.sh") < c.index("ray start") for c in starts)
    assert exported()["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_dashboard_listens_to_the_head_alone(cloud: str) -> None:
    head = next(c for c in prepared(cloud)["head_start_ray_commands"] if "ray start" in c)
    assert "--dashboard-host=127.0.0.1" in head


def test_aws_nodes_have_a_security_group_and_a_role_of_the_users() -> None:
    """Without them Ray makes a group that opens port 22 to 0.0.0.0/0, and a role with all of EC2 and S3."""
    for name, kind in prepared("aws")["available_node_types"].items():
        assert kind["node_config"]["SecurityGroupIds"], name
        assert kind["node_config"]["IamInstanceProfile"]["Name"] == ("raypt-head" if name == "head" else "raypt-node")
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_google_nodes_have_a_network_and_an_account_of_the_users() -> None:
    for name, kind in prepared("gcp")["available_node_types"].items():
        assert all("subnetwork" in n for n in kind["node_config"]["networkInterfaces"]), name
        account = kind["node_config"]["serviceAccounts"][0]
        assert account["email"].startswith("raypt-head@" if name == "head" else "raypt-node@")
        assert name == "head" or not any("cloud-platform" in scope for scope in account["scopes"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_command_in_the_files_head_is_one_that_raypt_takes(cloud: str) -> None:
    from raypt.config_io import load
    from raypt.run.config import RunConfig

    text = (CLUSTER / f"{cloud}.yaml").read_text()
    said = " ".join(line.lstrip("# ").rstrip("\\").rstrip() for line in text.splitlines() if line.startswith("#"))
    command = re.search(r"python (jobs/pretrain\.py .*?train\.labels=\{[^}]*\}')", said)
    assert command is not None
    config = load(RunConfig, None, job_of(command[1]))
    types = prepared(cloud)["available_node_types"]
    assert dict(config.ray.labels) == types["cpu"]["labels"]
    assert dict(config.train.labels) == types["gpu"]["labels"]


@pytest.mark.parametrize("role", ["aws-head", "aws-node"])
def test_roles_name_what_they_allow(role: str) -> None:
    policy = json.loads((CLUSTER / "iam" / f"{role}.json").read_text())
    for statement in policy["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions), statement["Sid"]
        reads = all(action.split(":")[1].startswith("Describe") for action in actions)  # these take no resource
        assert reads or statement["Resource"] != "*", statement["Sid"]
        if any(action in ("ec2:TerminateInstances", "iam:PassRole") for action in actions):
            assert "Condition" in statement, statement["Sid"]


def test_nodes_make_no_bucket_and_no_machine() -> None:
    policy = json.loads((CLUSTER / "iam" / "aws-node.json").read_text())
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert "s3:CreateBucket" not in actions
    assert all(action.startswith("s3:") for action in actions)


def test_files_that_are_named_are_there() -> None:
    for path in CLUSTER.rglob("*"):
        if path.suffix in (".yaml", ".sh", ".sbatch", ".md") or path.name == "Dockerfile":
            for name in re.findall(r"(?:\b|/)cluster/([\w./-]+\.(?:sh|yaml|sbatch|json|py|md))", path.read_text()):
                assert (CLUSTER / name).exists(), f"{path.name}: {name}"


def test_yaml_files_say_nothing_twice() -> None:
    """PyYAML takes the last of two equal keys in silence."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Strict, node: yaml.MappingNode) -> Any:
        keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
        loader.flatten_mapping(node)
        return loader.construct_mapping(node)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in Path(CLUSTER).rglob("*.yaml"):
        assert list(yaml.load_all(path.read_text(), Strict)), path
