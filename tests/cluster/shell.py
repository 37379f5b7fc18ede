"""The shell files of cluster/, read by the shell itself."""

import shlex
import subprocess
from pathlib import Path

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"


def exported() -> dict[str, str]:
    """What cluster/env.sh adds to an empty environment."""
    done = subprocess.run(
        ["env", "-i", "bash", "--noprofile", "--norc", "-c", f"set -a; . {CLUSTER / 'env.sh'}; env -0"],
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = (entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    return {key: value for key, value in pairs if key not in ("PWD", "SHLVL", "_", "OLDPWD")}


def job_of(command: str) -> list[str]:
    """The overrides that a command line gives to `raypt pretrain` or jobs/pretrain.py."""
    words = shlex.split(command)
    start = max(i for i, word in enumerate(words) if word == "pretrain" or word.endswith("pretrain.py"))
    return [word for word in words[start + 1 :] if "=" in word and not word.startswith("-")]
