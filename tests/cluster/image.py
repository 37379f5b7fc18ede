"""The image of cluster/Dockerfile: python -m tests.cluster.image [--builder-only] [--torch-index URL]

Where a builder is (`docker info` answers), the image is built, for CPUs alone, and `raypt --version` run in it. Else
its steps are executed here, but for those that change the system: the environment is made in an empty home, with all
that the image installs. Some minutes and 6 GB. `--builder-only`, as CI calls it: nothing is done without a builder.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.shell import CLUSTER

ROOT = CLUSTER.parent
TAG = "raypt:tried"
CPU = "https://download.pytorch.org/whl/cpu"
OF_THE_SYSTEM = ("apt-get", "userdel")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with what follows it."""
    text = (CLUSTER / "Dockerfile").read_text()
    joined = re.sub(r"\\\n(\s*#.*\n)*", " ", text)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines]


def builder() -> str | None:
    """docker, where its daemon answers."""
    if (docker := shutil.which("docker")) is None:
        return None
    asked = subprocess.run([docker, "info", "--format", "{{.ServerVersion}}"], capture_output=True, timeout=60)
    return None if asked.returncode else docker


def build(docker: str, torch_index: str) -> None:
    command = [
        docker,
        "build",
        "-f",
        str(CLUSTER / "Dockerfile"),
        "-t",
        TAG,
        "--build-arg",
        f"TORCH_INDEX={torch_index}",
    ]
    subprocess.run([*command, str(ROOT)], check=True)
    subprocess.run([docker, "run", "--rm", TAG, "raypt", "--version"], check=True)


def commands(home: Path) -> list[str]:
    """What the image's steps do that is not done to the system, with `home` as the user's home."""
    out: list[str] = []
    for kind, what in instructions():
        step = what.replace("/home/ray", str(home))
        if kind == "RUN" and not any(word in step for word in OF_THE_SYSTEM):
            out.append(step)
        elif kind == "ENV":
            out += [f"export {pair}" for pair in step.split() if not pair.startswith("NVIDIA")]
        elif kind == "ARG":
            name, _, default = step.partition("=")
            out.append(f': "${{{name}:={default}}}"')
        elif kind == "COPY":
            *names, target = [word for word in step.split() if not word.startswith("--")]
            there = " ".join(str(ROOT / name) for name in names if name != ".")
            whole = f"git -C {ROOT} ls-files -z | tar -C {ROOT} --null -T - -c | tar -x -C {target}"
            out.append(f"mkdir -p {target} && " + (f"cp {there} {target}" if there else whole))
    return out


def execute(home: Path, torch_index: str) -> None:
    script = "\n".join(["set -euxo pipefail", *commands(home), "raypt --version"])
    keep = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE")
    clean = {name: os.environ[name] for name in keep if name in os.environ}
    clean |= {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "TORCH_INDEX": torch_index}
    subprocess.run(["bash", "-c", script], cwd=home, env=clean, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--builder-only", action="store_true")
    parser.add_argument("--torch-index", default=CPU)
    arguments = parser.parse_args()
    if (docker := builder()) is not None:
        build(docker, arguments.torch_index)
    elif arguments.builder_only:
        print("no builder of images here: cluster/Dockerfile is not built")
    else:
        with tempfile.TemporaryDirectory(prefix="raypt-image-") as home:
            execute(Path(home), arguments.torch_index)
    return 0


if __name__ == "__main__":
    sys.exit(main())
