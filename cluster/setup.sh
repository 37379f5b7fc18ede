#!/usr/bin/env bash
# Makes one machine ready for raypt: Python >= 3.11 with a C++ compiler, a virtual environment, raypt with its
# dependencies (Ray among them, so that its version is the same everywhere). Run again, it only brings it up to date.
#
#   RAYPT_VENV    where the environment is made (default ~/raypt-venv)
#   RAYPT_EXTRAS  extras of raypt, by commas (default s3)
#
# Used by aws.yaml, gcp.yaml, skypilot.yaml, the Dockerfile, and by hand on a Slurm cluster's shared disk.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${RAYPT_VENV:-$HOME/raypt-venv}
extras=${RAYPT_EXTRAS:-s3}

find_python() {
  local name
  for name in python3.13 python3.12 python3.11 python3; do
    if command -v "$name" > /dev/null && "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
      echo "$name"
      return
    fi
  done
  return 1
}

# Machines of a cloud: their first boot may still hold the package manager.
if command -v cloud-init > /dev/null; then cloud-init status --wait > /dev/null || true; fi
if ! find_python > /dev/null || ! command -v g++ > /dev/null; then
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  command -v apt-get > /dev/null || { echo "setup.sh: install Python >= 3.11 with venv, and g++" >&2; exit 1; }
  $sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 install python3-venv python3-dev g++
fi
python=$(find_python) || { echo "setup.sh: raypt needs Python >= 3.11 (Ubuntu 24.04, Debian 12); this is $(python3 --version)" >&2; exit 1; }

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "$here[$extras]"
"$venv/bin/raypt" --version
"$venv/bin/ray" --version
