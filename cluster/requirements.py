"""Print what raypt depends on, one requirement a line: requirements.py pyproject.toml [EXTRA ...]."""

import sys
import tomllib
from pathlib import Path


def main(path: str, *extras: str) -> None:
    project = tomllib.loads(Path(path).read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    print("\n".join(wanted))


if __name__ == "__main__":
    main(*sys.argv[1:])
