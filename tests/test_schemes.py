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


def test_a_missing_package_is_named() -> None:
    code = "import sys; sys.modules['s3fs'] = None; from raypt.schemes import check_scheme; check_scheme('s3://b', 'k')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "UserError: k: s3:// needs a package that is not installed here: pip install 'raypt[s3]'" in done.stderr


def test_every_extra_is_a_scheme_of_fsspec() -> None:
    assert known_implementations.keys() >= EXTRAS.keys()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UserError, match=r"run\.dir: s4://b/x: no file system is known by s4://"):
        check_scheme("s4://b/x", "run.dir")
