"""Versions of installed packages, by the names under which they are installed."""

from importlib.metadata import PackageNotFoundError, version


def package_version(name: str) -> str | None:
    """Without what names a build (`+cu128`); None where the package is not installed."""
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return None
