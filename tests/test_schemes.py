"""Schemes of URIs: the missing package is named."""

import subprocess
import sys

import pytest
from fsspec.registry import known_implementations

from raypt.errors import UserError
from raypt.schemes import EXTRAS, check_scheme


def test_paths_and_known_schemes_pass() -> None:
    for uri in ("data/a:b.txt", "/x", "file:///x", "memory://x"):
        check_scheme(uri, "k")


MISSING = {
    "s3://b/x": ("s3fs", "pip install 'raypt[s3]'"),
    "s3a://b/x": ("s3fs", "pip install 'raypt[s3]'"),
    "gs://b/x": ("gcsfs", "pip install 'raypt[gcs]'"),
    "gcs://b/x": ("gcsfs", "pip install 'raypt[gcs]'"),
    "hf://datasets/a/b": ("huggingface_hub", "pip install 'raypt[hf]'"),
    "az://b/x": ("adlfs", "adlfs"),
    "abfs://b/x": ("adlfs", "adlfs"),
    "oss://b/x": ("ossfs", "ossfs"),
}
"""URI -> the module that reads it, and what the message must say to install."""


@pytest.mark.parametrize("uri", MISSING)
def test_a_missing_package_is_named(uri: str) -> None:
    module, install = MISSING[uri]
    code = f"import sys; sys.modules[{module!r}] = None; import raypt.schemes as s; s.check_scheme({uri!r}, 'k')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    scheme = uri.partition("://")[0]
    told = f"UserError: k: {scheme}:// needs a package that is not installed here: "
    said = next(line for line in done.stderr.splitlines() if told in line)
    assert install in said.partition(told)[2]


def test_every_extra_is_a_scheme_of_fsspec() -> None:
    assert known_implementations.keys() >= EXTRAS.keys()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UserError, match=r"run\.dir: s4://b/x: no file system is known by s4://"):
        check_scheme("s4://b/x", "run.dir")
